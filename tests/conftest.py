"""What the tests share: `.env.example` as environment, a sandbox, a relay with a real outbox, a parser of the YAML."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dotenv import dotenv_values

from app.main import create_app
from app.mapping.parse import Parsed, parse_config
from app.mapping.rules import Config, Route
from app.mapping.template import Templates
from app.mapping.template_entries import parse_templates
from app.providers import settings_types
from app.relay.intake import Take
from app.relay.reload import Rules
from app.sandbox.app import serve_sandbox
from app.sandbox.vendor import SandboxSettings
from app.settings import read_settings
from tests.building_once import build_once

ROOT = Path(__file__).parent.parent
SECRET = "test-secret"
TOKEN = "test-token"


@dataclass(frozen=True)
class Sandbox:
    """The fake vendors, listening on `url`."""

    url: str
    client: httpx2.AsyncClient

    async def set_fault(self, vendor: str, **fault: Any) -> None:
        answer = await self.client.put(f"{self.url}/sandbox/faults", json={vendor: fault})
        assert answer.is_success, answer.text

    async def clear_faults(self) -> None:
        await self.client.delete(f"{self.url}/sandbox/faults")

    async def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.get(f"{self.url}/sandbox/messages")).json()["messages"]
        return found

    async def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = (await self.client.get(f"{self.url}/sandbox/counts")).json()
        return found


@dataclass(frozen=True)
class RunningRelay:
    """A relay inside the test's own loop; `client` posts to it without a socket."""

    relay: Any  # of either mode
    rules: Rules
    take: Take
    client: httpx2.AsyncClient

    @property
    def outbox(self) -> Any:
        return self.relay.context.outbox

    @property
    def clock(self) -> Any:
        return self.relay.shared.clock

    async def post(self, payload: Any, topic: str = "walletreward_create", **changes: Any) -> httpx2.Response:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        headers = sign(body, topic, **changes)
        return await self.client.post("/webhooks/nector", content=body, headers=headers)

    async def ops(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return await self.client.request(method, path, headers={"authorization": f"Bearer {TOKEN}"}, **options)

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ops("GET", f"/deliveries/{delivery_id}")).json()
        return found

    async def wait_for(
        self, delivery_id: str, *states: str, seconds: float = 40, field: str = "state"
    ) -> dict[str, Any]:
        """Return the delivery once its `field` is one of these."""
        async with asyncio.timeout(seconds):
            while (delivery := await self.delivery(delivery_id))[field] not in states:
                await asyncio.sleep(0.01)
        return delivery


_delivery_ids = itertools.count(1)


def sign(body: bytes, topic: str, *, secret: str = SECRET, delivery_id: str | None = None) -> dict[str, str]:
    """Return the headers that Nector sends; a new delivery id each time unless one is given."""
    return {
        "content-type": "application/json",
        "x-source": "unix",
        "x-nector-topic": topic,
        "x-nector-delivery-id": delivery_id or f"test-{next(_delivery_ids)}",
        "x-nector-webhook-secret": hashlib.sha256(secret.encode()).hexdigest(),
        "x-nector-webhook-hmac": hmac.new(secret.encode(), body, "sha256").hexdigest(),
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out of the tests on PostgreSQL, which are too many to be told one by one."""
    from tests.outbox.postgres_server import why_not  # noqa: PLC0415  # only at the end

    if (lack := why_not()) is not None:
        terminalreporter.write_line(f"LEFT OUT: every test on PostgreSQL ({lack})")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test marked `untraced` without coverage's tracer, under which reading takes eight times as long."""
    tracer = sys.gettrace()
    if item.get_closest_marker("untraced"):
        sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.fixture(scope="session", autouse=True)
def built_once() -> Iterator[None]:
    with build_once():
        yield


@cache
def _read_example() -> Mapping[str, str]:
    return {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}


@pytest.fixture
def example_environment() -> dict[str, str]:
    """`.env.example`, which is the environment of the tests."""
    return {**_read_example()}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """The fake Gallabox and BiteSpeed with the bundled templates; no receipts (the relay has no socket)."""
    templates = parse_templates((ROOT / "config/templates.yaml").read_text()).templates
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_sandbox(SandboxSettings(), templates, port=0, show=lambda _: None, on_bound=bound.set_result)
    )
    port = await bound
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield Sandbox(f"http://127.0.0.1:{port}", client)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def environment(example_environment: Mapping[str, str], sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """The tests' environment with this test's sandbox, outbox and secrets."""
    return {
        **example_environment,
        "RELAY_CONFIG": str(ROOT / "config/relay.yaml"),
        "RELAY_DATABASE_URL": f"sqlite:///{tmp_path}/relay.db",
        "RELAY_NECTOR_SECRETS": SECRET,
        "RELAY_ADMIN_TOKEN": TOKEN,
        "GALLABOX_BASE_URL": sandbox.url,
        "BITESPEED_BASE_URL": f"{sandbox.url}/bitespeed",
    }


OpenRelay = Callable[..., Any]


@pytest.fixture
def open_relay(environment: dict[str, str]) -> OpenRelay:
    """Return a context manager that runs a relay; keyword arguments change its environment."""

    @asynccontextmanager
    async def open_one(**changes: str) -> AsyncIterator[RunningRelay]:
        given = {**environment, **changes}
        app = create_app(read_settings(given), given)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://relay.example") as client,
        ):
            yield RunningRelay(app.state.relay, app.state.rules, app.state.take, client)

    return open_one


@pytest.fixture
async def relay(open_relay: OpenRelay) -> AsyncIterator[RunningRelay]:
    """A running relay with the bundled YAML."""
    async with open_relay() as running:
        yield running


# -- the YAML ------------------------------------------------------------------------------------

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
    {type: bitespeed, accepted: {},
    base_url: "${BITESPEED_BASE_URL}",
    channel_id: "${BITESPEED_CHANNEL_ID}",
    user_id: "${BITESPEED_USER_ID}"}
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
    return parse_config(text, environment=environment, provider_types=settings_types(), templates=templates, **known)


@pytest.fixture(scope="session")
def yaml_environment() -> Mapping[str, str]:
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
