"""Replicas that die or stand still past their lease: nothing is lost, and only what is unknown may be sent twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, State
from app.outbox.close import recover_open_attempts
from app.outbox.read import count_deliveries
from app.outbox.store import Tx
from tests.outbox.fleet import fill
from tests.outbox.postgres_outbox import Place, PostgresOutbox
from tests.outside import ROOT

MINUTE = 60_000


async def test_what_a_living_replica_sends_is_not_given_up_by_one_that_starts(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    living, starting = wrap(open_replica()), open_replica()
    id_ = await living.add()
    attempt = await living.claim_one()
    assert (await starting.sweep(living.now + 29_999, 0)).lost == 0
    assert await living.accept(attempt)
    assert (await living.show(id_))[0] == "accepted"


async def test_control_a_start_that_gives_up_all_that_is_open_takes_a_living_ones(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    living, starting = wrap(open_replica()), open_replica()
    id_ = await living.add()
    await living.claim_one()
    assert await starting.write(partial(recover_open_attempts, settle_ms=0)) == 1
    assert (await living.show(id_))[0] == "unknown"


async def test_a_replica_that_stood_still_past_its_lease_is_fenced(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    still, other = wrap(open_replica()), open_replica()
    id_ = await still.add(on_unknown="resend")
    attempt = await still.claim_one()
    assert (await other.sweep(still.now + 30_000, 0)).lost == 1
    (again,) = await other.claim_due("gallabox", still.now + MINUTE, 1, 30_000)
    assert not await still.close(attempt, Accepted(), Decision(State.ACCEPTED))
    assert (await still.show(id_))[0] == "sending"
    assert (await other.close_attempt(again, Accepted(), Decision(State.ACCEPTED), still.now + MINUTE, 1)).recorded


async def test_its_late_answer_counts_if_nobody_has_sent_it_again(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    still, other = wrap(open_replica()), open_replica()
    id_ = await still.add()
    attempt = await still.claim_one()
    await other.sweep(still.now + 30_000, 0)
    assert await still.accept(attempt, after_ms=40_000)
    assert (await still.show(id_))[0] == "accepted"


def start_replica(url: str, rate: float, lines: Path, lease_ms: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.outbox.replica_process", url, str(rate), str(lines)]
    environment = {**os.environ, "LEASE_MS": str(lease_ms)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    process.stdout.close()
    return process


async def run_and_kill(place: Place, tmp_path: Path, count: int, rate: float) -> tuple[Counter[str], dict[str, str]]:
    """Let three send; kill one, stop another past its lease and wake it; return the sends and how all stands."""
    sends = [tmp_path / f"sends-{number}" for number in range(3)]
    for path in sends:
        path.touch()
    store = PostgresOutbox(place.url)
    await store.write(partial(fill, route="reminders", count=count))
    fleet = [await asyncio.to_thread(start_replica, place.url, rate, path, 3_000) for path in sends]
    killed, stopped, _ = fleet
    try:
        while sum(len(path.read_bytes().splitlines()) for path in sends) < count // 4:
            await asyncio.sleep(0.05)
        for process, path in zip((killed, stopped), sends, strict=False):
            await stop_with_some_open(process, path, store)
        killed.send_signal(signal.SIGKILL)
        while not await store.read(_count_lost):
            await asyncio.sleep(0.1)
        stopped.send_signal(signal.SIGCONT)
        for process in fleet:
            await asyncio.to_thread(process.wait, 600)
    finally:
        for process in fleet:
            process.kill()
            process.wait()
    states = await store.read(lambda tx: tx.rows("SELECT id, state FROM deliveries"))
    counts = await store.read(count_deliveries)
    await store.close()
    assert sum(counts.values()) == count
    return Counter("".join(path.read_text() for path in sends).split()), {row.id: row.state for row in states}


async def stop_with_some_open(process: subprocess.Popen[bytes], sends: Path, store: PostgresOutbox) -> None:
    """Have a replica stand still at an instant at which it has something open: between two claims it has nothing."""
    while True:
        process.send_signal(signal.SIGSTOP)
        rows = await store.read(lambda tx: tx.rows("SELECT id FROM deliveries WHERE state = 'sending'"))
        if {row.id for row in rows} & set(sends.read_text().split()):
            return
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.02)


def _count_lost(tx: Tx) -> int:
    (row,) = tx.rows("SELECT count(*) AS n FROM attempts WHERE reason = 'process_died'")
    return int(row.n)


def check_sends(sends: Counter[str], states: dict[str, str]) -> None:
    assert set(states.values()) <= {"accepted", "unknown"}
    assert {id_ for id_, n in sends.items() if n > 1} == set()  # `on_unknown: hold`: not even those
    assert {id_ for id_, state in states.items() if state == "accepted"} <= set(sends)


@pytest.mark.timeout(240)
async def test_one_of_three_killed_and_one_stopped_lose_nothing_and_double_nothing(
    postgres_place: Place, tmp_path: Path
) -> None:
    check_sends(*await run_and_kill(postgres_place, tmp_path, 600, 200))


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_the_same_with_a_hundred_thousand(postgres_place: Place, tmp_path: Path) -> None:
    check_sends(*await run_and_kill(postgres_place, tmp_path, 100_000, 1_000))
