"""The threads that read, each on a connection that cannot write: one for all day, one for what takes seconds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from app.errors import StoreError
from app.outbox.sqlite.failures import explain_failure
from app.outbox.sqlite.file import open_reading

T = TypeVar("T")


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


AnyReader = Reader | LateReader
