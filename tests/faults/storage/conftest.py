"""Senders that note how each webhook was answered, and what a file must hold after any fault of its disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.compiling import compile_shim

ACCOUNTS = 4


@dataclass(frozen=True)
class Answered:
    """One answer: when its request began and how long it took, in seconds of time.monotonic()."""

    status: int
    began: float
    took: float
    retry_after: str | None


@dataclass
class Senders:
    """Post events as Nector does, each again with the same delivery id until it is answered 2xx.

    One number gets a message every 6 s per account: a hundred numbers and four accounts take 66 events a second.
    """

    url: str
    senders: int = 12
    pause_s: float = 0.25
    answers: list[Answered] = field(default_factory=list)
    acknowledged: dict[int, str] = field(default_factory=dict)
    begun: int = 0
    ending: bool = False
    gone: bool = False  # the relay, which a test may expect
    under_way: set[int] = field(default_factory=set)
    asked: int = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Senders]:
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send(client)) for _ in range(self.senders)]
            try:
                yield self
            finally:
                self.ending = True
                if self.gone:
                    for task in tasks:
                        task.cancel()

    def since(self, moment: float) -> list[Answered]:
        """Return the answers to what began at `moment` or later."""
        return [answer for answer in self.answers if answer.began >= moment]

    async def wait_for(self, count: int) -> None:
        """Return once so many events are acknowledged."""
        async with asyncio.timeout(60):
            while len(self.acknowledged) < count:
                await asyncio.sleep(0.01)

    async def wait_for_refusals(self, count: int, moment: float) -> None:
        """Return once so many requests that began at `moment` or later are answered 503."""
        async with asyncio.timeout(60):
            while sum(answer.status == 503 for answer in self.since(moment)) < count:
                await asyncio.sleep(0.05)

    async def wait_for_answers(self) -> None:
        """Return once every request that is under way now is answered."""
        asked = set(self.under_way)
        async with asyncio.timeout(60):
            while asked & self.under_way:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Begin nothing more; return once all that was begun is acknowledged."""
        self.ending = True
        await self.wait_for(self.begun)

    async def post(self, client: httpx2.AsyncClient, number: int) -> bool:
        """Post an event; False if it is to be sent again."""
        account, recipient = number % ACCOUNTS, number // ACCOUNTS % 100
        payload = {"user_name": "Riya", "user_mobile": f"98000000{recipient:02}", "amount": number, "account": account}
        headers = {
            "content-type": "application/json",
            "x-nector-topic": "walletreward_create",
            "x-nector-delivery-id": f"event-{number}",
        }
        self.asked += 1
        request, began = self.asked, time.monotonic()
        self.under_way.add(request)
        try:
            answer = await client.post(f"{self.url}/webhooks/nector", content=json.dumps(payload), headers=headers)
        except httpx2.TransportError:
            return False
        finally:
            self.under_way.discard(request)
        took = time.monotonic() - began
        self.answers.append(Answered(answer.status_code, began, took, answer.headers.get("retry-after")))
        if answer.status_code not in {200, 202}:
            return False
        (delivery,) = answer.json()["deliveries"]
        assert self.acknowledged.setdefault(number, delivery["id"]) == delivery["id"]
        return True

    async def _send(self, client: httpx2.AsyncClient) -> None:
        while not self.ending:
            self.begun += 1
            number = self.begun
            while not await self.post(client, number):
                await asyncio.sleep(0.2)
            await asyncio.sleep(self.pause_s)


FIND_BROKEN: Mapping[str, str] = {
    "a state that does not exist": """SELECT id FROM deliveries WHERE state NOT IN
        ('pending', 'sending', 'accepted', 'unknown', 'expired', 'suppressed', 'shadow', 'dead')""",
    "a delivery of no event": "SELECT id FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)",
    "a routed event without deliveries": """SELECT id FROM events WHERE seq NOT IN (SELECT event_seq FROM deliveries)
        AND topic = 'walletreward_create'""",
    "an event twice": """SELECT source_delivery_id FROM events WHERE source_delivery_id IS NOT NULL
        GROUP BY source, source_delivery_id HAVING count(*) > 1""",
    "pending that nobody will claim": "SELECT id FROM deliveries WHERE state = 'pending' AND due_at IS NULL",
    "sending without an open attempt": """SELECT id FROM deliveries d WHERE state = 'sending' AND NOT EXISTS
        (SELECT 1 FROM attempts WHERE delivery_seq = d.seq AND number = d.attempts AND ended_at IS NULL)""",
    "an open attempt of what is not sending": """SELECT id FROM deliveries d JOIN attempts a ON a.delivery_seq = d.seq
        WHERE a.ended_at IS NULL AND (d.state <> 'sending' OR a.number <> d.attempts)""",
    "attempts that do not count": """SELECT id FROM deliveries d WHERE attempts <>
        (SELECT count(*) FROM attempts WHERE delivery_seq = d.seq)""",
    "accepted without an attempt": "SELECT id FROM deliveries WHERE state = 'accepted' AND attempts = 0",
    "a timeline that tells another state": """SELECT id FROM deliveries d WHERE state <> (SELECT value FROM timeline
        WHERE delivery_seq = d.seq AND kind = 'state' ORDER BY n DESC LIMIT 1)""",
    "a count that is not the rows'": """SELECT provider FROM counts c WHERE n <> (SELECT count(*) FROM deliveries d
        WHERE d.provider = c.provider AND d.state = c.state)""",
}


