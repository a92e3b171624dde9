from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.mapping.expression import Expression
from app.mapping.fields import Constant
from app.mapping.parse import Parsed
from app.mapping.rules import Config

ROOT = Path(__file__).parents[2]


def source_of(expression: Any) -> str:
    assert isinstance(expression, Expression)
    return expression.source


def test_the_bundled_file_has_no_fault_and_no_doubt(
    config_of: Callable[[Parsed], Config],
    parse_bundled: Callable[[Mapping[str, str]], Parsed],
    yaml_environment: Mapping[str, str],
) -> None:
    parsed = parse_bundled(yaml_environment)
    assert parsed.problems == ()
    assert config_of(parsed).mode == "live"


def test_the_bundled_file_can_be_checked_on_a_fresh_machine(
    config_of: Callable[[Parsed], Config],
    parse_bundled: Callable[[Mapping[str, str]], Parsed],
    yaml_environment: Mapping[str, str],
) -> None:
    parsed = parse_bundled({})
    assert {problem.unset for problem in parsed.problems} == {True}
    assert set(config_of(parsed).providers) == {"gallabox", "bitespeed"}
    assert len(config_of(parsed).routes) == len(config_of(parse_bundled(yaml_environment)).routes)


def test_the_bundled_file_has_a_route_for_every_use_case_through_both_providers(
    config_of: Callable[[Parsed], Config],
    parse_bundled: Callable[[Mapping[str, str]], Parsed],
    yaml_environment: Mapping[str, str],
) -> None:
    routes = config_of(parse_bundled(yaml_environment)).routes
    assert {route.topic for route in routes} >= {
        "walletreward_create",
        "coupon_create",
        "referrernotify_create",
        "refereenotify_create",
        "coinexpirynotify_create",
        "reviewrequest_create",
        "review_create",
        "unusedwalletcoinrequest_create",
        "unusedcouponrequest_create",
        "viptier_create",
    }
    assert {route.provider for route in routes} == {"gallabox", "bitespeed"}
    assert {"coins-earned", "coupon-ready"} <= {route.name for route in routes}
    assert all(route.examples for route in routes)


def test_the_bundled_file_shows_every_kind_of_value(
    config_of: Callable[[Parsed], Config],
    parse_bundled: Callable[[Mapping[str, str]], Parsed],
    yaml_environment: Mapping[str, str],
) -> None:
    routes = config_of(parse_bundled(yaml_environment)).routes
    sources = [source_of(v.source) for r in routes for v in r.variables if isinstance(v.source, Expression)]
    for filter_name in ("money", "date(", "number", "default("):
        assert any(filter_name in source for source in sources)
    assert {r.header.kind for r in routes if r.header} == {"image", "text"}
    assert any(isinstance(v.source, Constant) for r in routes for v in r.variables)
    assert any(r.buttons for r in routes)
    assert any(r.when for r in routes)


def test_the_bundled_file_names_no_real_number() -> None:
    text = (ROOT / "config" / "relay.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"[0-9]{10,}", text)) <= {f"{code}98000000{n:02}" for code in ("", "91") for n in range(100)}


@pytest.mark.untraced
def test_two_hundred_routes_are_checked(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
) -> None:
    text = with_route("provider: bitespeed, template: t")
    route = "  a{0}: {{provider: bitespeed, event: lead_create, template: t, variables: [a | upper], when: c > {0}}}"
    text += "\n".join(route.format(number) for number in range(200))
    config = config_of(parse(text))
    assert len(config.routes) == 203
