"""Another program holds the outbox's file locked: every webhook is answered in time, and it goes on by itself."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreBusy
from app.model.delivery import State
from app.outbox.sqlite import store as writer
from app.outbox.sqlite.sidecars import wait_for_lock
from tests.outbox.methods import SqliteOutbox

REFUSED = 51
HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def lock_file(path: Path) -> AsyncIterator[None]:
    """Let another process hold the write lock."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"locked\n"
    try:
        yield
    finally:
        holder.kill()
        await holder.wait()


def count_threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208  # a number is all that is asked


@pytest.fixture
def run_locked(
    start_relay: Callable[..., Any],
    storage_environment: Mapping[str, str],
    storage_tools: Any,
    outbox_tools: Any,
    outbox_path: Path,
    sandbox: Any,
) -> Callable[..., Any]:
    """Return a function that holds the lock under load for so long, lets the relay drain, and judges."""

    async def run(seconds: float) -> Any:
        await sandbox.set_fault("gallabox", latency_ms=300)
        async with start_relay(storage_environment) as relay:
            senders = storage_tools.senders(relay.url)
            async with senders.run():
                await senders.wait_for(60)
                threads = count_threads(relay.process.pid)
                async with lock_file(outbox_path):
                    locked_at = time.monotonic()
                    await asyncio.sleep(seconds)
                    # A relay that waited for the lock's end would come to neither.
                    await senders.wait_for_refusals(REFUSED, locked_at)
                    await senders.wait_for_answers()
                    threads = count_threads(relay.process.pid) - threads
                freed_at = time.monotonic()
                await senders.wait_for(len(senders.acknowledged) + 30)
            await storage_tools.drain(outbox_tools, outbox_path)
            assert relay.process.returncode is None
            assert await relay.stop() == 0
        during = [answer for answer in senders.since(locked_at) if answer.began < freed_at]
        refused_since = sum(answer.status == 503 for answer in senders.since(freed_at))
        verdict = outbox_tools.judge(
            outbox_tools.read_rows(outbox_path), senders.acknowledged, (await sandbox.counts())["deliveries"]
        )
        assert storage_tools.find_broken(outbox_path) == {}
        print(  # noqa: T201  # the figures that bench/long-runs.md quotes
            f"figures: locked for {seconds:.0f} s answers={len(during)} "
            f"refused={sum(answer.status == 503 for answer in during)} "
            f"slowest={max(answer.took for answer in during):.2f} s refused_since={refused_since} {verdict}"
        )
        return during, refused_since, threads, verdict

    return run


async def judge_locked(run_locked: Callable[..., Any], seconds: float) -> None:
    during, refused_since, threads, verdict = await run_locked(seconds)
    assert {answer.status for answer in during} <= {200, 202, 503}
    assert sum(answer.status == 503 for answer in during) >= REFUSED
    assert all(answer.retry_after for answer in during if answer.status == 503)
    # The first batch waits for BUSY_TIMEOUT_MS, the others only look: a busy machine may hold up some of them.
    assert statistics.median(answer.took for answer in during) < 8, "Nector gives up after 10 s"
    assert refused_since == 0
    assert threads <= 1
    assert (verdict.lost, verdict.doubled, verdict.unknown, verdict.open) == ({}, {}, 0, 0)


@pytest.mark.timeout(120)
async def test_a_lock_of_8_s_costs_only_503s_and_no_outcome(run_locked: Callable[..., Any]) -> None:
    await judge_locked(run_locked, 8)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_lock_of_30_s_costs_only_503s_and_no_outcome(run_locked: Callable[..., Any]) -> None:
    await judge_locked(run_locked, 30)


@pytest.mark.timeout(60)
async def test_a_start_against_a_locked_file_ends_with_75(
    start_relay: Callable[..., Any], storage_environment: Mapping[str, str], outbox_path: Path
) -> None:
    await SqliteOutbox(outbox_path).close()
    async with lock_file(outbox_path), start_relay(storage_environment, wait=False) as relay:
        assert await relay.end() == 75
    assert "another program holds the outbox's file locked" in relay.log.read_text()


@pytest.mark.timeout(180)
async def test_a_relay_that_drops_outcomes_it_cannot_record_is_noticed(
    start_relay: Callable[..., Any],
    storage_environment: Mapping[str, str],
    storage_tools: Any,
    outbox_tools: Any,
    outbox_path: Path,
    sandbox: Any,
) -> None:
    """The known-bad control: these stay `sending` until their lease has run out, and are unknown then."""
    await sandbox.set_fault("gallabox", latency_ms=300)
    async with start_relay(storage_environment, "drop_outcomes") as relay:
        senders = storage_tools.senders(relay.url)
        async with senders.run():
            await senders.wait_for(60)
            async with lock_file(outbox_path):
                await asyncio.sleep(4)
        await asyncio.sleep(2)
        await relay.stop()
    rows = outbox_tools.read_rows(outbox_path)
    sent = (await sandbox.counts())["deliveries"]
    assert [id_ for id_, row in rows.items() if row.state == "sending" and sent.get(id_)]


# -- the same in small ----------------------------------------------------------------------------


@pytest.fixture
def lock_here(tmp_path: Path) -> Callable[[], sqlite3.Connection]:
    def lock() -> sqlite3.Connection:
        db = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        return db

    return lock


async def list_waits(path: Path, lock: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how long, in ms, each of 20 writes that a writer takes one by one may wait for the lock."""
    store, waits = SqliteOutbox(path), list[int]()

    def note(db: sqlite3.Connection, timeout_ms: int) -> None:
        if timeout_ms:
            waits.append(timeout_ms)
        wait_for_lock(db, timeout_ms)

    store._writer._batch_limit = 1
    holder = lock()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "wait_for_lock", note)
        found = await asyncio.gather(*(store.release_hold("route:a", 0) for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in found} == {StoreBusy}
    holder.close()
    assert await store.release_hold("route:a", 0) is False
    counts: Mapping[tuple[str, State], int] = await store.count_deliveries()
    assert counts == {}
    await store.close()
    return waits


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.outbox.sqlite import file as opening  # noqa: PLC0415  # the two names are of the same number

    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 120)
    monkeypatch.setattr(writer, "BUSY_TIMEOUT_MS", 120)


@pytest.mark.usefixtures("short_timeouts")
async def test_only_the_first_batch_waits_for_a_lock(
    tmp_path: Path, lock_here: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IMPATIENT_MS", 5)
    assert await list_waits(tmp_path / "relay.db", lock_here, monkeypatch) == [120] + [5] * 19


@pytest.mark.usefixtures("short_timeouts")
async def test_were_every_batch_to_wait_it_would_be_noticed(
    tmp_path: Path, lock_here: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control."""
    monkeypatch.setattr(writer, "IMPATIENT_MS", 120)
    assert await list_waits(tmp_path / "relay.db", lock_here, monkeypatch) == [120] * 20
