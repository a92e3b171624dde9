"""The store in one SQLite file: one process, one writing connection, no server to look after."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from app.clock import Clock, read_clock
from app.errors import StoreBroken, StoreError
from app.outbox.sqlite.backup import Migration, set_aside
from app.outbox.sqlite.file import (
    explain_failure,
    is_missing,
    leave_trace,
    open_reading,
    open_writing,
    prepare_place,
    wait_for_lock,
)
from app.outbox.sqlite.lock import ProcessLock
from app.outbox.sqlite.schema import read_key
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.sqlite.writer import QUEUE_LIMIT, Reserve, Writer
from app.outbox.store import Tx

T = TypeVar("T")

COMMIT_TIMEOUT_S = 2.0
_COUNT_COMMIT = "UPDATE commits SET n = n + 1"
# A backup or a report reads the log now and then: it is waited for, and not by the thread that writes.
LOG_TRIES, LOG_WAIT_MS, LOG_AGAIN_S = 25, 100, 0.2


class Reader:
    """Owns a read-only connection from construction to `close`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Start the thread on its first use. `db` must allow use from another thread."""
        self._db = db
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox-reader")
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on one snapshot and return its value. Raises StoreError."""
        if self._closed:
            raise StoreError("the outbox is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, query)

    async def close(self) -> None:
        """Let the query under way end and close the connection. May be called again."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._db.execute("BEGIN")
            try:
                return query(self._db)
            finally:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            failure = explain_failure(error)
            if failure is None:
                raise
            raise failure from error


class LateReader:
    """A reader for what may take seconds, so that nothing else waits for it. Opens the file when it is first asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` after those that were asked before; see Reader."""
        if self._closed:
            raise StoreError("the outbox is closed")
        if self._reader is None:
            try:
                self._reader = Reader(open_reading(self._path))
            except sqlite3.Error as error:  # too many files are open, perhaps: the next one tries again
                raise StoreError("the outbox cannot be opened once more at the moment") from error
        return await self._reader.run(query)

    async def close(self) -> None:
        """See Reader. Opens the file no more."""
        self._closed = True
        if self._reader is not None:
            await self._reader.close()


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
        """Return the error that ended this store's use; the process must then end, too (exit 74)."""
        return self._writer.broken

    def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> Coroutine[Any, Any, T]:
        """See Store. Raises StoreBusy, StoreFull, StoreBroken, or what the job raised."""
        return self._writer.run(job, essential=essential)

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
        self.migration = set_aside(self.path, version, self._clock())

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
