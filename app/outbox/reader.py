"""The one thread that reads, on a connection that cannot write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.errors import StoreError
from app.outbox.failures import explain_failure

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
