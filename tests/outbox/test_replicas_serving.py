"""Two replicas as an operator runs them: either may be killed, and the database, and no customer notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dotenv import dotenv_values

from tests.conftest import Sandbox, sign
from tests.needing import leave_out
from tests.outbox.postgres_server import Server, run_server, take_port, why_not
from tests.outside import ROOT

RELAY = ROOT / ".venv/bin/nector-relay"
SECRET, TOKEN = "replicas-nector-secret", "replicas-admin-token"


@pytest.fixture
def server() -> Iterator[Server]:
    if (lack := why_not()) is not None:
        leave_out(lack)
    with run_server() as started:
        yield started


@dataclass
class Pair:
    """Two replicas, the sandbox they send to, and a balancer that asks the other where one does not answer."""

    folder: Path
    database: str
    sandbox: str
    client: httpx2.AsyncClient
    ports: list[int] = field(default_factory=lambda: [take_port(), take_port()])
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, number: int) -> subprocess.Popen[bytes]:
        given = {name: value for name, value in dotenv_values(ROOT / ".env.example").items() if value}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
            **given,
            "RELAY_DATABASE_URL": self.database,
            "RELAY_NECTOR_SECRETS": SECRET,
            "RELAY_ADMIN_TOKEN": TOKEN,
            "GALLABOX_BASE_URL": self.sandbox,
            "BITESPEED_BASE_URL": f"{self.sandbox}/bitespeed",
        }
        command = [str(RELAY), "serve", "--host", "127.0.0.1", "--port", str(self.ports[number])]
        with (self.folder / f"replica-{number}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    async def ask(self, number: int, path: str) -> Any:
        with suppress(httpx2.TransportError, asyncio.TimeoutError):
            answer = await self.client.get(
                f"http://127.0.0.1:{self.ports[number]}{path}", headers={"authorization": f"Bearer {TOKEN}"}
            )
            return answer.status_code, answer.json()
        return 0, {}

    async def wait_for(self, number: int, status: int, seen: int | None = None) -> None:
        async with asyncio.timeout(90):
            while True:
                code, shown = await self.ask(number, "/readyz")
                if code == status and (seen is None or shown["replicas"] == {"seen": seen, "differ": []}):
                    return
                await asyncio.sleep(0.1)

    async def post(self, number: int, event: int) -> httpx2.Response | None:
        payload = {"user_name": "Riya", "user_mobile": f"98000000{event % 100:02}", "amount": "1250"}
        body = json.dumps(payload).encode()
        headers = sign(body, "walletreward_create", secret=SECRET, delivery_id=f"event-{event}")
        with suppress(httpx2.TransportError):
            url = f"http://127.0.0.1:{self.ports[number]}/webhooks/nector"
            return await self.client.post(url, content=body, headers=headers)
        return None

    async def deliver(self, event: int) -> None:
        """Post an event as Nector does through a balancer: again, at the other replica, until it is taken."""
        async with asyncio.timeout(90):
            for turn in range(10_000):
                answer = await self.post((event + turn) % 2, event)
                if answer is not None and answer.status_code in (200, 202):
                    return
                if answer is not None:
                    assert answer.status_code == 503
                    assert answer.headers["retry-after"]
                await asyncio.sleep(0.1)

    async def count_states(self, number: int) -> Counter[str]:
        _, status = await self.ask(number, "/deliveries?limit=100")
        return Counter(row["state"] for row in status.get("deliveries", ()))


@pytest.fixture
def pair(server: Server, tmp_path: Path, sandbox: Sandbox) -> Iterator[Pair]:
    pair = Pair(tmp_path, f"{server.url}?schema=acme", sandbox.url, sandbox.client)
    pair.processes = [pair.start(0), pair.start(1)]
    yield pair
    for process in pair.processes:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_replicas_answer_and_either_may_die_and_the_database_too(
    pair: Pair, server: Server, sandbox: Sandbox
) -> None:
    await pair.wait_for(0, 200, seen=2)
    await pair.wait_for(1, 200, seen=2)
    await asyncio.gather(*(pair.deliver(event) for event in range(20)))
    pair.processes[0].send_signal(signal.SIGKILL)
    await asyncio.gather(*(pair.deliver(event) for event in range(20, 40)))
    pair.processes[0].wait()
    pair.processes[0] = pair.start(0)
    await pair.wait_for(0, 200)
    await asyncio.to_thread(server.kill)
    await pair.wait_for(0, 503)
    answer = await pair.post(1, 40)
    assert answer is not None
    assert (answer.status_code, bool(answer.headers["retry-after"])) == (503, True)
    await asyncio.to_thread(server.start)
    await asyncio.gather(*(pair.deliver(event) for event in range(40, 60)))
    pair.processes[1].send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(pair.processes[1].wait, 60) == 0
    async with asyncio.timeout(200):
        while (states := await pair.count_states(0)).total() < 60 or set(states) - {"accepted", "unknown"}:
            await asyncio.sleep(0.5)
    sent = Counter(row["recipient"] for row in await sandbox.messages())
    assert all(n == 1 for n in sent.values())
    assert sent.total() >= states["accepted"]
    assert pair.processes[0].poll() is None
