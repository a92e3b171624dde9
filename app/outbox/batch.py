"""A thread that writes: what comes in one turn of the loop, or waits while a commit runs, shares the next commit.

A commit costs a flush of the disk; shared by all that wait, durability is nearly free. So that whoever had a part in
one and at once wants the next (a lane, say) shares that, too, it begins when they have had their turn. A job is a
function of the transaction. It must be safe to run again: if one job of a batch raises, the batch is rolled back and
each job is run in a transaction of its own, so that a bad one hurts nobody else.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from app.errors import StoreBroken, StoreBusy, StoreError
from app.outbox.store import Job, Tx

T = TypeVar("T")

QUEUE_LIMIT = 10_000
BATCH_LIMIT = 500
LONGEST_TURN_S = 0.1  # so long the thread waits for a loop that it has answered


@dataclass(frozen=True, slots=True)
class Apart(Generic[T]):
    """A job that takes locks: where others write, too, it gets a transaction of its own and holds nobody up."""

    job: Callable[[Tx], T]

    def __call__(self, tx: Tx) -> T:
        """Run."""
        return self.job(tx)


def run_together(tx: Tx, jobs: Sequence[Callable[[Any], Any]]) -> list[Any]:
    """Run jobs; return their values. Alike ones go together, but past none that is of no kind."""
    if len(jobs) == 1:
        return [jobs[0](tx)]
    values: list[Any] = [None] * len(jobs)
    alike: dict[Callable[..., Any], list[int]] = {}
    for place, job in enumerate(jobs):
        if isinstance(job, Job):
            alike.setdefault(job.many, []).append(place)
            continue
        if alike:
            _run_alike(tx, jobs, alike, values)
        values[place] = job(tx)
    if alike:
        _run_alike(tx, jobs, alike, values)
    return values


def _run_alike(tx: Tx, jobs: Sequence[Any], alike: dict[Callable[..., Any], list[int]], values: list[Any]) -> None:
    for many, places in alike.items():
        answers = many(tx, [jobs[place].item for place in places])
        for place, answer in zip(places, answers, strict=True):
            values[place] = answer
    alike.clear()


class Mark(Enum):
    """The thread is told this beside the jobs."""

    TURN_OVER = "whoever was answered has had a turn"
    CLOSED = "there will be no more"


@dataclass(slots=True, eq=False)
class Waiting:
    """A submitted job, who waits for it, and then its answer."""

    job: Callable[[Any], Any]
    essential: bool
    alone: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class BatchWriter:
    """Hands batches to one thread, from `start` to `close`. A database says how it settles them."""

    def __init__(self, queue_limit: int = QUEUE_LIMIT, batch_limit: int = BATCH_LIMIT) -> None:
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._queue: queue.SimpleQueue[Waiting | Mark] = queue.SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}  # what came in a loop's present turn
        self._closed = False
        self.broken: StoreBroken | None = None
        self._thread = threading.Thread(target=self._work, name="outbox-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
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
        turn.append(Waiting(job, essential, alone, loop, future))
        return await future

    async def run_alone(self, job: Callable[[Any], T]) -> T:
        """Run `job` on the connection outside any transaction (a checkpoint)."""
        return await self.run(job, alone=True)

    async def close(self) -> None:
        """Commit and answer what waits, release the connection. May be called again."""
        if not self._closed:
            self._closed = True
            for loop in list(self._turns):
                self._hand_over(loop)
            self._queue.put(Mark.CLOSED)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        for waiting in self._turns.pop(loop, ()):
            self._queue.put(waiting)

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._hand_over(loop)
        self._queue.put(Mark.TURN_OVER)

    def _work(self) -> None:
        turns, last = 0, False
        while not last:
            batch, last = self._drain(turns)
            turns = 0
            together = [waiting for waiting in batch if not waiting.alone]
            if together:
                self._settle_together(together)
                turns += self._answer(together)
            for waiting in batch:
                if waiting.alone:
                    self._run_alone(waiting)
                    turns += self._answer([waiting])
        self._release()

    def _drain(self, turns: int) -> tuple[list[Waiting], bool]:
        """Wait for a job, and for as many turns, and take all that wait by then; True with the last ones."""
        batch: list[Waiting] = []
        with suppress(queue.Empty):
            while len(batch) < self._batch_limit:
                is_awaited = turns > 0
                item = self._queue.get(is_awaited or not batch, LONGEST_TURN_S if is_awaited else None)
                if item is Mark.CLOSED:
                    return batch, True
                if item is Mark.TURN_OVER:
                    turns -= 1
                else:
                    batch.append(item)
        return batch, False

    def _answer(self, batch: Sequence[Waiting]) -> int:
        """Wake every caller, with one call a loop; return how many loops were told."""
        turns = 0
        for loop in {waiting.loop for waiting in batch}:
            with suppress(RuntimeError):  # that loop is closed, and its callers are nobody's trouble
                own = [waiting for waiting in batch if waiting.loop is loop]
                loop.call_soon_threadsafe(self._resolve, loop, own)
                turns += 1
        return turns

    def _resolve(self, loop: asyncio.AbstractEventLoop, batch: Sequence[Waiting]) -> None:
        for waiting in batch:
            if waiting.future.done():  # cancelled meanwhile
                continue
            if waiting.error is None:
                waiting.future.set_result(waiting.result)
            elif isinstance(waiting.error, StoreError):  # each caller its own: a traceback must not be shared
                waiting.future.set_exception(type(waiting.error)(str(waiting.error)))
            else:
                waiting.future.set_exception(waiting.error)
        loop.call_soon(self._end_turn, loop)  # behind all that go on now

    # -- what a database adds ----------------------------------------------------------------------

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        """Give each of the batch its result or its error."""
        raise NotImplementedError

    def _run_alone(self, waiting: Waiting) -> None:
        """Give one its result or its error, outside any transaction."""
        raise NotImplementedError

    def _release(self) -> None:
        """Release the connection."""
        raise NotImplementedError


def fail(batch: Sequence[Waiting], error: Exception) -> None:
    """Give all of a batch the same error."""
    for waiting in batch:
        waiting.error = error
