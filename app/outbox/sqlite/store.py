"""The store in one SQLite file: one process, one writing connection, no server to look after."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from app.clock import Clock, read_clock
from app.errors import StoreBroken, StoreError
from app.outbox.sqlite.backup import set_aside
from app.outbox.sqlite.file import is_missing, leave_trace, open_reading, open_writing, prepare_place, wait_for_lock
from app.outbox.sqlite.lock import ProcessLock
from app.outbox.sqlite.reader import LateReader, Reader
from app.outbox.sqlite.reserve import Reserve
from app.outbox.sqlite.schema import read_key
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.sqlite.writer import QUEUE_LIMIT, Writer
from app.outbox.store import Tx

T = TypeVar("T")

COMMIT_TIMEOUT_S = 2.0
_COUNT_COMMIT = "UPDATE commits SET n = n + 1"
# A backup or a report reads the log now and then: it is waited for, and not by the thread that writes.
LOG_TRIES, LOG_WAIT_MS, LOG_AGAIN_S = 25, 100, 0.2


@dataclass(frozen=True, slots=True)
class Migration:
    """What a start did to a file of an earlier schema. `copy`: the file as it was; None: there is none, `why_not`."""

    version: int
    copy: Path | None
    why_not: str = ""


class SqliteStore:
    """A `Store`.

    Blocks while it opens: it reads the whole file for damage. Raises StoreInUse if another process has it,
    StoreBroken if it is damaged, foreign, from a newer release or cannot be used.
    """

    def __init__(self, path: Path, clock: Clock = read_clock, queue_limit: int = QUEUE_LIMIT) -> None:
        """Open or create the database at `path`."""
        path = self.path = prepare_place(path)
        self.was_missing = is_missing(path)
        self.migration: Migration | None = None
        self._clock = clock
        self._lock = ProcessLock(path)
        with ExitStack() as undo:
            undo.callback(self._lock.close)  # last, as POSIX wants it
            db = open_writing(path, self._lock, self._set_aside)
            undo.callback(db.close)
            self._reader = Reader(open_reading(path))
            undo.pop_all()
        leave_trace(path)
        self._late_reader = LateReader(path)
        reserve = Reserve(path.with_name(f"{path.name}.reserve"))
        reserve.restore()
        self._people_key = read_key(db)
        self._writer = Writer(db, reserve, self._begin, queue_limit, watch=self._lock.watch)

    @property
    def broken(self) -> StoreBroken | None:
        """What ended this store's use; the process must then end, too (exit 74)."""
        return self._writer.broken

    async def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> T:
        """See Store. Raises StoreBusy, StoreFull, StoreBroken, or what the job raised."""
        return await self._writer.run(job, essential=essential)

    async def read(self, query: Callable[[Tx], T], *, slow: bool = False) -> T:
        """See Store."""
        reader = self._late_reader if slow else self._reader
        return await reader.run(lambda db: query(self._begin(db)))

    async def can_commit(self) -> bool:
        """See Store."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._writer.run(lambda tx: tx.run(_COUNT_COMMIT))
        except (StoreError, TimeoutError):
            return False
        return True

    async def empty_log(self) -> bool:
        """See Store. Write the log back and truncate it: what was erased must not stay readable there."""
        for _ in range(LOG_TRIES):
            if await self._writer.run_alone(_empty_log_soon):
                return True
            await asyncio.sleep(LOG_AGAIN_S)
        return False

    async def close(self) -> None:
        """See Store."""
        await self._reader.close()
        await self._late_reader.close()
        await self._writer.close()
        self._lock.close()

    def _set_aside(self, version: int) -> None:
        try:
            self.migration = Migration(version, set_aside(self.path, version, self._clock()))
        except StoreError as error:  # the migration itself loses nothing, and a relay that is down does
            self.migration = Migration(version, None, str(error))

    def _begin(self, db: sqlite3.Connection) -> SqliteTx:
        return SqliteTx(db, self._clock(), self._people_key)


def _empty_log_soon(db: sqlite3.Connection) -> bool:
    (usual_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    wait_for_lock(db, LOG_WAIT_MS)
    try:
        (is_busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        wait_for_lock(db, usual_ms)
    return not is_busy