def find_broken(path: Path) -> dict[str, list[Any]]:
    """Return which of the outbox's invariants a file does not hold, and where.

    Looks at a copy: what a dead process left half done is undone by whoever opens the file to write, and that is for
    the next start to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-journal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), folder)
        db = sqlite3.connect(f"file:{folder}/{path.name}?mode=rw", uri=True)
        try:
            found = {name: [row[0] for row in db.execute(query)] for name, query in FIND_BROKEN.items()}
            found["a damaged file"] = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        finally:
            db.close()
    return {name: rows for name, rows in found.items() if rows}


def find_unattempted(path: Path, sent: Mapping[str, int]) -> list[str]:
    """Return what the provider saw more often than the file has attempts of it. `sent` is to be read first."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        attempts = dict(
            db.execute("SELECT id, (SELECT count(*) FROM attempts WHERE delivery_seq = seq) FROM deliveries")
        )
    finally:
        db.close()
    return [id_ for id_, times in sent.items() if times > attempts.get(id_, 0)]


async def drain(tools: Any, path: Path, seconds: float = 60) -> None:
    """Return once nothing is pending or sending."""
    async with asyncio.timeout(seconds):
        while {"pending", "sending"} & {row.state for row in tools.read_rows(path).values()}:
            await asyncio.sleep(0.1)


@pytest.fixture
def storage_tools() -> Any:
    """`Senders`, `find_broken`, `find_unattempted`, `drain`: a test cannot import its neighbour."""

    class Tools:
        senders: Callable[..., Senders] = Senders
        find_broken = staticmethod(find_broken)
        find_unattempted = staticmethod(find_unattempted)
        drain = staticmethod(drain)

    return Tools


@pytest.fixture
def storage_environment(kill_environment: Callable[..., dict[str, str]]) -> dict[str, str]:
    """Four accounts; what is unknown stays so, and is then seen."""
    return kill_environment(("hold",) * ACCOUNTS, RELAY_LOG_LEVEL="warning")


# -- a disk that fails ----------------------------------------------------------------------------

WRITES, FLUSHES, BOTH = 1, 2, 3
KILL, TEAR = -1, -2  # in place of an errno: die at this operation, or in the middle of its write
_CONTROL = struct.Struct("=QQQii")  # as in disk_errors.c


@dataclass(frozen=True)
class FailingDisk:
    """Lets chosen writes and flushes of the files at `path*` fail, for programs that run with `environment`."""

    path: Path
    control: Path
    library: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "DISK_ERRORS_CONTROL": str(self.control),
            "DISK_ERRORS_PATH": str(self.path),
        }

    def arm(self, kinds: int, act: int, first: int = 0, last: int = 0) -> None:
        """Count from 0 again; the operations `first` <= n < `last` of these kinds then fail."""
        with self.control.open("r+b") as file:  # in place: it is mapped
            file.write(_CONTROL.pack(0, first, last, kinds, act))

    @property
    def count(self) -> int:
        """How many operations there were since it was armed."""
        counted: int = _CONTROL.unpack(self.control.read_bytes())[0]
        return counted


@pytest.fixture(scope="session")
def disk_errors_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(Path(__file__).with_name("disk_errors.c"), tmp_path_factory.mktemp("disk_errors"))


@pytest.fixture
def failing_disk(disk_errors_library: Path, tmp_path: Path) -> Callable[[Path], FailingDisk]:
    """Return a function of the database's path."""

    def build(path: Path) -> FailingDisk:
        control = tmp_path / "control"
        control.write_bytes(bytes(_CONTROL.size))
        return FailingDisk(path, control, disk_errors_library)

    return build


@pytest.fixture(scope="session")
def disk_words() -> Any:
    """The names of what can be armed."""

    class Words:
        WRITES, FLUSHES, BOTH, KILL, TEAR = WRITES, FLUSHES, BOTH, KILL, TEAR

    return Words
