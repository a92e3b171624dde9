"""The threads that write to PostgreSQL, and the one that reads: each owns a connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from app.errors import StoreError
from app.outbox.batch import BATCH_LIMIT, QUEUE_LIMIT, BatchWriter, Waiting, fail, run_together
from app.outbox.move import write_counts
from app.outbox.postgres.link import Connection, Link, ReadNow, explain_failure, is_away, is_conflict
from app.outbox.postgres.tx import PostgresTx

T = TypeVar("T")
OpenTx = Callable[[Connection, ReadNow], PostgresTx]

TRIES = 5  # of a transaction that meets another one
LONGEST_PAUSE_S = 0.05


class PostgresWriter(BatchWriter):
    """Owns a writing connection. Whoever waits longer than they can is not waited for: their job is not begun."""

    def __init__(
        self, link: Link, open_tx: OpenTx, queue_limit: int = QUEUE_LIMIT, batch_limit: int = BATCH_LIMIT
    ) -> None:
        super().__init__(queue_limit, batch_limit)
        self._link = link
        self._open_tx = open_tx
        self.start()

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        if wanted := [waiting for waiting in batch if not waiting.future.cancelled()]:
            self._settle(wanted, TRIES)

    def _settle(self, batch: Sequence[Waiting], tries: int) -> None:
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever a job raised belongs to its caller, not to this thread
            failure = explain_failure(error)
            if is_conflict(error) and tries > 1:
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311  # jitter
                self._settle(batch, tries - 1)
            elif len(batch) == 1 or is_away(error) or (failure is not None and failure is not error):
                fail(batch, failure or error)
            else:
                for waiting in batch:
                    self._settle([waiting], TRIES)
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.result = result

    def _transact(self, batch: Sequence[Waiting]) -> list[Any]:
        def work(db: Connection, read_now: ReadNow) -> list[Any]:
            tx = self._open_tx(db, read_now)
            results = run_together(tx, [waiting.job for waiting in batch])
            write_counts(tx)
            return results

        return self._link.run(work)

    def _release(self) -> None:
        self._link.drop()


class PostgresReader:
    """Owns a reading connection, and opens it when it is first asked."""

    def __init__(self, link: Link, open_tx: OpenTx) -> None:
        self._link = link
        self._open_tx = open_tx
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox-reader")
        self._closed = False

    async def run(self, query: Callable[[PostgresTx], T]) -> T:
        """Run `query` on one snapshot and return its value. Raises StoreError."""
        if self._closed:
            raise StoreError("the outbox is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, query)

    async def close(self) -> None:
        """Let the query under way end and close the connection. May be called again."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._link.drop)
            self._thread.shutdown()

    def _read(self, query: Callable[[PostgresTx], T]) -> T:
        try:
            return self._link.run(lambda *begun: query(self._open_tx(*begun)), reading=True)
        except Exception as error:
            failure = explain_failure(error)
            if failure is None or failure is error:
                raise
            raise failure from error
