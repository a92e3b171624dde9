"""What the tests share: `.env.example` as environment, a sandbox on a real socket, a relay with a real outbox."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dotenv import dotenv_values

from app.core.templates import parse_templates
from app.main import create_app
from app.relay import Relay
from app.sandbox.serving import serve_sandbox
from app.sandbox.settings import SandboxSettings
from app.settings import read_settings

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

    relay: Relay
    client: httpx2.AsyncClient

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
        self, delivery_id: str, *states: str, seconds: float = 10, field: str = "state"
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


@pytest.fixture
def example_environment() -> dict[str, str]:
    """`.env.example`, which is the environment of the tests."""
    return {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}


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
            yield RunningRelay(app.state.relay, client)

    return open_one


@pytest.fixture
async def relay(open_relay: OpenRelay) -> AsyncIterator[RunningRelay]:
    """A running relay with the bundled YAML."""
    async with open_relay() as running:
        yield running
