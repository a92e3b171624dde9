"""The demo's relay: a real `nector-relay serve` in a process of its own, and a client that follows one delivery."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from app.errors import RelayError
from app.settings import read_environment
from app.sources import SOURCE

START_S = 20.0
STARTER = Path(__file__).parents[1] / "starter"
"""The files to start from; in the repository links to config/ and .env.example."""
STOP_S = 10.0
LOOK_EVERY_S = 0.02
ENDED = {"dead", "expired", "suppressed", "shadow", "held"}  # nothing more comes of these in the time of a demo


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """One webhook to post, and the text its customer should see."""

    route: str
    provider: str
    topic: str
    delivery_id: str
    body: bytes
    expected_text: str


@dataclass(frozen=True, slots=True)
class Journey:
    """The journey holds what became of one event. Times are ms from the post."""

    delivery_id: str
    provider_message_id: str | None
    state: str
    reason: str | None
    receipt: str | None
    answered_ms: int
    accepted_ms: int | None = None
    delivered_ms: int | None = None

    def timings(self) -> tuple[int | None, int | None, int | None]:
        """Return when the 202, the acceptance and the delivery came."""
        return self.answered_ms, self.accepted_ms, self.delivered_ms

    def describe(self) -> str:
        """Return one line for a person."""
        if self.state != "accepted":
            return f"{self.state}: {self.reason or 'not yet accepted'}"
        return f"accepted after {self.accepted_ms} ms · {self.receipt or 'no receipt'} after {self.delivered_ms} ms"


@dataclass(frozen=True, slots=True)
class DemoRelay:
    """The stage says where the relay and the sandbox are, and in which environment both are started."""

    url: str
    sandbox_url: str
    sandbox_port: int
    port: int
    secret: str
    token: str
    environment: Mapping[str, str]
    log: Path
    client: httpx2.AsyncClient | None = None

    @classmethod
    def plan(cls, folder: Path, config: Path | None) -> DemoRelay:
        """Return free ports and invented credentials; nothing is started yet."""
        port, sandbox_port = _find_free_ports(2)
        sandbox_url = f"http://127.0.0.1:{sandbox_port}"
        secret, token = secrets.token_hex(16), secrets.token_hex(16)
        given = read_environment()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
            "RELAY_CONFIG": str(config or given.get("RELAY_CONFIG") or find_example()),
            "RELAY_CONFIG_YAML": "" if config else given.get("RELAY_CONFIG_YAML", ""),
            "RELAY_DATABASE_URL": f"sqlite:///{folder}/relay.db",
            "RELAY_NECTOR_SECRETS": secret,
            "RELAY_ADMIN_TOKEN": token,
            "GALLABOX_BASE_URL": sandbox_url,
            "GALLABOX_API_KEY": secrets.token_hex(8),
            "GALLABOX_API_SECRET": secrets.token_hex(8),
            "GALLABOX_CHANNEL_ID": "63f0aaaaaaaaaaaaaaaaaaaa",
            "GALLABOX_ACCOUNT_ID": "63f0bbbbbbbbbbbbbbbbbbbb",
            "GALLABOX_WEBHOOK_SECRET": secrets.token_hex(8),
            "BITESPEED_BASE_URL": f"{sandbox_url}/bitespeed",
            "BITESPEED_CHANNEL_ID": "ch_demo",
            "BITESPEED_USER_ID": "us_demo",
            "BITESPEED_WEBHOOK_TOKEN": secrets.token_hex(8),
        }
        return cls(
            f"http://127.0.0.1:{port}",
            sandbox_url,
            sandbox_port,
            port,
            secret,
            token,
            environment,
            folder / "relay.log",
        )

    async def send(self, event: DemoEvent, headers: Mapping[str, str], longest_s: float) -> Journey:
        """Post an event and follow its route's delivery until the handset has it, or `longest_s` are over."""
        client = self._open_client()
        posted_at, started = time.time(), time.perf_counter()
        answer = await client.post(f"{self.url}/webhooks/{SOURCE.name}", content=event.body, headers=dict(headers))
        answered_ms = round((time.perf_counter() - started) * 1000)
        if answer.status_code != 202:  # noqa: PLR2004  # the status itself is the clearest name
            raise RelayError(f"{event.route}: the relay answered {answer.status_code}: {answer.text}")
        ids = [row["id"] for row in answer.json()["deliveries"] if row["route"] == event.route]
        if not ids:
            return Journey("", None, "unrouted", "its example does not hit the route", None, answered_ms)
        while True:
            delivery = (await client.get(f"{self.url}/deliveries/{ids[0]}", headers=self._access())).json()
            ended = delivery["receipt"] in {"read", "failed"} or delivery["state"] in ENDED
            if ended or time.perf_counter() - started > longest_s:
                return _read_journey(delivery, posted_at, answered_ms)
            await asyncio.sleep(LOOK_EVERY_S)

    async def read_text(self, journey: Journey) -> str:
        """Return the message as the sandbox says its customer sees it, "" if it never arrived."""
        page = (await self._open_client().get(f"{self.sandbox_url}/sandbox/messages")).json()
        # BiteSpeed is not told our id (nobody knows a field for it): there the id it answered with leads back.
        keys = {journey.delivery_id, journey.provider_message_id} - {None}
        found = [message["text"] for message in page["messages"] if keys & {message["delivery_id"], message["id"]}]
        return str(found[0]) if found else ""

    async def read_report(self) -> dict[str, Any]:
        """Return the ops API's report of everything sent so far."""
        answer = await self._open_client().get(f"{self.url}/report", headers=self._access())
        if not answer.is_success:
            raise RelayError(f"the relay answered {answer.status_code} when asked for its report: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def read_last_words(self) -> str:
        """Return the end of the relay's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def _access(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def _open_client(self) -> httpx2.AsyncClient:
        if self.client is None:
            raise RelayError("the demo's relay is not running")
        return self.client


def find_example() -> Path:
    """Return the YAML of this folder, or, where it has none, the one that the package brings."""
    usual = Path("config/relay.yaml")
    return usual if usual.is_file() else STARTER / "relay.yaml"


@asynccontextmanager
async def start_relay(planned: DemoRelay) -> AsyncIterator[DemoRelay]:
    """Run `nector-relay serve` until the block ends; raises RelayError with its last words if it does not start."""
    with planned.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", str(planned.port),
            env=dict(planned.environment), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            running = replace(planned, client=client)
            await _wait_until_ready(running, process, client)
            yield running
    except httpx2.TransportError as error:
        raise RelayError(
            f"the relay stopped answering ({type(error).__name__}):\n{planned.read_last_words()}"
        ) from None
    finally:
        await _stop(process)


async def _wait_until_ready(relay: DemoRelay, process: asyncio.subprocess.Process, client: httpx2.AsyncClient) -> None:
    started = time.perf_counter()
    while time.perf_counter() - started < START_S and process.returncode is None:
        try:
            if (await client.get(f"{relay.url}/readyz")).is_success:
                return
        except httpx2.TransportError:
            pass
        await asyncio.sleep(LOOK_EVERY_S)
    raise RelayError(f"the relay did not start:\n{relay.read_last_words()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _read_journey(delivery: Mapping[str, Any], posted_at: float, answered_ms: int) -> Journey:
    reached: dict[str, int] = {}
    for step in delivery["timeline"]:
        ms = round((datetime.fromisoformat(step["at"]).timestamp() - posted_at) * 1000)
        reached.setdefault(step["value"], max(ms, 0))
    delivered_ms = reached.get("delivered", reached.get("read"))
    return Journey(
        delivery["id"],
        delivery["provider_message_id"],
        delivery["state"],
        delivery["reason"],
        delivery["receipt"],
        answered_ms,
        reached.get("accepted"),
        delivered_ms,
    )


def _find_free_ports(count: int) -> list[int]:
    """Return free loopback ports, all held open while the next is found so that they differ."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
