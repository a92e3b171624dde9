from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, SecretStr, model_validator

from app.mapping import Problem, format_problem
from app.mapping.expression import Expression
from app.mapping.fields import Constant
from app.mapping.parse import Parsed, parse_config
from app.mapping.provider import ProviderSettings
from app.mapping.rules import Config, Store
from app.mapping.template import Templates

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "config"
FAULTS = sorted(path for path in CORPUS.glob("*.yaml") if path.name != "templates.yaml")


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: path.stem)
def test_every_mistake_gives_its_own_line_and_nothing_else(path: Path, parse: Callable[..., Parsed]) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    expected = re.fullmatch(r"# expect: (?:ok|(\d+):(\d+) (error|warning) (.+))", first)
    assert expected is not None, first
    parsed = parse(text)
    if expected[1] is None:
        assert parsed.problems == ()
        return
    (problem,) = parsed.problems
    assert (problem.line, problem.column, problem.severity) == (int(expected[1]), int(expected[2]), expected[3])
    assert expected[4] in problem.message
    assert (parsed.config is None) == (problem.severity == "error")


def test_the_corpus_holds_faults_doubts_and_good_files() -> None:
    assert len(FAULTS) >= 45
    assert {"ok", "warn"} <= {path.stem.partition("-")[0] for path in FAULTS}


def test_all_mistakes_of_a_file_are_told_at_once(parse: Callable[..., Parsed]) -> None:
    text = """version: 2
colour: blue
store: {country: Atlantis, timezone: Mars/Base}
providers:
  gallabox: {type: gallabox, api_key: written-out, chanel_id: x}
  other: {type: nothing}
routes:
  one: {event: walletreward_create, provider: gallabx, template: t, when: amount >}
  two: {event: walletreward_create, provider: gallabox, temlate: t, valid_for: soon, variables: [a | uper, b()]}
  two: {event: coupon_create}
"""
    parsed = parse(text)
    assert parsed.config is None
    assert [(problem.line, problem.column) for problem in parsed.problems] == [
        (1, 10),  # version
        (2, 1),  # colour
        (3, 18),  # country
        (3, 38),  # timezone
        (5, 3),  # api_secret is missing
        (5, 39),  # api_key
        (5, 52),  # chanel_id
        (6, 17),  # type
        (8, 47),  # gallabx
        (8, 75),  # when
        (9, 57),  # temlate
        (9, 80),  # valid_for
        (9, 98),  # uper
        (9, 108),  # b()
        (10, 3),  # two, again
    ]


def test_a_problem_is_shown_as_file_line_and_column() -> None:
    problem = Problem("error", 41, 12, 'unknown key "temlate" in route "coins-earned"', 'did you mean "template"?')
    assert format_problem("config/relay.yaml", problem) == (
        'config/relay.yaml:41:12: error: unknown key "temlate" in route "coins-earned"; did you mean "template"?'
    )
    assert format_problem("x", Problem("warning", 1, 2, "no hint")) == "x:1:2: warning: no hint"


