"""Keeping waits right when the wall clock is set, while the relay runs or while it was down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from app.clock import Clock, SteadyClock
from app.errors import StoreBroken, StoreError
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.outbox.lanes import read_time, shift_waits
from app.outbox.store import Store

BEHIND_MS = 5_000


class Timekeeper:
    """Moves the outbox's waits with the clock. A clock that is not steady is taken as it is."""

    def __init__(self, clock: Clock, outbox: Store, metrics: Metrics, log: Log) -> None:
        self._clock = clock
        self._outbox = outbox
        self._metrics = metrics
        self._log = log
        self._shifted_ms: int | None = None  # what the store has seen for certain

    async def settle(self) -> None:
        """At the start, before anything is claimed: if the clock was set back meanwhile, no retry waits for that.

        Raises StoreError.
        """
        time = await self._outbox.write(read_time)
        self._shifted_ms = time.shifted_ms
        by_ms = self._clock() - (time.newest or 0)
        if by_ms < -BEHIND_MS:
            self._log.warning("clock.behind_store", by_s=-by_ms / 1000)
            self._count(by_ms)
            self._shifted_ms += by_ms
            await self._shift_waits(self._shifted_ms)

    async def follow(self, tell: Callable[[int], None]) -> None:
        """Adopt a step of the wall clock, if there was one. `tell` is given by how many ms what is in memory moves.

        From the first line to the last nothing is claimed. If the store cannot be sure of the commit, the
        clock goes back to its old time until it can: the next call tries again.
        """
        clock = self._clock
        if not isinstance(clock, SteadyClock) or clock.is_settled:
            return
        if self._shifted_ms is None:
            self._shifted_ms = (await self._outbox.write(read_time)).shifted_ms
        by_ms = clock.begin_step()
        # Told before the commit is waited for: what anybody writes from here on comes behind it, in the new time.
        tell(by_ms)
        try:
            await self._shift_waits(self._shifted_ms + by_ms)
        except StoreBroken:
            raise
        except StoreError as error:
            clock.undo_step()
            tell(-by_ms)
            self._log.warning("clock.not_followed", by_s=by_ms / 1000, detail=str(error))
            return
        self._shifted_ms += by_ms
        clock.end_step()
        if by_ms:
            self._count(by_ms)
            self._log.warning("clock.stepped", by_s=by_ms / 1000)

    async def _shift_waits(self, total_ms: int) -> None:
        await self._outbox.write(partial(shift_waits, total_ms=total_ms), essential=True)

    def _count(self, by_ms: int) -> None:
        self._metrics.clock_steps.labels("forward" if by_ms > 0 else "backward").inc()
