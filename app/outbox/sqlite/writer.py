"""The one thread that writes: what comes in one turn of the loop, or waits while a commit runs, shares the next commit.

A commit costs a flush of the disk; shared by all that wait, durability is nearly free. A job is a function
of the transaction. It must be safe to run again: if one job of a batch raises, the batch is rolled back
and each job is run in a transaction of its own, so that a bad one hurts nobody else.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.move import write_counts
from app.outbox.sqlite.file import BUSY_TIMEOUT_MS, explain_failure, wait_for_lock
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.store import run_together

T = TypeVar("T")

# While another program keeps the file locked: once the first batch has waited in vain, the others only look.
IMPATIENT_MS = 100
QUEUE_LIMIT = 10_000
BATCH_LIMIT = 500
RESERVE_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Waiting:
    """A submitted job, who waits for it, and then its answer."""

    job: Callable[[Any], Any]
    essential: bool
    alone: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Reserve:
    """A file of 1 MiB that can be given up once and is taken again when there is space.

    On a full disk SQLite can neither insert, update nor delete; without this, sends that were under way could not be
    recorded as done and would be sent again after a restart.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        """Keep `size` bytes at `path`; nothing is written before `restore`."""
        self._path = path
        self._size = size
        self.whole = False

    def restore(self) -> bool:
        """Take the space; False if the disk has none."""
        try:
            if not self._path.exists() or self._path.stat().st_size < self._size:
                self._fill()
        except OSError:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)  # a part of it would only take the space away
            self.whole = False
            return False
        self.whole = True
        return True

    def release(self) -> bool:
        """Give the space up; False if it was given up before."""
        if not self.whole:
            return False
        self.whole = False
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return True

    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = memoryview(os.urandom(self._size))  # not zeros: a compressing file system would keep no space
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Writer:
    """Owns the writing connection from construction to `close`."""

    def __init__(
        self,
        db: sqlite3.Connection,
        reserve: Reserve,
        begin: Callable[[sqlite3.Connection], SqliteTx],
        queue_limit: int = QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread. `db` must allow use from another thread and have no transaction open.

        `begin` returns what the jobs of a transaction are given. `watch` raises StoreBroken when the file is no longer
        the one that everybody else sees.
        """
        self._db = db
        self._open_tx = begin
        self._watch = watch
        self._reserve = reserve
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}  # what came in a loop's present turn
        self._closed = False
        self._impatient = False
        self.broken: StoreBroken | None = None
        self._thread = threading.Thread(target=self._work, name="outbox-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Any], T], *, essential: bool = False, alone: bool = False) -> T:
        """Run `job` in a transaction and return its value once that is committed with fsync.

        An essential job (it records an outcome) is not refused for want of room in the queue, and may use
        the reserve on a full disk. `alone`: see run_alone. Raises StoreBusy, StoreFull, StoreBroken, or what the job
        raised.
        """
        if self.broken is not None:
            raise StoreBroken(str(self.broken))
        if self._closed:
            raise StoreError("the outbox is closed")
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(loop, [])
        if self._queue.qsize() + len(turn) >= self._queue_limit and not essential:
            raise StoreBusy(f"{self._queue_limit} writes wait for the outbox already; try again later")
        future: asyncio.Future[T] = loop.create_future()
        if not turn:  # were it handed over at once, the thread would begin a commit for it alone
            loop.call_soon(self._hand_over, loop)
        turn.append(_Waiting(job, essential, alone, loop, future))
        return await future

    async def run_alone(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` outside any transaction (a checkpoint)."""
        return await self.run(job, alone=True)

    async def close(self) -> None:
        """Commit and answer what waits, checkpoint, close the connection. May be called again."""
        if not self._closed:
            self._closed = True
            for loop in list(self._turns):
                self._hand_over(loop)
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        for waiting in self._turns.pop(loop, ()):
            self._queue.put(waiting)

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._drain()
            together = [waiting for waiting in batch if not waiting.alone]
            if together:
                self._settle_admitted(together)
                _answer(together)
            for waiting in batch:
                if waiting.alone:
                    self._run_bare(waiting)
                    _answer([waiting])
        with suppress(sqlite3.Error):  # the write-ahead log stays then, and is read at the next start
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._db.close()

    def _drain(self) -> tuple[list[_Waiting], bool]:
        """Wait for a job and take all that wait by then; True with the last ones."""
        batch: list[_Waiting] = []
        with suppress(queue.Empty):
            while len(batch) < self._batch_limit:
                waiting = self._queue.get(block=not batch)
                if waiting is None:
                    return batch, True
                batch.append(waiting)
        return batch, False

    def _settle_admitted(self, batch: Sequence[_Waiting]) -> None:
        """Settle a batch; while the reserve is gone, what space is left belongs to outcomes."""
        admitted = [waiting for waiting in batch if waiting.essential]
        if len(admitted) < len(batch):
            if self._reserve.whole or self._reserve.restore():
                admitted = list(batch)
            else:
                _refuse_others(batch)
        if admitted:
            self._settle(admitted)

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        """Give each of the batch its result or its error."""
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever a job raised belongs to its caller, not to this thread
            failure = self._explain(error)
            if isinstance(failure, StoreFull):
                self._settle_on_full_disk(batch, failure)
            elif failure is not None or len(batch) == 1:
                _fail(batch, failure or error)
            else:
                for waiting in batch:
                    self._settle([waiting])

    def _settle_on_full_disk(self, batch: Sequence[_Waiting], failure: StoreFull) -> None:
        """Record outcomes at any price: give up the reserve, and try them once more."""
        outcomes = [waiting for waiting in batch if waiting.essential]
        others = [waiting for waiting in batch if not waiting.essential]
        # With others in the batch, perhaps it was those that did not fit.
        if outcomes and (others or self._reserve.release()):
            self._settle(outcomes)
        else:
            _fail(outcomes, failure)
        if len(batch) == 1 or not self._reserve.whole:
            _fail(others, failure)
        else:
            for waiting in others:
                self._settle([waiting])

    def _transact(self, batch: Sequence[_Waiting]) -> None:
        if self.broken is not None:
            raise StoreBroken(str(self.broken))
        db = self._db
        self._begin()
        try:
            tx = self._open_tx(db)
            results = run_together(tx, [waiting.job for waiting in batch])
            write_counts(tx)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite has rolled back by itself after some errors
                db.execute("ROLLBACK")
            raise
        self._watch()  # after the commit: what went into a file that is gone is not acknowledged
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result

    def _begin(self) -> None:
        """Take the file's lock. Raises SQLITE_BUSY, after BUSY_TIMEOUT_MS the first time and IMPATIENT_MS then."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if isinstance(explain_failure(error), StoreBusy) and not self._impatient:
                self._impatient = True
                wait_for_lock(self._db, IMPATIENT_MS)
            raise
        if self._impatient:
            self._impatient = False
            wait_for_lock(self._db, BUSY_TIMEOUT_MS)

    def _run_bare(self, waiting: _Waiting) -> None:
        try:
            waiting.result = waiting.job(self._db)
        except Exception as error:  # noqa: BLE001 - as in _settle
            waiting.error = self._explain(error) or error

    def _explain(self, error: Exception) -> StoreError | None:
        failure = explain_failure(error)
        if isinstance(failure, StoreBroken):
            self.broken = failure
        return failure


def _refuse_others(batch: Sequence[_Waiting]) -> None:
    _fail([waiting for waiting in batch if not waiting.essential], StoreFull("the disk under the outbox is full"))


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        waiting.error = error


def _answer(batch: Sequence[_Waiting]) -> None:
    """Wake every caller, with one call a loop; a caller that has gone away is nobody's trouble."""
    for loop in {waiting.loop for waiting in batch}:
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_resolve, [waiting for waiting in batch if waiting.loop is loop])


def _resolve(batch: Sequence[_Waiting]) -> None:
    for waiting in batch:
        if waiting.future.done():  # cancelled meanwhile
            continue
        if waiting.error is None:
            waiting.future.set_result(waiting.result)
        elif isinstance(waiting.error, StoreError):  # each caller its own: a traceback must not be shared
            waiting.future.set_exception(type(waiting.error)(str(waiting.error)))
        else:
            waiting.future.set_exception(waiting.error)
