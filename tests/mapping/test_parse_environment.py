from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.mapping.fields import Constant
from app.mapping.parse import Parsed
from app.mapping.provider import is_secret_key
from app.mapping.rules import Config, Route

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("written", "environment", "text"),
    [
        ("${NAME}", {"NAME": "value"}, "value"),
        ("a-${NAME}-${OTHER:-x}-b", {"NAME": "value"}, "a-value-x-b"),
        ("${NAME:-fallback}", {}, "fallback"),
        ("${NAME:-fallback}", {"NAME": ""}, "fallback"),
        ("${NAME:-fallback}", {"NAME": "value"}, "value"),
        ("$${NAME}", {"NAME": "value"}, "${NAME}"),
        ("$NAME {NAME}", {"NAME": "value"}, "$NAME {NAME}"),
        ("${NAME}", {"NAME": "${NAME}: [1, 2]\nroutes: {}"}, "${NAME}: [1, 2]\nroutes: {}"),
        ("${NAME}", {"NAME": "half \udcff"}, "half ?"),
    ],
)
def test_a_reference_is_filled_as_a_value(
    written: str,
    environment: Mapping[str, str],
    text: str,
    route_of: Callable[..., Route],
    with_route: Callable[..., str],
    yaml_environment: Mapping[str, str],
) -> None:
    route = route_of(
        with_route(f'provider: bitespeed, template: t, variables: [{{text: "{written}"}}]'),
        environment={**yaml_environment, **environment},
    )
    assert [variable.source for variable in route.variables] == [Constant(text=text)]


def test_an_unset_variable_is_a_warning_that_says_so(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    parsed = parse(with_route('provider: bitespeed, template: "${TEMPLATE}"'))
    (problem,) = parsed.problems
    assert (problem.severity, problem.unset) == ("warning", True)
    assert "TEMPLATE is not set" in problem.message
    assert config_of(parsed).routes[0].template == "${TEMPLATE}"


def test_a_misspelt_variable_is_told_the_name_there_is(
    parse: Callable[..., Parsed], yaml_environment: Mapping[str, str], with_route: Callable[..., str]
) -> None:
    name = "GALLABOX_API_KEY"
    environment = {**yaml_environment, name: "a secret of nobody", "PATH": "/bin"}
    text = with_route("provider: bitespeed, template: t").replace(f"${{{name}}}", "${GALLABOX_APIKEY}")
    (problem,) = parse(text, environment=environment).problems
    assert (problem.severity, problem.unset) == ("warning", True)
    assert problem.hint == f'did you mean "{name}"?'


def test_a_name_that_is_right_elsewhere_or_empty_is_not_what_was_meant(
    parse: Callable[..., Parsed], yaml_environment: Mapping[str, str], with_route: Callable[..., str]
) -> None:
    environment = {**yaml_environment, "GALLABOX_API_KEY": ""}
    assert "GALLABOX_API_SECRET" in environment
    (problem,) = parse(with_route("provider: bitespeed, template: t"), environment=environment).problems
    assert (problem.message, problem.hint) == ("the environment variable GALLABOX_API_KEY is not set", "")


def test_what_an_unset_variable_leaves_wrong_is_not_told_as_well(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    parsed = parse(with_route('provider: bitespeed, template: t, valid_for: "${HOURS}", when: "${WHEN}"'))
    assert [problem.unset for problem in parsed.problems] == [True, True]
    assert config_of(parsed).routes[0].valid_for == 86_400_000


def test_an_unset_variable_in_what_a_route_needs_leaves_the_route_out(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    parsed = parse(with_route('provider: "${PROVIDER}", template: t'))
    assert [problem.unset for problem in parsed.problems] == [True]
    assert [route.name for route in config_of(parsed).routes] == ["uses-gallabox", "uses-bitespeed"]


def test_an_unset_type_or_provider_is_only_unset(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config]
) -> None:
    text = (
        "version: 1\nproviders:\n  p: {type: '${TYPE}'}\nroutes:\n  r: {event: lead_create, provider: p, template: t}\n"
    )
    parsed = parse(text)
    assert [problem.unset for problem in parsed.problems] == [True]
    assert config_of(parsed).providers == {}


def test_the_environment_cannot_add_keys(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
    yaml_environment: Mapping[str, str],
) -> None:
    parsed = parse(
        with_route('provider: bitespeed, template: "${T}"'), {**yaml_environment, "T": "x\n    mode: shadow"}
    )
    assert config_of(parsed).routes[0].mode == "live"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('""', "must be printable ASCII without line breaks"),
        ("", '"api_key" has no value'),
        ("true", '"api_key" must be a text'),
        ("false", '"api_key" must be a text'),
        ("0x", "a secret must come from the environment"),
        ("Bearer ${NAME:-}", None),
        ("$${NAME}", "a secret must come from the environment"),
        ("$NAME", "a secret must come from the environment"),
    ],
)
def test_a_secret_is_a_reference_or_told(
    value: str, message: str | None, parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t").replace("${GALLABOX_API_KEY}", value)
    told = [problem.message for problem in parse(text).problems]
    assert len(told) == (message is not None)
    assert all(message is not None and message in one for one in told)


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("api_key", True),
        ("apiKey", True),
        ("X-Api-Key", True),
        ("api_secret", True),
        ("webhook_token", True),
        ("authorization", True),
        ("Proxy-Authorization", True),
        ("api_access_token", True),
        ("password", True),
        ("channel_id", False),
        ("tokens_per_day", False),
        ("key", False),
        ("base_url", False),
    ],
)
def test_a_secret_is_known_by_its_key(key: str, is_secret: bool) -> None:
    assert is_secret_key(("providers", "my-token", key, 0)) is is_secret
    assert not is_secret_key((0,))
