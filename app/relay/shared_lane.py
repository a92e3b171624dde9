"""A lane that several replicas serve: its pace, its pause, its luck and its turn stand in its row, not in a process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from app.delivery.decide import Decision
from app.delivery.pace import ready_at
from app.errors import StoreError
from app.model.delivery import Attempt, Outcome
from app.observe.attempts import report_limits
from app.outbox.batch import Apart
from app.outbox.floors import WALK_EVERY_S
from app.outbox.lanes import SharedClaim, SharedClaimed, Shown, add_lane, claim_shared
from app.outbox.values import Floors, LaneState
from app.relay.lane import Lane

# While a peer has the row: it has it for a few ms.
AGAIN_MS = (2, 10)


class SharedLane(Lane):
    """A replica's part of a lane. What its sends have shown it tells with its next claim, under the row's lock."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._shown: list[Shown] = []
        self._floors: Floors = {}
        self._walk_at = 0.0  # by the loop's time

    async def _recall(self) -> LaneState:
        await self._context.outbox.write(partial(add_lane, provider=self.name))
        return LaneState()

    async def _remember(self, saved: LaneState) -> None:
        """Keep nothing beside the row."""

    async def _remember_last(self) -> None:
        try:
            if self._shown:
                await self._claim_shared(0)
        except StoreError as error:
            self._tell_failed(error)

    def _note(self, outcome: Outcome, decision: Decision, now: int) -> None:
        self._shown.append(Shown(outcome, decision.lane_pause_until))
        super()._note(outcome, decision, now)

    async def _claim(self) -> tuple[Sequence[Attempt], int | None]:
        now, free = self._context.clock(), self.settings.concurrency - len(self._open)
        # What others claim puts it off further, never forward; but a peer may have seen that the provider is up again.
        is_too_early = ready_at(self._pace, now) > now and not self._pace.recovery.down
        if not self._shown and (free <= 0 or is_too_early):
            return (), now
        done = await self._claim_shared(free)
        if done is None:
            return (), now + random.randint(*AGAIN_MS)  # noqa: S311  # jitter
        claimed = done.claimed
        if claimed.holds_set or claimed.limited:
            report_limits(self._context.log, self._context.metrics, claimed.holds_set, claimed.limited)
        walk_at = now + int((self._walk_at - asyncio.get_running_loop().time()) * 1000)
        return claimed.attempts, walk_at if claimed.next_due is None else min(claimed.next_due, walk_at)

    async def _claim_shared(self, free: int) -> SharedClaimed | None:
        told, began = len(self._shown), asyncio.get_running_loop().time()
        floors = self._floors if began < self._walk_at else {}
        claim = replace(await self._ask_for(self._context.clock(), free), floors=floors)
        shown = tuple(self._shown[:told])
        asked = SharedClaim(claim, self.settings.rate_per_s, free, len(self._open), shown)
        done = await self._context.outbox.write(Apart(partial(claim_shared, asked=asked)))
        if done is not None:
            del self._shown[:told]
            if done.claimed.floors is not None:  # committed: what was opened does not come back below them
                self._floors = {**self._floors, **done.claimed.floors}
                self._walk_at = began + WALK_EVERY_S if began >= self._walk_at else self._walk_at
            self._pace = done.pace
            for each in self._shown:  # of sends that ended meanwhile: the row learns of them with the next claim
                self._pace = each.apply(self._pace, self._context.clock())
        return done
