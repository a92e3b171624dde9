"""What reading the YAML gives, as YAML: it comes to the same routes again, and shows no secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.authoring.schema import build_schema
from app.cli.files import write_echo
from app.mapping.document import read_document
from app.mapping.parse import Parsed
from app.mapping.rules import Route
from app.mapping.template_entries import parse_templates
from app.providers import settings_types

ROOT = Path(__file__).parents[2]
SCHEMA = build_schema(settings_types())
TEXT = """
version: 1
store: {country: AE}
defaults: {provider: main, language: en, valid_for: 6h}
providers:
  main:
    type: http
    base_url: "${URL}/${TOKEN}"
    path: /v1
    headers: {Authorization: "Bearer ${TOKEN}", x-shop: "${SHOP:-acme}"}
    body: {to: $phone, text: "$${literal}"}
routes:
  a:
    event: Wallet Coins Rewarded
    template: ${TEMPLATE}
    variables: [user_name, {text: "5 ${SIGN}"}]
    examples:
      - event: {user_name: Riya, user_mobile: "9800000001", amount: 199.50, flag: true, nothing: null}
        hits: true
  b: {event: coupon_create, template: other, valid_for: 24h}
"""
ENVIRONMENT = {"URL": "https://api.example", "TOKEN": "sesame-sesame", "TEMPLATE": "coins", "SIGN": "${x}"}


def echo(text: str, environment: Mapping[str, str]) -> str:
    return write_echo(read_document(text).data or {}, environment, SCHEMA)


def describe(parsed: Parsed) -> list[dict[str, Any]]:
    assert parsed.config is not None, parsed.problems
    return [describe_route(route) for route in parsed.config.routes]


def describe_route(route: Route) -> dict[str, Any]:
    shown = {name: repr(getattr(route, name)) for name in Route.model_fields if name not in {"line", "column"}}
    return shown | {"examples": [(one.event, one.sends, one.hits, one.dead) for one in route.examples]}


def test_the_bundled_yaml_comes_to_the_same_routes_and_store_again(
    parse_bundled: Callable[..., Parsed], parse: Callable[..., Parsed], yaml_environment: Mapping[str, str]
) -> None:
    written = echo((ROOT / "config/relay.yaml").read_text(), yaml_environment)
    texts = (ROOT / "config/templates.yaml").read_text()
    again = parse(written, templates=parse_templates(texts).templates)
    first = parse_bundled(yaml_environment)
    assert again.problems == ()
    assert describe(again) == describe(first)
    assert again.config is not None
    assert first.config is not None
    assert (again.config.store, again.config.mode) == (first.config.store, first.config.mode)
    assert again.config.providers == first.config.providers


def test_defaults_and_environment_are_written_out_and_a_secret_is_not(parse: Callable[..., Parsed]) -> None:
    written = echo(TEXT, ENVIRONMENT)
    assert describe(parse(written, environment=ENVIRONMENT)) == describe(parse(TEXT, environment=ENVIRONMENT))
    assert "sesame" not in written
    assert "Authorization: Bearer ${TOKEN}  # ***\n" in written
    assert "base_url: https://api.example/${TOKEN}  # ***\n" in written
    assert "x-shop: acme\n" in written
    for line in ("event: walletreward_create", "valid_for: 6h", "valid_for: 24h", "on_unknown: hold", "rate: 16/s"):
        assert f"    {line}\n" in written, line
    assert "amount: 199.50\n" in written
    assert "$${literal}" in written
    assert "5 $${x}" in written
    assert "defaults:" not in written


def test_what_is_not_set_stays_a_name_and_says_so() -> None:
    written = echo(TEXT, {})
    assert "template: ${TEMPLATE}\n" in written
    assert "Authorization: Bearer ${TOKEN}  # not set\n" in written
