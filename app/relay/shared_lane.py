"""A lane that several replicas serve: its pace, its pause, its luck and its turn stand in its row, not in a process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from app.delivery.decide import Decision
from app.delivery.pace import Pace, Recovery, at_tat, grant, note_attempt, read_tat, ready_at, settle_grant
from app.errors import StoreError
from app.model.delivery import Attempt, Outcome
from app.model.message import NO_LIMITS
from app.observe.attempts import report_limits
from app.outbox.batch import Apart
from app.outbox.claim import Claim, open_due
from app.outbox.lanes import WALK_EVERY_S, add_lane, keep_lane, lock_lane
from app.outbox.store import Tx
from app.outbox.values import Claimed, Floors, LaneState
from app.relay.lane import Lane

AGAIN_MS = (2, 10)  # while a peer has the row: it has it for a few ms


class SharedLane(Lane):
    """A replica's part of a lane. What its sends have shown it tells with its next claim, under the row's lock."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._shown: list[tuple[Outcome, int | None]] = []
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
        self._shown.append((outcome, decision.lane_pause_until))
        super()._note(outcome, decision, now)

    async def _claim(self) -> tuple[Sequence[Attempt], int | None]:
        now, free = self._context.clock(), self.settings.concurrency - self._busy
        # What others claim puts it off further, never forward; but a peer may have seen that the provider is up again.
        is_too_early = ready_at(self._pace, now) > now and not self._pace.recovery.down
        if not self._shown and (free <= 0 or is_too_early):
            return (), now
        claimed = await self._claim_shared(free)
        if claimed is None:
            return (), now + random.randint(*AGAIN_MS)  # noqa: S311  # jitter
        if claimed.holds_set or claimed.limited:
            report_limits(self._context.log, self._context.metrics, claimed.holds_set, claimed.limited)
        walk_at = now + int((self._walk_at - asyncio.get_running_loop().time()) * 1000)
        return claimed.attempts, walk_at if claimed.next_due is None else min(claimed.next_due, walk_at)

    async def _claim_shared(self, free: int) -> Claimed | None:
        told, began = len(self._shown), asyncio.get_running_loop().time()
        floors = self._floors if began < self._walk_at else {}
        claim = replace(await self._ask_for(self._context.clock(), free), floors=floors)
        asked = (claim, self.settings.rate_per_s, self._busy, self._shown[:told])
        done = await self._context.outbox.write(Apart(lambda tx: claim_shared(tx, *asked)))
        if done is None:
            return None
        claimed, self._pace = done
        del self._shown[:told]
        if claimed.floors is not None:  # committed: what was opened does not come back below them
            self._floors = {**self._floors, **claimed.floors}
            self._walk_at = began + WALK_EVERY_S if began >= self._walk_at else self._walk_at
        for outcome, pause_until in self._shown:  # of sends that ended meanwhile: the row learns of them next time
            self._pace = note_attempt(self._pace, outcome, pause_until, self._context.clock())
        return claimed


def claim_shared(
    tx: Tx, claim: Claim, full_per_s: float, busy: int, shown: Sequence[tuple[Outcome, int | None]]
) -> tuple[Claimed, Pace] | None:
    """Claim for a lane at the pace of its row, and return that, too; None while another replica has it.

    The time is the database's, read with the lock: no replica's own clock grants anything. `claim.limit`: the places
    that are free beside the `busy` ones. `shown`: what the replica's sends have shown of the provider, and until when
    each would pause the lane.
    """
    row = lock_lane(tx, claim.provider)
    if row is None:
        return None
    now = row.now
    recovery = Recovery(row.failures, row.probe_at, row.resumed_at, row.down_since)
    pace = before = at_tat(full_per_s, recovery, row.paused_until, row.tat, now)
    for outcome, pause_until in shown:
        pace = note_attempt(pace, outcome, pause_until, now)
    pace, granted = grant(pace, claim.limit, busy, now)
    claimed = Claimed((), next_due=now)
    if granted:
        if claim.limits is not NO_LIMITS:
            tx.lock("limits", wait=True)  # some are of all lanes: one lane's claim waits for another's
        claimed = open_due(tx, replace(claim, now=now, limit=granted, after=row.served))
        pace = settle_grant(pace, granted, len(claimed.attempts), now)
    if claimed.attempts or (pace.recovery, pace.paused_until) != (before.recovery, before.paused_until):
        ordinary = [attempt.delivery.route for attempt in claimed.attempts if not attempt.probes]
        served = ordinary[-1] if ordinary else row.served
        luck = {"paused_until": pace.paused_until, **asdict(pace.recovery)}
        keep_lane(tx, claim.provider, now=now, tat=read_tat(pace), served=served, **luck)
    return claimed, pace
