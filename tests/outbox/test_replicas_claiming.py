"""Three replicas at one lane: one rate, one gap, one turn, whoever claims. The row of the lane is what sees to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from app.delivery.pace import grant, settle_grant
from app.model.delivery import Attempt
from app.outbox.batch import Apart
from app.outbox.claim import Claim, claim_due
from app.outbox.store import Tx
from tests.outbox.fleet import LEASE_MS, PROVIDER, Replica, Sends, fill, read_sends, run_fleet
from tests.outbox.postgres_outbox import Place, PostgresOutbox

RATE = 100.0
BURST = 5
COUPONS, BURSTS, PEOPLE = 60, 90, 10

# What everybody writes first: the rows lock each other out, and the gap is looked at in the same statement.
NAIVE = """
UPDATE deliveries SET state = 'sending', attempts = 1, steps = 2, last_attempt_at = :now, lease_until = :lease
WHERE seq IN (
    SELECT d.seq FROM deliveries d WHERE d.state = 'pending' AND d.provider = 'gallabox' AND NOT EXISTS (
        SELECT 1 FROM recipient_turns t WHERE t.recipient = d.recipient AND t.last_at > :now - 6000)
    ORDER BY d.due_at, d.seq LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING provider, recipient
"""
TAKE_TURN = """
INSERT INTO recipient_turns VALUES (:provider, :recipient, :now)
ON CONFLICT (provider, recipient) DO UPDATE SET last_at = excluded.last_at
"""


@dataclass
class Alone(Replica):
    """A control: it grants from its own memory and locks no lane, as the one process at an SQLite file may."""

    async def claim(self) -> Sequence[Attempt]:
        self.pace, granted = grant(self.pace, self.places, 0, self.store.clock())
        if not granted:
            return ()
        claim = Claim(PROVIDER, self.store.clock(), granted, LEASE_MS)
        claimed = await self.store.write(Apart(partial(claim_due, claim=claim)))
        self.pace = settle_grant(self.pace, granted, len(claimed.attempts), self.store.clock())
        return claimed.attempts


@dataclass
class Naive(Alone):
    """A control: SKIP LOCKED over the deliveries alone."""

    async def claim(self) -> Sequence[Attempt]:
        self.pace, granted = grant(self.pace, self.places, 0, self.store.clock())
        await self.store.write(Apart(partial(_claim_naively, limit=granted)))
        self.claimed = getattr(self, "claimed", 0) + granted
        return ()


def _claim_naively(tx: Tx, limit: int) -> None:
    taken = {row.recipient: row for row in tx.rows(NAIVE, now=tx.now, lease=tx.now + LEASE_MS, limit=limit)}
    tx.run_many(TAKE_TURN, [{**row._asdict(), "now": tx.now} for row in taken.values()])


@pytest.fixture
async def run_three(postgres_place: Place) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as opened:

        async def run(
            kind: type[Replica], enough: int, reminders: int = 5_000, rate: float = RATE, **more: int
        ) -> Sends:
            stores = [PostgresOutbox(postgres_place.url) for _ in range(3)]
            for store in stores:
                await opened.enter_async_context(aclosing(Closing(store)))
            counts = {"bursts": BURSTS, "reminders": reminders, "coupons": COUPONS, **more}
            for route, count in counts.items():
                people = PEOPLE if route == "bursts" else None
                await stores[0].write(partial(fill, route=route, count=count, people=people))
            replicas = [kind(store, rate) for store in stores]
            await run_fleet(replicas, lambda: sum(_count(each) for each in replicas) >= enough)
            return await stores[0].read(read_sends)

        yield run


class Closing:
    def __init__(self, store: PostgresOutbox) -> None:
        self._store = store

    async def aclose(self) -> None:
        await self._store.close()


def _count(replica: Replica) -> int:
    return getattr(replica, "claimed", 0) or len(replica.sent)


async def test_three_replicas_never_exceed_one_rate_keep_the_gap_and_take_turns(run_three: Callable[..., Any]) -> None:
    sends = await run_three(Replica, enough=300)
    assert sends.most_in_a_second() <= RATE + BURST
    assert sends.count_gaps() == 0
    assert sends.count("coupons") == COUPONS
    assert sends.place_of_last("coupons") <= 3 * COUPONS + PEOPLE


async def test_control_replicas_that_grant_from_memory_exceed_the_rate(run_three: Callable[..., Any]) -> None:
    sends = await run_three(Alone, enough=600)
    assert sends.most_in_a_second() > RATE + BURST  # 300 on an idle machine


async def test_control_rows_that_are_skipped_while_locked_break_gap_and_turns(run_three: Callable[..., Any]) -> None:
    sends = await run_three(Naive, enough=600)
    assert sends.count_gaps() > 0
    assert sends.count("coupons") == 0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rate", [16.0, 500.0])
async def test_a_hundred_thousand_reminders_change_nothing(run_three: Callable[..., Any], rate: float) -> None:
    enough = 250 if rate == 16.0 else 3_000
    sends = await run_three(Replica, enough, 100_000, rate, coupons=200, bursts=300)
    assert sends.most_in_a_second() <= rate + max(rate * 0.05, 1)
    assert sends.count_gaps() == 0
    assert sends.count("coupons") >= min(200, enough // 3 - 10)