def test_what_is_refused_where_it_stands_is_told_once(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    refused = parse("version: 1\nproviders:\n  a: *x\nroutes:\n  b: *y\n").problems
    assert [(problem.line, problem.column) for problem in refused] == [(3, 6), (5, 6)]
    empty = parse(with_route("provider: gallabox, template: coins_earned, header: {image: , filename: a}")).problems
    assert '"image" has no value in route "a"' in [problem.message for problem in empty]


@pytest.mark.untraced
@pytest.mark.parametrize("first", range(4))
def test_no_cut_or_damaged_file_raises(parse: Callable[..., Parsed], first: int) -> None:
    text = (ROOT / "config" / "relay.yaml").read_text(encoding="utf-8")
    cut = [text[:end] for end in range(0, len(text), 50)]
    dropped = [text[:at] + text[at + 7 :] for at in range(0, len(text), 311)]
    for damaged in (cut + dropped)[first::4]:
        parsed = parse(damaged)
        assert (parsed.config is None) == any(problem.severity == "error" for problem in parsed.problems)


@pytest.mark.parametrize(
    "value", ["null", "[]", "{}", "7", "text", "true", ".nan", "[[]]", "{a: {b: []}}", "${A}", "-0.0"]
)
def test_any_value_anywhere_is_a_problem_and_not_a_crash(value: str, parse: Callable[..., Parsed]) -> None:
    keys = ["version", "mode", "store", "providers", "defaults", "routes"]
    entries = [f"routes:\n  a:\n    {key}: {value}\n" for key in _ROUTE_KEYS]
    examples = [f"routes:\n  a:\n    examples:\n      - {key}: {value}\n" for key in ("event", "sends", "hits", "dead")]
    providers = [f"providers:\n  a:\n    type: http\n    {key}: {value}\n" for key in ("body", "headers", "accepted")]
    for text in [f"{key}: {value}\n" for key in keys] + entries + examples + providers:
        assert parse(f"version: 1\n{text}").config is None


_ROUTE_KEYS = ("event", "provider", "template", "variables", "when", "header", "buttons", "live_from", "examples")


SECRETS = """version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: [canary-channel]
    api_key: canary-key
    api_secret: ${KEY:-canary-default}
    webhook_secret: {nested: canary-nested}
    base_url: http://canary-user:canary-password@canary-host.example
    rate: canary-rate
  http:
    type: http
    base_url: ${WRONG}
    headers: {x-api-key: canary-header, apiKey: [canary-list], X-Auth-Token: 20261231}
    body: {token: canary-body, password: $password}
routes: {}
"""


def test_no_value_of_a_provider_reaches_a_problem(parse: Callable[..., Parsed]) -> None:
    parsed = parse(SECRETS, {"WRONG": "canary-environment"})
    shown = "\n".join(format_problem("x", problem) for problem in parsed.problems)
    assert "canary" not in shown
    assert "20261231" not in shown
    secrets = [problem.line for problem in parsed.problems if "a secret must come" in problem.message]
    assert secrets == [6, 7, 14, 14, 14, 15]


def test_a_secret_in_the_environment_does_not_reach_the_hash(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
    yaml_environment: Mapping[str, str],
) -> None:
    text = with_route("provider: bitespeed, template: t")
    one = config_of(parse(text))
    other = config_of(parse(text, {**yaml_environment, "GALLABOX_API_KEY": "another"}))
    assert one.hash == other.hash
    assert re.fullmatch("[0-9a-f]{12}", one.hash)


def test_the_hash_follows_the_text_and_the_templates(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
    corpus_templates: Templates,
) -> None:
    text = with_route("provider: bitespeed, template: t")
    templates = dict(corpus_templates)
    key = ("gallabox", "coins_earned")
    changed = {**templates, key: dataclasses.replace(templates[key], footer="new")}
    hashes = {config_of(parsed).hash for parsed in (parse(text), parse(text + "# \n"), parse(text, templates=changed))}
    assert len(hashes) == 3
    reordered = dict(reversed(templates.items()))
    assert config_of(parse(text, templates=reordered)).hash == config_of(parse(text)).hash


class NamedSettings(ProviderSettings):
    named_variables: ClassVar[bool] = True

    type: Literal["named"]
    key: SecretStr = SecretStr("")
    words: tuple[str, ...] = ()
    short: Annotated[str, Field(max_length=3)] = ""

    @model_validator(mode="after")
    def _check(self) -> NamedSettings:
        if self.words == ("bad",):
            raise ValueError("these words do not go together; choose others")
        return self


def parse_named(entry: str) -> Parsed:
    return parse_config(
        f"version: 1\nproviders:\n  p: {entry}\nroutes:\n  r: {{event: lead_create, provider: p, template: t}}\n",
        environment={},
        provider_types={"named": NamedSettings},
        templates={},
    )


def test_a_provider_s_settings_are_typed_and_read_as_units(config_of: Callable[[Parsed], Config]) -> None:
    config = config_of(parse_named("{type: named, rate: 90/min, timeout: 2s, concurrency: 1000, words: [a, b]}"))
    settings = config.providers["p"]
    assert isinstance(settings, NamedSettings)
    assert (settings.rate_per_s, settings.timeout_ms, settings.concurrency) == (1.5, 2_000, 1_000)
    assert (settings.treat_500_as, settings.words) == ("retry", ("a", "b"))
    assert config_of(parse_named("{type: named}")).providers["p"].rate_per_s == 16


def test_a_fault_between_a_provider_s_keys_stands_at_the_provider() -> None:
    (problem,) = parse_named("{type: named, words: [bad]}").problems
    assert (problem.line, problem.message) == (3, '"p": these words do not go together')
    assert problem.hint == "choose others"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{type: named, words: [1]}", '"words" item 1 must be a text'),
        ("{type: named, words: x}", '"words" must be a list'),
        ("{type: 7}", '"type" must be a text'),
        ("[]", 'provider "p" must be a mapping'),
        ("{type: named, concurrency: 0}", '"concurrency" is out of range: at least 1'),
        ("{type: named, concurrency: 1.5}", '"concurrency" must be a whole number'),
        ("{type: named, key: 5}", '"key" must be a text'),
        ("{type: named, short: toolong}", '"short" is not valid in provider "p"'),
    ],
)
def test_a_provider_s_faults_are_in_our_words(entry: str, message: str) -> None:
    (problem,) = parse_named(entry).problems
    assert problem.message == message


def test_only_an_unset_variable_in_the_way_still_gives_a_provider_for_the_examples(
    config_of: Callable[[Parsed], Config],
) -> None:
    parsed = parse_named("{type: named, concurrency: '${N}'}")
    assert [problem.unset for problem in parsed.problems] == [True]
    assert config_of(parsed).providers["p"].concurrency == 64


