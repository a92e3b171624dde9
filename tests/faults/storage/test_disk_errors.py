"""A disk whose writes or flushes fail: nothing is promised that is not there after a restart, and the process ends."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.model.delivery import State
from app.outbox.values import DeliveryFilter
from tests.outbox.methods import SqliteOutbox

ROOT = Path(__file__).parents[3]
NOW = 1_790_000_000_000
FOR_EVER = 2**62


@dataclass(frozen=True)
class Ran:
    """What the script said before it ended."""

    code: int
    said: Mapping[str, frozenset[str]]
    error: str


def run_script(path: Path, disk: Any, how: str = "honest") -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.storage.script", str(path), how], cwd=ROOT,
        env={**os.environ, **disk.environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    words = [line.split() for line in done.stdout.splitlines()]
    said = {
        word: frozenset(id_ for first, id_ in words if first == word) for word in ("202", "503", "sent", "recorded")
    }
    return Ran(done.returncode, said, done.stderr)


async def find_wrong(ran: Ran, path: Path, find_broken: Callable[[Path], dict[str, Any]]) -> list[str]:
    """Return what the file does not hold of what was promised, before and after a restart."""
    if not path.exists():  # the disk failed before the file was made
        return [f"lost {id_}" for id_ in ran.said["202"]]
    wrong = [f"{name}: {rows}" for name, rows in find_broken(path).items()]
    store = SqliteOutbox(path)
    await store.recover_open_attempts(NOW + 1_000, 0)
    there = {row["id"]: row for row in (await store.list_deliveries(DeliveryFilter(limit=500)))[0]}
    wrong += [f"lost {id_}" for id_ in ran.said["202"] if id_.replace("evt", "dlv") not in there]
    for id_ in ran.said["sent"]:
        row = there.get(id_)
        if row is None or not row["attempts"]:
            wrong.append(f"sent without a committed attempt: {id_}")
        elif id_ in ran.said["recorded"] and row["state"] != State.ACCEPTED:
            wrong.append(f"forgotten: {id_}")
    again = [attempt.delivery.id for attempt in await store.claim_due("gallabox", NOW + 10_000, 1_000, 30_000)]
    wrong += [f"would be sent again: {id_}" for id_ in again if id_ in ran.said["sent"]]
    await store.close()
    return wrong + [f"{name}: {rows}" for name, rows in find_broken(path).items()]


@pytest.fixture
def break_disk(tmp_path: Path, failing_disk: Callable[..., Any], storage_tools: Any, disk_words: Any) -> Any:
    """Return a function of which operations fail how; it runs the script and returns (ran, what is wrong)."""
    path = tmp_path / "data" / "relay.db"
    disk = failing_disk(path)

    async def run(kinds: int, act: int, first: int, last: int, how: str = "honest") -> tuple[Ran, list[str]]:
        shutil.rmtree(path.parent, ignore_errors=True)
        disk.arm(kinds, act, first, last)
        ran = await asyncio.to_thread(run_script, path, disk, how)
        disk.arm(disk_words.BOTH, 0)
        return ran, await find_wrong(ran, path, storage_tools.find_broken)

    async def count(kinds: int) -> int:
        shutil.rmtree(path.parent, ignore_errors=True)
        disk.arm(kinds, 0)
        ran = await asyncio.to_thread(run_script, path, disk)
        assert (ran.code, len(ran.said["recorded"])) == (0, 100)
        counted: int = disk.count
        return counted

    run.count = count  # type: ignore[attr-defined]  # both belong together
    return run


def spread(last: int, points: int) -> list[int]:
    """Return so many of 1..last, evenly, or all."""
    points = min(points, last)
    return sorted({1 + (last - 1) * step // max(points - 1, 1) for step in range(points)})


async def try_every(break_disk: Any, kinds: int, points: int, act: int, lasting: int) -> None:
    last = await break_disk.count(kinds)
    codes: dict[int, int] = {}
    for point in spread(last, points):
        ran, wrong = await break_disk(kinds, act, point, point + lasting)
        assert wrong == [], f"at operation {point} of {last}"
        # 0 only where the failure met nothing that anybody was promised, such as writing back into the file.
        assert ran.code in {0, 74}, ran.error
        assert "Traceback" not in ran.error
        codes[ran.code] = codes.get(ran.code, 0) + 1
    name = {1: "writes", 2: "flushes"}[kinds]
    print(f"figures: {errno.errorcode[act]} at {sum(codes.values())} of {last} {name}: exit codes {codes}, 0 lost")  # noqa: T201  # bench/long-runs.md quotes it


FAULTS = [
    ("WRITES", errno.EIO, 1),
    ("WRITES", errno.EROFS, FOR_EVER),
    ("WRITES", errno.ENOSPC, 3),
    ("FLUSHES", errno.EIO, 1),
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "act", "lasting"), FAULTS)
async def test_an_error_of_the_disk_breaks_no_promise(
    break_disk: Any, disk_words: Any, kind: str, act: int, lasting: int
) -> None:
    await try_every(break_disk, getattr(disk_words, kind), 4, act, lasting)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("kind", "act", "lasting"), [*FAULTS, ("FLUSHES", errno.EIO, FOR_EVER)])
async def test_an_error_at_every_operation_breaks_no_promise(
    break_disk: Any, disk_words: Any, kind: str, act: int, lasting: int
) -> None:
    # Each takes half a second. What lasts, or is a full disk, differs little from one write to the next.
    points = 100_000 if kind == "FLUSHES" or (act, lasting) == (errno.EIO, 1) else 150
    await try_every(break_disk, getattr(disk_words, kind), points, act, lasting)


async def test_a_relay_that_answers_202_whatever_the_disk_says_is_noticed(break_disk: Any, disk_words: Any) -> None:
    """The known-bad control."""
    last = await break_disk.count(disk_words.WRITES)
    _, wrong = await break_disk(disk_words.WRITES, errno.EIO, last // 2, FOR_EVER, "careless")
    assert any(each.startswith("lost ") for each in wrong)


# -- the whole relay ------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("FLUSHES", errno.EIO),
        pytest.param("WRITES", errno.EIO, marks=pytest.mark.long),
        pytest.param("WRITES", errno.EROFS, marks=pytest.mark.long),
    ],
)
async def test_a_relay_whose_disk_begins_to_fail_ends_with_74_and_goes_on_after_a_restart(
    kind: str,
    act: int,
    start_relay: Callable[..., Any],
    storage_environment: Mapping[str, str],
    storage_tools: Any,
    outbox_tools: Any,
    outbox_path: Path,
    failing_disk: Callable[..., Any],
    disk_words: Any,
    sandbox: Any,
) -> None:
    await sandbox.set_fault("gallabox", latency_ms=200)
    disk, port = failing_disk(outbox_path), outbox_tools.find_port()
    senders = storage_tools.senders(f"http://127.0.0.1:{port}")
    async with senders.run():
        async with start_relay({**storage_environment, **disk.environment}, port=port) as relay:
            await senders.wait_for(40)
            disk.arm(getattr(disk_words, kind), act, 1, FOR_EVER)
            assert await relay.end(30) == 74
        held = set(outbox_tools.read_rows(outbox_path))
        assert set(senders.acknowledged.values()) <= held
        async with start_relay(storage_environment, port=port) as relay:
            await senders.wait_for(len(senders.acknowledged) + 20)
            await senders.end()
            await storage_tools.drain(outbox_tools, outbox_path)
            assert await relay.stop() == 0
    assert {answer.status for answer in senders.answers} <= {200, 202, 503}
    assert all(answer.retry_after for answer in senders.answers if answer.status == 503)
    sent = (await sandbox.counts())["deliveries"]
    verdict = outbox_tools.judge(outbox_tools.read_rows(outbox_path), senders.acknowledged, sent)
    print(f"figures: {errno.errorcode[act]} on {kind.lower()} of a whole relay: {verdict}")  # noqa: T201  # bench/long-runs.md quotes it
    assert (verdict.lost, verdict.doubled, verdict.open) == ({}, {}, 0)
    assert storage_tools.find_broken(outbox_path) == {}
    (died, *_) = relay.lines("task.died")
    assert died["detail"].startswith("the disk under the outbox fails (SQLITE_IOERR")
