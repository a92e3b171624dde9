"""The fault server in a process of its own, and many sends to one of its faults at a time."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.model.delivery import Accepted, Outcome, Uncertain
from app.model.message import Message, Variable
from app.providers import PROVIDER_TYPES, build_provider
from app.providers.base import Provider
from app.providers.client import ProviderClient
from tests.faults.certificates import make_certificates
from tests.faults.fault_server import find_closed_port
from tests.faults.fault_table import REFUSED, Row

QUICK, SLOW = 40, 100  # sends at a time; a slow one only waits

MESSAGE = Message("+919800000001", "coins_earned", "Riya", variables=(Variable("user_name", "Riya"),))
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "gallabox": {"channel_id": "ch-1", "api_key": "key-1", "api_secret": "secret-1"},
    # Neither's own request names our id, by which the server counts; both let the YAML say so.
    "bitespeed": {"channel_id": "c-1", "user_id": "u-1", "body": {"to": "$phone", "localMessageId": "$delivery_id"}},
    "http": {"path": "/send", "body": {"to": "$phone_plus", "localMessageId": "$delivery_id"}},
}


def build_account(kind: str, url: str) -> Provider:
    provider_type = PROVIDER_TYPES[kind]
    given = {"type": kind, "base_url": url, **SETTINGS[kind]}
    return build_provider(provider_type.settings_type.model_validate(given))


# -- the server's process --------------------------------------------------------------------------


@dataclass
class FaultProcess:
    """The fault server: a URL for each answer, and what came there."""

    urls: Mapping[str, str]
    trust: ssl.SSLContext
    process: asyncio.subprocess.Process

    async def count(self) -> Mapping[str, tuple[int, Mapping[str, int]]]:
        """Return (connections, requests by delivery id) for each answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        counts = json.loads(await self.process.stdout.readline())
        return {**counts, REFUSED: (0, {})}


@asynccontextmanager
async def open_server(folder: Path) -> AsyncIterator[FaultProcess]:
    authority = make_certificates(folder)
    program = Path(__file__).with_name("fault_server.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(folder),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ports: dict[str, int] = json.loads(await process.stdout.readline())
        over_tls = {"TLS on a plain port", *(name for name in ports if "certificate" in name)}
        urls = {name: f"{'https' if name in over_tls else 'http'}://localhost:{port}" for name, port in ports.items()}
        urls[REFUSED] = f"http://127.0.0.1:{find_closed_port()}"
        yield FaultProcess(urls, ssl.create_default_context(cafile=authority), process)
    finally:
        process.stdin.close()
        await process.wait()


# -- sending ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """How a row's messages ended: (outcome without its words, tries) → how many, and the slowest."""

    row: Row
    ends: Counter[tuple[Outcome, int]]
    messages: int
    overrun_s: float  # of the slowest beyond its deadline; negative: before it

    @property
    def right(self) -> int:
        return self.ends[self.row.outcome, self.row.tries]

    @property
    def uncertain(self) -> int:
        return sum(count for (outcome, _), count in self.ends.items() if isinstance(outcome, Uncertain))


Open = Callable[..., ProviderClient]


async def send_row(
    row: Row,
    server: FaultProcess,
    messages: int,
    *,
    kind: str = "gallabox",
    open_client: Open = ProviderClient,
    adapt: Callable[[Provider], Provider] = lambda provider: provider,
) -> Report:
    """Send so many messages to one answer, many at a time."""
    side_by_side = SLOW if row.slow else QUICK
    sender = open_client(timeout_ms=row.timeout_ms, concurrency=side_by_side, trust=server.trust, draw=lambda: 0.0)
    account = adapt(build_account(kind, server.urls[row.answer]))
    waiting = iter(range(messages))
    ends: Counter[tuple[Outcome, int]] = Counter()
    slowest = 0.0

    async def send_some() -> None:
        nonlocal slowest
        for number in waiting:
            began = time.monotonic()
            sent = await sender.send(account, MESSAGE, f"{row.answer}-{number}")
            slowest = max(slowest, time.monotonic() - began)
            ends[strip_detail(sent.outcome), sent.tries] += 1

    try:
        async with asyncio.TaskGroup() as sends:
            for _ in range(min(side_by_side, messages)):
                sends.create_task(send_some())
                # Spread over a timeout: what ends together would connect together again, and keep each other waiting.
                await asyncio.sleep(row.timeout_ms / 1000 / side_by_side if row.slow else 0)
    finally:
        await sender.close()
    return Report(row, ends, messages, slowest - row.ends_within_s)


def strip_detail(outcome: Outcome) -> Outcome:
    return outcome if isinstance(outcome, Accepted) else replace(outcome, detail="")


def find_wrong(reports: Sequence[Report], counts: Mapping[str, tuple[int, Mapping[str, int]]]) -> list[str]:
    """Return what is not as the table says, by our own account and by the server's."""
    wrong = []
    for report in reports:
        row, ids = report.row, counts[report.row.answer][1]
        if report.right != report.messages:
            wrong.append(f"{row.answer}: {dict(report.ends)}")
        expected = {f"{row.answer}-{number}": row.requests for number in range(report.messages) if row.requests}
        if ids != expected:
            often = Counter(ids.values())
            wrong.append(f"{row.answer}: {len(ids)} messages were seen, so often: {dict(often)}")
    return wrong


@dataclass
class Memory:
    """Resident memory of this process in MB: at the start, and the most since."""

    start: float = 0.0
    most: float = 0.0
    _watching: list[asyncio.Task[None]] = field(default_factory=list)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        give_memory_back()
        self.start = self.most = read_memory()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, read_memory())
            await asyncio.sleep(0.02)

    @property
    def growth(self) -> float:
        return self.most - self.start


def give_memory_back() -> None:
    """Return to the system what earlier tests have freed: else what is allocated next is not seen to grow."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def read_memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
