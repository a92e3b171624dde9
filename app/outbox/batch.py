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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from app.errors import StoreBroken, StoreBusy, StoreError
from app.model.value import dataclass
from app.outbox.store import Job, Tx

T = TypeVar("T")

QUEUE_LIMIT = 10_000
BATCH_LIMIT = 500
TAKING_S = 0.001  # some 30 µs on a machine that has nothing else to do


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
    for many, places in sorted(alike.items(), key=lambda kind: jobs[kind[1][0]].is_last):
        answers = many(tx, [jobs[place].item for place in places])
        for place, answer in zip(places, answers, strict=True):
            values[place] = answer
    alike.clear()


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


class _Given(NamedTuple):
    """A batch is given by the loop that began it to the thread, which looks at each of it only where it has to.

    It runs on another core, where it would wait for each, and then the loop once more.
    """

    loop: asyncio.AbstractEventLoop
    batch: list[Waiting]
    together: list[Waiting]  # those that share a transaction
    others: set[asyncio.AbstractEventLoop]  # whose they are beside that one's


class BatchWriter:
    """Hands one batch at a time to its thread, from `start` to `close`. A database says how it settles them.

    `turns`: so many of the loop pass after an answer before the next batch begins.
    """

    turns = 1

    def __init__(self, queue_limit: int = QUEUE_LIMIT, batch_limit: int = BATCH_LIMIT) -> None:
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._waiting: deque[Waiting] = deque()
        self._busy = False  # a batch is begun, or is about to be
        self._closed = False
        self._turn = threading.Lock()  # over the three, for whom several loops wait
        self._queue: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
        self._taken: queue.SimpleQueue[list[Waiting]] = queue.SimpleQueue()  # what the thread has begun with
        self.broken: StoreBroken | None = None
        self._thread = threading.Thread(target=self._work, name="outbox-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, job: Callable[[Any], T], *, essential: bool = False, alone: bool = False) -> asyncio.Future[T]:
        """Run `job` in a transaction; return what gets its value once that is committed with fsync.

        An essential job (it records an outcome) is not refused for want of room in the queue, and may use
        the reserve on a full disk. `alone`: see run_alone. What is returned raises StoreBusy, StoreFull, StoreBroken,
        or what the job raised. It is no coroutine: each of an event's is felt in its time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self.broken is not None:
            future.set_exception(StoreBroken(str(self.broken)))
            return future
        if len(self._waiting) >= self._queue_limit and not essential:
            busy = f"{self._queue_limit} writes wait for the outbox already; try again later"
            future.set_exception(StoreBusy(busy))
            return future
        with self._turn:
            if self._closed:
                future.set_exception(StoreError("the outbox is closed"))
                return future
            self._waiting.append(Waiting(job, essential, alone, loop, future))
            if not self._busy:
                self._busy = True
                loop.call_soon(self._begin_batch, loop)  # at once, it would be a commit for this one alone
        return future

    async def run_alone(self, job: Callable[[Any], T]) -> T:
        """Run `job` on the connection outside any transaction (a checkpoint)."""
        return await self.run(job, alone=True)

    async def close(self) -> None:
        """Commit and answer what waits, release the connection. May be called again."""
        with self._turn:
            if not (self._closed or self._busy):
                self._queue.put(None)
            self._closed = True
        await asyncio.to_thread(self._thread.join)

    def _begin_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what waits to the thread; the loop that began a batch begins the next one, too."""
        with self._turn:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            if not batch:
                self._rest()
                return
        together = [waiting for waiting in batch if not waiting.alone]
        others = {waiting.loop for waiting in batch} - {loop}
        try:
            self._prepare(together)
        finally:  # whatever became of it: else they would wait for ever
            self._queue.put(_Given(loop, batch, together, others))
            self._wait_until_taken(batch)

    def _wait_until_taken(self, batch: list[Waiting]) -> None:
        """Let the thread have the interpreter, to begin the commit.

        Else it would ask for it in vain until the loop has nothing to do, and the loop had nothing to do meanwhile.
        """
        try:  # `suppress` takes three calls
            while self._taken.get(timeout=TAKING_S) is not batch:  # one before, which took longer
                pass
        except queue.Empty:  # it begins when the machine lets it
            pass

    def _rest(self) -> None:
        self._busy = False
        if self._closed:
            self._queue.put(None)

    def _work(self) -> None:
        while (given := self._queue.get()) is not None:
            began, batch, together, others = given
            self._taken.put(batch)
            if together:
                self._settle_together(together)
            for waiting in batch if len(together) < len(batch) else ():
                if waiting.alone:
                    self._run_alone(waiting)
            for loop in others:
                with suppress(RuntimeError):  # that loop is closed, and its callers are nobody's trouble
                    loop.call_soon_threadsafe(_resolve, [waiting for waiting in batch if waiting.loop is loop])
            if others:
                batch = [waiting for waiting in batch if waiting.loop is began]
            try:
                began.call_soon_threadsafe(self._go_on, began, batch)
            except RuntimeError:
                self._begin_elsewhere()
        self._release()

    def _go_on(self, loop: asyncio.AbstractEventLoop, batch: Sequence[Waiting]) -> None:
        _resolve(batch)
        self._collect(loop, self.turns)

    def _collect(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Begin the next batch behind all that go on now, and some turns later: what they want next shares it."""
        if turns:
            loop.call_soon(self._collect, loop, turns - 1)
        else:
            self._begin_batch(loop)

    def _begin_elsewhere(self) -> None:
        """Let another loop begin the next batch, if one waits that is not closed."""
        with self._turn:
            while self._waiting:
                loop = self._waiting[0].loop
                try:
                    loop.call_soon_threadsafe(self._begin_batch, loop)
                except RuntimeError:
                    self._waiting.popleft()
                else:
                    return
            self._rest()

    # -- what a database adds ----------------------------------------------------------------------

    def _prepare(self, batch: Sequence[Waiting]) -> None:
        """Do on the loop what the thread then has not to, if anything."""

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        """Give each of the batch its result or its error."""
        raise NotImplementedError

    def _run_alone(self, waiting: Waiting) -> None:
        """Give one its result or its error, outside any transaction."""
        raise NotImplementedError

    def _release(self) -> None:
        """Release the connection."""
        raise NotImplementedError


def _resolve(batch: Sequence[Waiting]) -> None:
    for waiting in batch:
        if waiting.future.done():  # cancelled meanwhile
            continue
        if waiting.error is None:
            waiting.future.set_result(waiting.result)
        elif isinstance(waiting.error, StoreError):  # each caller its own: a traceback must not be shared
            waiting.future.set_exception(type(waiting.error)(str(waiting.error)))
        else:
            waiting.future.set_exception(waiting.error)


def fail(batch: Sequence[Waiting], error: Exception) -> None:
    """Give all of a batch the same error."""
    for waiting in batch:
        waiting.error = error
