"""A relay in a process of its own, to be killed, and the sandbox beside it as the oracle."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest


@dataclass
class RelayProcess:
    """`nector-relay serve` on `url`."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            return await self.process.wait()


@pytest.fixture
def start_relay(tmp_path: Path) -> Callable[..., Any]:
    """Return a context manager that starts a relay process and ends it, whatever the test did to it."""

    @asynccontextmanager
    async def start(environment: Mapping[str, str], fault: str | None = None) -> AsyncIterator[RelayProcess]:
        program = ["-m", "app"] if fault is None else [str(Path(__file__).with_name("broken_relay.py")), fault]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        log = tmp_path / "relay.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *program, "serve", "--host", "127.0.0.1", "--port", str(port),
                env={**os.environ, **environment}, stdout=out, stderr=out,
            )  # fmt: skip
        running = RelayProcess(f"http://127.0.0.1:{port}", process, log)
        try:
            await _wait_until_ready(running)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return start


async def _wait_until_ready(relay: RelayProcess) -> None:
    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as client:
        while True:
            assert relay.process.returncode is None, relay.log.read_text()
            try:
                if (await client.get(f"{relay.url}/readyz")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.02)
