"""The real SQLite outbox on a database in memory; its two threads are replaced by turns on the virtual loop.

A job still is one transaction, and may fail in every way that the real writer's may: refused, rolled back,
or committed and reported as failed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar, cast

from app.clock import Clock
from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.move import write_counts
from app.outbox.sqlite.file import create_schema, migrate_schema, read_key
from app.outbox.sqlite.store import LateReader, Reader, Writer
from app.outbox.sqlite.tx import SqliteTx
from tests.outbox.methods import SqliteOutbox
from tests.outbox.recording_triggers import record_states

T = TypeVar("T")
Job = Callable[[SqliteTx], T]

FAULTS = ("busy", "full", "before", "after", "broken before", "broken after", "slow")
WEIGHTS = (6, 3, 6, 6, 0.5, 0.5, 8)


@dataclass
class StoreFaults:
    """How often a transaction meets a fault. `share` is of all transactions; 0 in calm times."""

    random: Random
    share: float = 0.0
    met: int = 0

    def draw(self) -> str | None:
        """Return the fault that this transaction meets."""
        if self.share == 0 or self.random.random() >= self.share:
            return None
        self.met += 1
        return self.random.choices(FAULTS, WEIGHTS)[0]


class InlineWriter:
    """Runs each job in a transaction of its own, on the loop. One for each simulated process.

    `observe` is given what each committed job returned, at the instant of its commit, and the loop's time when it was
    asked for.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        faults: StoreFaults,
        observe: Callable[[Any, float], None],
        on_broken: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._db = db
        self.clock = clock
        self._people_key = read_key(db)
        self._faults = faults
        self._observe = observe
        self._on_broken = on_broken
        self.broken: StoreBroken | None = None
        self.dead = False

    async def run(self, job: Job[T], *, essential: bool = False) -> T:
        """As the real one."""
        fault = self._faults.draw()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(self._faults.random.uniform(0.5, 20) if fault == "slow" else 0)
        self._refuse(fault, essential=essential)
        committed = fault not in ("before", "broken before")
        result = self._transact(job, commit=committed)
        if committed:
            self._observe(result, began)
        if fault == "slow":
            await asyncio.sleep(self._faults.random.uniform(0.5, 20))
        self._check_alive()
        if fault in ("before", "after"):
            raise StoreError(f"simulated: failed {fault} the commit")
        if fault in ("broken before", "broken after"):
            self.broken = StoreBroken("simulated: the disk failed")
            self._on_broken()
            raise StoreBroken(str(self.broken))
        return result

    async def run_alone(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """As the real one."""
        await asyncio.sleep(0)
        self._check_alive()
        return job(self._db)

    def read_clock(self) -> int:
        """Return the time of the process."""
        return self.clock()

    def begin(self) -> SqliteTx:
        """Return what a job is given."""
        return SqliteTx(self._db, self.clock(), self._people_key)

    def try_out(self, job: Job[T]) -> T:
        """Return what a job would come to; nothing is committed."""
        return self._transact(job, commit=False)

    async def close(self) -> None:
        """Do nothing: the database outlives the process."""

    def _refuse(self, fault: str | None, *, essential: bool) -> None:
        self._check_alive()
        if self.broken is not None:
            raise StoreBroken(str(self.broken))
        if fault == "busy" and not essential:
            raise StoreBusy("simulated: too many writes wait")
        if fault == "full":
            raise StoreFull("simulated: no space")

    def _transact(self, job: Job[T], *, commit: bool) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            tx = self.begin()
            result = job(tx)
            write_counts(tx)
            self._db.execute("COMMIT" if commit else "ROLLBACK")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result

    def _check_alive(self) -> None:
        if self.dead:  # killed: what its code still does after that never happened
            raise asyncio.CancelledError


class InlineReader:
    """Runs each query on the loop. Nothing is uncommitted between two turns, so it sees commits only."""

    def __init__(self, db: sqlite3.Connection, writer: InlineWriter) -> None:
        self._db = db
        self._writer = writer

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """As the real one."""
        await asyncio.sleep(0)
        if self._writer.dead:
            raise asyncio.CancelledError
        return query(self._db)

    async def close(self) -> None:
        """Do nothing."""


class MemoryOutbox(SqliteOutbox):
    """Every method is the real one; only what opens files and threads is left out."""

    def __init__(self, db: sqlite3.Connection, writer: InlineWriter) -> None:
        self._clock = writer.read_clock
        self._people_key = read_key(db)
        self.inline = writer
        self._writer = cast(Writer, writer)
        self._reader = cast(Reader, InlineReader(db, writer))
        self._late_reader = cast(LateReader, InlineReader(db, writer))

    async def empty_log(self) -> bool:
        """Say yes: there is no file in which anything could stay."""
        return True

    def kill(self) -> None:
        """Take nothing more from the process, which is dead."""
        self.inline.dead = True


def open_memory() -> sqlite3.Connection:
    """Return an empty outbox in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
    create_schema(db)
    migrate_schema(db)
    record_states(db)
    return db
