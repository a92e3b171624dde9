"""A relay in a process of its own, to be killed or told to stop, and senders that post as Nector does.

The oracle is the sandbox: what it took is what customers got.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

TEMPLATE = "coins_earned"
VARIABLES = {"name": "user_name", "coins": "amount"}
ACCOUNT = """
  gallabox{n}:
    type: gallabox
    channel_id: test
    api_key: ${{GALLABOX_API_KEY}}
    api_secret: ${{GALLABOX_API_SECRET}}
    base_url: ${{GALLABOX_BASE_URL}}
    rate: 200/s
    concurrency: {concurrency}"""
ROUTE = """
  coins-{n}:
    event: walletreward_create
    when: account == {n}
    provider: gallabox{n}
    template: {template}
    variables: {variables}
    on_unknown: {on_unknown}"""


@dataclass
class RelayProcess:
    """`nector-relay serve` on `url`."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    def tell(self, told: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(told)

    async def end(self, seconds: float = 40) -> int:
        """Return the exit code once the process has ended by itself."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stop(self) -> int:
        self.tell()
        return await self.end()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of this name, of every process that wrote to the file."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]


@pytest.fixture
def start_relay(tmp_path: Path) -> Callable[..., Any]:
    """Return a context manager that starts a relay process and ends it, whatever the test did to it.

    `fault` is one of `script`. `port`: a free one if not given. Without `wait` it is yielded at once.
    """

    @asynccontextmanager
    async def start(
        environment: Mapping[str, str],
        fault: str | None = None,
        *,
        script: str = "broken_relay.py",
        port: int | None = None,
        wait: bool = True,
    ) -> AsyncIterator[RelayProcess]:
        program = ["-m", "app"] if fault is None else [str(Path(__file__).with_name(script)), fault]
        port = find_port() if port is None else port
        log = tmp_path / "relay.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *program, "serve", "--host", "127.0.0.1", "--port", str(port),
                env={**os.environ, **environment}, stdout=out, stderr=out,
            )  # fmt: skip
        running = RelayProcess(f"http://127.0.0.1:{port}", process, log)
        try:
            if wait:
                await _wait_until_ready(running)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return start


def find_port() -> int:
    """Return a port that stays free while its relay is down: none that the kernel hands out by itself."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311  # no secret
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


async def _wait_until_ready(relay: RelayProcess) -> None:
    async with asyncio.timeout(60), httpx2.AsyncClient(trust_env=False) as client:
        while True:
            assert relay.process.returncode is None, relay.log.read_text()
            try:
                if (await client.get(f"{relay.url}/readyz")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.02)


@dataclass
class Crowd:
    """Senders that post events as Nector does: each again with the same delivery id until it is answered 2xx.

    One number gets a message every 6 s per account: a hundred numbers and four accounts take 66 events a second.
    """

    url: str
    draw: random.Random
    accounts: int
    senders: int = 12
    pause_s: float = 0.25
    acknowledged: dict[int, str] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)  # acknowledged again, as if for the first time
    broken_off: set[int] = field(default_factory=set)  # whose last try got no answer
    cut: list[int] = field(default_factory=list)  # stored, as the answer to the next try shows, and not answered
    answers: dict[int, int] = field(default_factory=dict)  # how often each status came
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Crowd]:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client, asyncio.TaskGroup() as group:
            for _ in range(self.senders):
                group.create_task(self._send(client))
            yield self
            self.ending.set()

    async def wait_for_answer(self, relay: RelayProcess) -> None:
        """Return once the relay has answered anybody."""
        self.heard.clear()
        async with asyncio.timeout(60):
            while not self.heard.is_set():
                assert relay.process.returncode is None, relay.log.read_text()[-2000:]
                await asyncio.sleep(0.01)

    async def _send(self, client: httpx2.AsyncClient) -> None:
        while not self.ending.is_set():
            self.begun += 1
            await self._post_until_taken(client, self.begun)
            if self.draw.random() < 0.05:  # a sender that did not see its answer
                await self._post_until_taken(client, self.draw.choice(list(self.acknowledged)))
            await asyncio.sleep(self.pause_s * 2 * self.draw.random())

    async def _post_until_taken(self, client: httpx2.AsyncClient, number: int) -> None:
        while not await self._post(client, number):
            await asyncio.sleep(0.1 + 0.2 * self.draw.random())

    async def _post(self, client: httpx2.AsyncClient, number: int) -> bool:
        account, recipient = number % self.accounts, number // self.accounts % 100
        payload = {"user_name": "Riya", "user_mobile": f"98000000{recipient:02}", "amount": number, "account": account}
        headers = {
            "content-type": "application/json",
            "x-nector-topic": "walletreward_create",
            "x-nector-delivery-id": f"event-{number}",
        }
        try:
            answer = await client.post(f"{self.url}/webhooks/nector", content=json.dumps(payload), headers=headers)
        except httpx2.TransportError:
            self.broken_off.add(number)
            return False
        self.heard.set()
        if answer.status_code == 200 and number in self.broken_off and number not in self.acknowledged:
            self.cut.append(number)
        self.broken_off.discard(number)
        self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
        if answer.status_code == 503:
            return False
        assert answer.status_code in {200, 202}, answer.text
        (delivery,) = answer.json()["deliveries"]
        if self.acknowledged.setdefault(number, delivery["id"]) != delivery["id"]:
            self.forgotten.append(number)
        return True


