"""kill -9 under load: what was acknowledged is there, and the file is whole. The control acknowledges too soon."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outbox.methods import SqliteOutbox

ROOT = Path(__file__).parents[2]


def run_and_kill(database: Path, mode: str, acknowledged: int) -> list[str]:
    """Let a child add events from 20 tasks, kill it after so many lines, return every id it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.loader", str(database), mode],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledged)]
        child.kill()
        lines += child.stdout.readlines()
    return [line.strip() for line in lines if line.endswith("\n")]


def list_stored(database: Path) -> set[str]:
    db = sqlite3.connect(database)
    assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    stored = {row[0] for row in db.execute("SELECT id FROM events")}
    db.close()
    return stored


@pytest.mark.parametrize("acknowledged", [1, 150, 700])
async def test_every_acknowledged_event_is_there_after_kill_9(
    acknowledged: int, database: Path, wrap: Callable[..., Any]
) -> None:
    ids = run_and_kill(database, "honest", acknowledged)
    assert len(ids) >= acknowledged
    shop = wrap(SqliteOutbox(database))  # it also says that the file is whole and the lock is free
    open_attempts = await shop.store.recover_open_attempts(shop.now, 0)
    counts = {state: count for (_, state), count in (await shop.store.count_deliveries()).items()}
    await shop.store.close()
    assert not {*ids} - list_stored(database)
    assert counts.get("unknown", 0) == open_attempts
    assert "sending" not in counts


def test_acknowledging_before_the_commit_loses_some(database: Path) -> None:
    """The known-bad control."""
    ids = run_and_kill(database, "acknowledge first", 300)
    assert {*ids} - list_stored(database)
