"""What the tests of the YAML share: an environment, a parser with the real provider types, a file with a free route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.core.config import Config, Parsed, parse_config
from app.core.routing import Route
from app.core.templates import Templates, parse_templates
from app.providers import settings_types

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "GALLABOX_CHANNEL_ID": "example-channel",
    "GALLABOX_API_KEY": "example-key",
    "GALLABOX_API_SECRET": "example-secret",
    "BITESPEED_BASE_URL": "https://bitespeed.example",
    "BITESPEED_CHANNEL_ID": "example-channel",
    "BITESPEED_USER_ID": "example-user",
}
PROVIDERS = """version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: ${GALLABOX_CHANNEL_ID}
    api_key: ${GALLABOX_API_KEY}
    api_secret: ${GALLABOX_API_SECRET}
  bitespeed:
    type: bitespeed
    base_url: ${BITESPEED_BASE_URL}
    channel_id: ${BITESPEED_CHANNEL_ID}
    user_id: ${BITESPEED_USER_ID}
"""
BOTH_USED = """  uses-gallabox: {event: lead_create, provider: gallabox, template: coins_earned, variables: [a, b]}
  uses-bitespeed: {event: lead_create, provider: bitespeed, template: t}
"""


@cache
def _read_templates(path: Path) -> Templates:
    parsed = parse_templates(path.read_text(encoding="utf-8"))
    assert parsed.problems == ()
    return parsed.templates


def _parse(text: str, environment: Mapping[str, str], templates: Templates, **known: Any) -> Parsed:
    return parse_config(
        text, name="relay.yaml", environment=environment, provider_types=settings_types(), templates=templates, **known
    )


@pytest.fixture(scope="session")
def example_environment() -> Mapping[str, str]:
    """Every variable that the bundled file needs."""
    return ENVIRONMENT


@pytest.fixture(scope="session")
def corpus_templates() -> Templates:
    """The templates that the corpus is checked against."""
    return _read_templates(ROOT / "tests" / "fixtures" / "config" / "templates.yaml")


@pytest.fixture(scope="session")
def parse(corpus_templates: Templates) -> Callable[..., Parsed]:
    """Parse a text with the corpus's templates, or `templates`; `known`: what else parse_config may know."""

    def parse_text(
        text: str, environment: Mapping[str, str] = ENVIRONMENT, templates: Templates = corpus_templates, **known: Any
    ) -> Parsed:
        return _parse(text, environment, templates, **known)

    return parse_text


@pytest.fixture(scope="session")
def parse_bundled() -> Callable[[Mapping[str, str]], Parsed]:
    """Parse config/relay.yaml in an environment."""
    text = (ROOT / "config" / "relay.yaml").read_text(encoding="utf-8")
    return lambda environment: _parse(text, environment, _read_templates(ROOT / "config" / "templates.yaml"))


@pytest.fixture(scope="session")
def config_of() -> Callable[[Parsed], Config]:
    """Return the config of a file without errors."""

    def take_config(parsed: Parsed) -> Config:
        assert parsed.config is not None, parsed.problems
        return parsed.config

    return take_config


@pytest.fixture(scope="session")
def route_of(parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config]) -> Callable[..., Route]:
    """Return route `a` of a text."""

    def take_route(text: str, **kwargs: Any) -> Route:
        return next(route for route in config_of(parse(text, **kwargs)).routes if route.name == "a")

    return take_route


@pytest.fixture(scope="session")
def with_route() -> Callable[..., str]:
    """Return a sound file with route `a` on line 14, made of the keys given and `event: coupon_create`."""

    def write(route: str, extra: str = "") -> str:
        return f"{PROVIDERS}{extra}routes:\n  a: {{event: coupon_create, {route}}}\n{BOTH_USED}"

    return write


@pytest.fixture(scope="session")
def providers_text() -> str:
    """The first 12 lines of a sound file: version and two accounts."""
    return PROVIDERS