def test_the_store_is_canonical(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    text = with_route(
        "provider: bitespeed, template: t", "store: {country: are, timezone: Asia/Dubai, locale: en_AE}\n"
    )
    assert config_of(parse(text)).store == Store(country="AE", timezone="Asia/Dubai", locale="en_AE")
    assert config_of(parse(with_route("provider: bitespeed, template: t"))).store == Store(
        country="IN", timezone="Asia/Kolkata", locale="en_IN"
    )


def test_the_mode_of_the_file_arrives(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t")
    assert config_of(parse(text)).mode == "live"
    assert config_of(parse(text.replace("version: 1", "version: 1\nmode: shadow"))).mode == "shadow"


def test_a_type_without_a_url_has_no_address() -> None:
    assert ProviderSettings(type="test").address == ""


def test_a_store_may_name_its_own_stop_words(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t", "store: {stop_words: [band karo, बंद करो]}\n")
    assert config_of(parse(text)).store.stop_words == ("band karo", "बंद करो")
    assert config_of(parse(text)).store.start_lifts
    text = text.replace("stop_words:", "start_lifts: false, stop_words:")
    assert not config_of(parse(text)).store.start_lifts


@pytest.mark.parametrize("words", ['["!!"]', '[""]', f"[{'x' * 61}]", "[5]", "band karo"])
def test_what_nobody_could_reply_is_no_stop_word(
    parse: Callable[..., Parsed], with_route: Callable[..., str], words: str
) -> None:
    parsed = parse(with_route("provider: bitespeed, template: t", f"store: {{stop_words: {words}}}\n"))
    (problem,) = parsed.problems
    assert "stop_words" in problem.message


ROUTE = "provider: bitespeed, template: t, variables: [a], "


@pytest.mark.parametrize(
    ("recipient", "number", "country"),
    [
        ("customer.phone", "customer.phone", None),
        ("{number: customer.phone}", "customer.phone", None),
        ("{number: customer.phone, country: customer.cc}", "customer.phone", "customer.cc"),
        ("{country: customer.cc}", None, "customer.cc"),
        ("{number: customer.phone, country: {text: UAE}}", "customer.phone", Constant(text="UAE")),
    ],
)
def test_a_recipient_may_have_its_country(
    parse: Callable[..., Parsed],
    with_route: Callable[..., str],
    config_of: Callable[[Parsed], Config],
    recipient: str,
    number: str | None,
    country: str | Constant | None,
) -> None:
    route, *_ = config_of(parse(with_route(f"{ROUTE}recipient: {recipient}"))).routes
    found = route.recipient
    assert (found.number and found.number.source) == number
    assert (found.country.source if isinstance(found.country, Expression) else found.country) == country


@pytest.mark.parametrize(
    ("recipient", "told"),
    [
        ("[a]", "must be an expression, or {number: …, country: …}"),
        ("{number: a, state: b}", 'unknown key "state"'),
        ("{number: a, country: {text: Bharat}}", "unknown country"),
        ("{number: a |}", "the expression ends too early"),
        ("{number: a, country: b |}", "the expression ends too early"),
    ],
)
def test_a_recipient_that_is_none_is_told(
    parse: Callable[..., Parsed], with_route: Callable[..., str], recipient: str, told: str
) -> None:
    (problem,) = parse(with_route(f"{ROUTE}recipient: {recipient}")).problems
    assert (problem.severity, told in problem.message) == ("error", True), problem


def test_a_store_may_allow_landlines_and_say_when_a_day_ends(
    parse: Callable[..., Parsed], with_route: Callable[..., str], config_of: Callable[[Parsed], Config]
) -> None:
    store = config_of(parse(with_route(ROUTE, 'store: {landlines: allow, day_ends: "22:00"}\n'))).store
    assert (store.landlines, store.day_ends) == (True, "22:00")
    usual = config_of(parse(with_route(ROUTE))).store
    assert (usual.landlines, usual.day_ends) == (False, "")


@pytest.mark.parametrize("ends", ["25:00", "0:00", "00:00", "noon", "24:30"])
def test_a_day_that_ends_at_no_time_is_told(
    parse: Callable[..., Parsed], with_route: Callable[..., str], ends: str
) -> None:
    (problem,) = parse(with_route(ROUTE, f'store: {{day_ends: "{ends}"}}\n')).problems
    assert "must be a time of day" in problem.message


def test_chosen_numbers_are_known_by_both_forms(
    parse: Callable[..., Parsed], with_route: Callable[..., str], config_of: Callable[[Parsed], Config]
) -> None:
    config = config_of(parse(with_route(f'{ROUTE}only: ["+541123456789"]', 'only: ["+5215512345678"]\n')))
    assert (config.only, config.routes[0].only) == (frozenset({"+525512345678"}), frozenset({"+5491123456789"}))


@pytest.mark.parametrize("pattern", ["dd/mm/yyyy", "dd/MM", ""])
def test_a_pattern_to_read_dates_by_is_tried_before_a_customers_date(
    parse: Callable[..., Parsed], with_route: Callable[..., str], pattern: str
) -> None:
    text = with_route(f"""{ROUTE}valid_until: 'expire | date("y", from="{pattern}")'""")
    (problem,) = [problem for problem in parse(text).problems if problem.severity == "error"]
    assert "a date is read by day, month and year" in problem.message


def test_a_type_that_says_nothing_has_no_address_and_nothing_doubtful() -> None:
    settings = ProviderSettings(type="x")
    assert (settings.address, settings.is_guessed, settings.list_doubts()) == ("", False, ())
