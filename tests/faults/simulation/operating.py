"""What people do to a running relay: hold, release, retry; and what a stalled task of its does too late."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from app.delivery.decide import Decision
from app.errors import StoreError
from app.model.delivery import Accepted, Attempt, State
from app.outbox import close as closing
from app.outbox.sqlite.file import read_key
from app.outbox.sqlite.tx import SqliteTx
from tests.faults.simulation.oracle import Oracle
from tests.faults.simulation.process import Process
from tests.faults.simulation.rules import ROUTES

SCOPES = ("provider:main", "provider:second", "template:main/expiry", *(f"route:{name}" for name in ROUTES))


@dataclass(frozen=True)
class Operator:
    """Somebody with the admin token, who does not mind if the relay cannot just now."""

    db: sqlite3.Connection
    random: Random
    oracle: Oracle
    read_wall: Callable[[], int]

    async def hold_something(self, process: Process) -> None:
        """Stop a provider, a template or a route."""
        scope = self.random.choice(SCOPES)
        await _ask(process, process.outbox.put_hold(scope, "by_hand", self.read_wall(), by_hand=True))

    async def release_all(self, process: Process) -> None:
        """End every hold that was set by hand."""
        for (scope,) in self.db.execute("SELECT scope FROM holds WHERE by_hand ORDER BY scope").fetchall():
            await _ask(process, process.outbox.release_hold(scope, self.read_wall()))
        process.dispatcher.wake_all()

    async def retry_some(self, process: Process) -> None:
        """Send some of what has ended, or may have been sent, once more."""
        rows = self.db.execute("SELECT id FROM deliveries WHERE state IN ('dead', 'unknown', 'expired') ORDER BY seq")
        ids = [id_ for (id_,) in rows.fetchall() if self.random.random() < 0.3]
        self.oracle.retried.update(ids)
        await _ask(process, process.outbox.retry_deliveries(ids, self.read_wall()))
        process.dispatcher.wake_all()

    def end_late(self) -> None:
        """I5: an attempt whose delivery has gone on without it changes nothing."""
        stale = [attempt for attempt in self.oracle.attempts if self._is_stale(attempt)]
        if not stale:
            return
        attempt = self.random.choice(stale)
        before = self._read_all(attempt.delivery.id)
        ending = closing.Ending(attempt, Accepted("late"), Decision(State.ACCEPTED), 1)
        self.db.execute("BEGIN IMMEDIATE")
        closing.close_attempts(SqliteTx(self.db, self.read_wall(), read_key(self.db)), [ending])
        self.db.execute("COMMIT")
        if self._read_all(attempt.delivery.id) != before:
            self.oracle.fail(f"I5: attempt {attempt.number} of {attempt.delivery.id} was stale and changed it")

    def _read_all(self, delivery_id: str) -> list[Any]:
        """Return everything that is stored of a delivery, for a comparison."""
        rows = self.db.execute("SELECT * FROM deliveries WHERE id = ?", (delivery_id,)).fetchall()
        for table in ("attempts", "timeline", "receipts"):
            rows += self.db.execute(f"SELECT * FROM {table} WHERE delivery_seq = ?", (rows[0][0],)).fetchall()  # noqa: S608 - our own names
        return rows

    def _is_stale(self, attempt: Attempt) -> bool:
        query = "SELECT state, attempts FROM deliveries WHERE id = ?"
        state, attempts = self.db.execute(query, (attempt.delivery.id,)).fetchone()
        return attempts != attempt.number or state not in ("sending", "unknown")


async def _ask(process: Process, work: Coroutine[Any, Any, Any]) -> None:
    task = process.run(work)
    await asyncio.wait({task})
    if not task.cancelled() and not isinstance(task.exception(), StoreError):
        task.result()
