"""A relay in a process of its own, to be killed or told to stop, and senders that post as Nector does.

The oracle is the sandbox: what it took is what customers got.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.crowd import Crowd
from tests.faults.fault_server import find_closed_port
from tests.faults.judging import check_integrity, judge, read_rows

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
        port = find_closed_port() if port is None else port
        log = tmp_path / "relay.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *program, "serve", "--host", "127.0.0.1", "--port", str(port),
                env={**keep_uncounted(os.environ), **environment}, stdout=out, stderr=out,
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


def keep_uncounted(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave coverage's settings out: it doubles the time to start, and a process that is killed tells it nothing."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


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
    """`read_rows`, `check_integrity`, `judge` and `find_port`, for a relay that comes and goes on it."""

    class Tools:
        read_rows = staticmethod(read_rows)
        check_integrity = staticmethod(check_integrity)
        judge = staticmethod(judge)
        find_port = staticmethod(find_closed_port)

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