@dataclass(frozen=True)
class Row:
    """What the file says of one delivery. `deaths`: attempts that ended with the process."""

    state: str
    on_unknown: str
    attempts: int
    deaths: int
    was_unknown: bool
    due: bool


@dataclass(frozen=True)
class Verdict:
    """What the file, the senders and the sandbox say together; ids with what was found of each."""

    lost: Mapping[str, Any]
    doubled: Mapping[str, Any]  # a second message though nothing was unknown, or the route does not say so
    resent: int  # doubled as the route allows
    unknown: int
    parked: int  # `resend`, but not due any more: open in three deaths
    deaths: int
    open: int  # still `sending`

    def __str__(self) -> str:
        return (
            f"lost={len(self.lost)} doubled_outside_unknown={len(self.doubled)} resent_doubles={self.resent} "
            f"unknown={self.unknown} parked={self.parked} deaths_of_attempts={self.deaths} open={self.open}"
        )


def read_rows(path: Path) -> dict[str, Row]:
    """Read the outbox as the relay's own reader does: the file stays as it is."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        found = db.execute(
            """SELECT id, state, on_unknown, attempts,
                (SELECT count(*) FROM attempts a WHERE a.delivery_seq = d.seq AND a.reason = 'process_died'),
                (SELECT count(*) FROM timeline t WHERE t.delivery_seq = d.seq AND t.value = 'unknown') > 0,
                due_at IS NOT NULL FROM deliveries d"""
        ).fetchall()
    db.close()
    return {id_: Row(*facts) for id_, *facts in found}


def check_integrity(path: Path) -> None:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def judge(rows: Mapping[str, Row], acknowledged: Mapping[int, str], sent: Mapping[str, int]) -> Verdict:
    """Compare what was acknowledged, what the file says and what the sandbox took."""
    lost: dict[str, Any] = {}
    doubled: dict[str, Any] = {}
    resent = 0
    for id_ in {*acknowledged.values(), *sent, *rows}:
        row, times = rows.get(id_), sent.get(id_, 0)
        if row is None or row.state not in {"accepted", "unknown", "sending"} or times < (row.state == "accepted"):
            lost[id_] = (row, times)
        # A request that no committed attempt stands for would be doubled by the next death.
        if times > (row.attempts if row else 0):
            doubled[id_] = (row, times)
        elif times > 1 and row is not None and row.on_unknown == "resend" and row.was_unknown:
            resent += 1
        elif times > 1:
            doubled[id_] = (row, times)
    return Verdict(
        lost,
        doubled,
        resent,
        unknown=sum(row.state == "unknown" for row in rows.values()),
        parked=sum(row.state == "unknown" and row.on_unknown == "resend" and not row.due for row in rows.values()),
        deaths=sum(row.deaths for row in rows.values()),
        open=sum(row.state == "sending" for row in rows.values()),
    )


@pytest.fixture
def seed() -> int:
    """`RELAY_TEST_SEED`, else a fresh one; the test prints it with its figures."""
    given = os.environ.get("RELAY_TEST_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**32)


@pytest.fixture
def open_crowd() -> Callable[..., Any]:
    return Crowd


@pytest.fixture
def outbox_tools() -> Any:
    """`read_rows`, `check_integrity`, `judge` and `find_port`: a test cannot import its neighbour."""

    class Tools:
        read_rows = staticmethod(read_rows)
        check_integrity = staticmethod(check_integrity)
        judge = staticmethod(judge)
        find_port = staticmethod(find_port)

    return Tools


@pytest.fixture
def kill_environment(environment: Mapping[str, str]) -> Callable[..., dict[str, str]]:
    """Return a function of each account's `on_unknown` and of changes to the environment."""

    def build(policies: tuple[str, ...], *, concurrency: int = 8, **changes: str) -> dict[str, str]:
        accounts = "".join(ACCOUNT.format(n=n, concurrency=concurrency) for n in range(len(policies)))
        routes = "".join(
            ROUTE.format(n=n, template=TEMPLATE, variables=json.dumps(VARIABLES), on_unknown=policy)
            for n, policy in enumerate(policies)
        )
        yaml = f"version: 1\nproviders:{accounts}\nroutes:{routes}\n"
        open_door = {"RELAY_CONFIG_YAML": yaml, "RELAY_INSECURE_NO_AUTH": "true", "RELAY_NECTOR_SECRETS": ""}
        return {**environment, **open_door, **changes}

    return build


@pytest.fixture
def outbox_path(environment: Mapping[str, str]) -> Path:
    return Path(environment["RELAY_DATABASE_URL"].removeprefix("sqlite:///"))
