from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.mapping.expression import Expression
from app.mapping.fields import Constant
from app.mapping.parse import Parsed
from app.mapping.rules import Route
from app.mapping.template_entries import parse_templates

ROOT = Path(__file__).parents[2]


def source_of(expression: Any) -> str:
    assert isinstance(expression, Expression)
    return expression.source


def test_every_key_of_a_route_arrives(route_of: Callable[..., Route], with_route: Callable[..., str]) -> None:
    route = route_of(
        with_route(
            "provider: bitespeed, template: t, variables: [a, {text: b}], when: c, recipient: d, language: hi,"
            " header: {document: e, filename: {text: f}}, buttons: [{index: 1, url: g}, {index: 0, url: {text: h}}],"
            " valid_for: 2h, valid_until: i, dedup_by: j, on_unknown: resend, mode: shadow, priority: 7,"
            " live_from: 1970-01-01T00:00:01Z, examples: [{event: {a: 1.50}, dead: duplicate}]"
        )
    )
    assert (route.topic, route.provider, route.template, route.language) == ("coupon_create", "bitespeed", "t", "hi")
    assert [variable.name for variable in route.variables] == [None, None]
    assert source_of(route.variables[0].source) == "a"
    assert route.variables[1].source == Constant(text="b")
    assert [source_of(one) for one in (route.when, route.recipient.number, route.valid_until, route.dedup_by)] == list(
        "cdij"
    )
    assert route.header is not None
    assert (route.header.kind, source_of(route.header.document), route.header.filename) == (
        "document",
        "e",
        Constant(text="f"),
    )
    assert [(button.index, button.source) for button in route.buttons][1] == (0, Constant(text="h"))
    assert (route.buttons[0].index, source_of(route.buttons[0].source)) == (1, "g")
    assert (route.valid_for, route.on_unknown, route.mode, route.priority) == (7_200_000, "resend", "shadow", 7)
    assert route.live_from == 1_000
    (example,) = route.examples
    assert (example.dead, example.hits, example.sends) == ("duplicate", True, None)
    assert str(example.event["a"]) == "1.50"
    assert (route.line, route.column, example.line) == (14, 3, 14)


def test_a_bare_route_has_the_defaults_of_the_contract(
    route_of: Callable[..., Route], with_route: Callable[..., str]
) -> None:
    route = route_of(with_route("provider: bitespeed, template: t"))
    keys: dict[str, Any] = {"event": "coupon_create", "provider": "bitespeed", "template": "t"}
    assert route == Route.model_construct(name="a", line=14, column=3, **keys)


@pytest.mark.parametrize("kind", ["image", "video", "text"])
def test_each_kind_of_header_is_read(kind: str, route_of: Callable[..., Route], with_route: Callable[..., str]) -> None:
    route = route_of(with_route(f"provider: bitespeed, template: t, header: {{{kind}: {{text: x}}}}"))
    assert route.header is not None
    assert (route.header.kind, getattr(route.header, kind), route.header.filename) == (kind, Constant(text="x"), None)


def test_a_route_s_own_key_wins_over_the_default(
    route_of: Callable[..., Route], with_route: Callable[..., str]
) -> None:
    defaults = "defaults: {provider: gallabox, priority: 3, on_unknown: resend, valid_for: 1h, recipient: mobile}\n"
    route = route_of(with_route("provider: bitespeed, template: t, priority: 0, valid_for: 2h", defaults))
    assert (route.provider, route.priority, route.on_unknown, route.valid_for) == (
        "bitespeed",
        0,
        "resend",
        7_200_000,
    )
    assert source_of(route.recipient.number) == "mobile"


def test_a_fault_in_defaults_is_told_once_and_the_rest_still_counts(
    parse: Callable[..., Parsed], providers_text: str
) -> None:
    parsed = parse(
        f"{providers_text}defaults: {{valid_for: x, provider: gallabox}}\n"
        "routes:\n  a: {event: lead_create, template: t, mode: x}\n"
    )
    assert [problem.line for problem in parsed.problems] == [13, 15, 15]  # and the template is not in templates.yaml


@pytest.mark.parametrize(
    ("template", "variables", "names"),
    [
        ("coins_earned", "[user_name, amount]", ["name", "coins"]),
        ("coins_earned", "{coins: amount, name: user_name}", ["name", "coins"]),
        ("not_known", "[user_name, amount]", ["1", "2"]),
        ("not_known", "{z: user_name, a: amount}", ["z", "a"]),
    ],
)
def test_a_provider_that_wants_names_gets_those_of_the_template(
    template: str, variables: str, names: list[str], route_of: Callable[..., Route], with_route: Callable[..., str]
) -> None:
    route = route_of(with_route(f"provider: gallabox, template: {template}, variables: {variables}"))
    assert [variable.name for variable in route.variables] == names


def test_a_provider_that_counts_gets_no_names_but_those_of_a_map_in_the_template_s_order(
    route_of: Callable[..., Route], with_route: Callable[..., str]
) -> None:
    body = 'version: 1\ntemplates: {bitespeed: {t: {variables: ["1", "2"], body: "Hi {{1}}: {{2}}."}}}\n'
    templates = parse_templates(body).templates
    text = with_route('provider: bitespeed, template: t, variables: {"2": b, "1": a}')
    route = route_of(text.replace("template: t}", "template: other}"), templates=templates)
    assert [(variable.name, source_of(variable.source)) for variable in route.variables] == [("1", "a"), ("2", "b")]


def test_topics_are_canonical(route_of: Callable[..., Route], with_route: Callable[..., str]) -> None:
    assert route_of(
        with_route("provider: bitespeed, template: t").replace("coupon_create", "Coupon Is Created")
    ).topic == ("coupon_create")
