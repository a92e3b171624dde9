"""A held snapshot makes no claim slower, for nobody walks what has gone; and nothing that waits is overlooked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest

from app.delivery.decide import Decision
from app.delivery.pace import Turns
from app.mapping.provider import ProviderSettings
from app.model.delivery import Attempt, Reason, Retryable, State, Uncertain
from app.outbox.batch import Apart
from app.outbox.claim import Claim, open_due
from app.outbox.floors import SLACK_MS, read_groups_above
from app.outbox.holds import free_waiting, put_hold, release_hold
from app.outbox.lanes import add_lane, claim_shared
from app.outbox.postgres import tx
from app.outbox.store import Tx
from app.outbox.sweep import resend_unknown
from app.outbox.values import Floors
from app.relay import shared_lane
from tests.contexts import build_context
from tests.outbox.fleet import LEASE_MS, PROVIDER, Replica, fill
from tests.outbox.postgres_outbox import Place, PostgresOutbox
from tests.outbox.test_replicas_sharing import HOUR

LATE = 60_000  # so long before now is far below every floor


@pytest.fixture
def one(open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_replica(recipient_gap_ms=0))


# -- a held snapshot -------------------------------------------------------------------------------


@contextmanager
def hold_snapshot(place: Place) -> Iterator[None]:
    with psycopg.connect(place.direct.partition("?")[0]) as holding:
        holding.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holding.execute("SELECT count(*) FROM pg_class")
        yield


def clean_up(place: Place) -> None:
    """Leave no dead row of the test before: a walk would be dear from the start, and grow the less."""
    url, _, schema = place.direct.partition("?schema=")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"VACUUM {schema}.deliveries".encode())


class Forgetful(Replica):
    """A control: it remembers no floor."""

    async def claim(self) -> Sequence[Attempt]:
        self.walk_at = 0
        return await super().claim()


@dataclass
class Pages:
    """Counts the pages that looks at what waits go through, by what the server tells of the very statement."""

    read: int | None = None

    def watch(self, whole: Callable[..., Any], of: Any, sql: str, /, **values: Any) -> Any:
        if self.read is not None and "state = 'pending'" in sql and "due_at" in sql:
            ((told,),) = whole(of, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", **values)
            self.read += told[0]["Plan"]["Shared Hit Blocks"] + told[0]["Plan"]["Shared Read Blocks"]
        return whole(of, sql, **values)

    async def count(self, replica: Replica, count: int) -> float:
        """Return how many each of so many messages takes."""
        self.read = 0
        await send_some(replica, count)
        each, self.read = self.read / count, None
        return each


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    found, whole = Pages(), tx.PostgresTx.rows
    monkeypatch.setattr(tx.PostgresTx, "rows", lambda self, sql, /, **values: found.watch(whole, self, sql, **values))
    return found


async def send_some(replica: Replica, count: int) -> None:
    ends_at = len(replica.sent) + count
    while len(replica.sent) < ends_at:
        attempts = await replica.claim()
        replica.sent += attempts
        await asyncio.gather(*(replica.close(attempt) for attempt in attempts))


async def compare_pages(
    place: Place, replica: Replica, pages: Pages, pass_time: Callable[[], Awaitable[Any]], count: int = 64
) -> float:
    """Return how many times as many pages a message costs late in a held snapshot as early in it."""
    await replica.store.write(partial(add_lane, provider=PROVIDER))
    clean_up(place)
    with hold_snapshot(place):
        early = await pages.count(replica, count)
        await pass_time()
        return await pages.count(replica, count) / early


def drop_first(tx: Tx) -> None:
    """Let many go at once, by others: of their entries as much stays as of those that were sent."""
    tx.run("DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries WHERE state = 'pending' LIMIT 8000)")


@pytest.mark.parametrize(("kind", "is_flat"), [(Replica, True), (Forgetful, False)])
async def test_a_claim_goes_through_no_more_late_in_a_held_snapshot(
    one: Any, postgres_place: Place, pages: Pages, kind: type[Replica], is_flat: bool
) -> None:
    await one.store.write(partial(fill, route="reminders", count=8_200, ago_ms=LATE))
    replica = kind(one.store, 100_000, places=8)

    async def pass_time() -> None:
        await one.store.write(drop_first)
        await send_some(replica, 8)  # which sees it

    grown = await compare_pages(postgres_place, replica, pages, pass_time)
    assert (grown <= 1.5) is is_flat, grown


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "is_flat"), [(Replica, True), (Forgetful, False)])
async def test_nor_with_a_hundred_thousand_waiting_and_a_minute_at_full_rate(
    one: Any, postgres_place: Place, pages: Pages, kind: type[Replica], is_flat: bool
) -> None:
    await one.store.write(partial(fill, route="reminders", count=100_000, ago_ms=LATE))
    replica = kind(one.store, 500)
    pass_time = partial(send_some, replica, 30_000)
    # Each part is long enough to hold a walk of all, which is part of the price.
    grown = await compare_pages(postgres_place, replica, pages, pass_time, count=3_000)
    print(f"{grown:.2f} times the pages")  # noqa: T201  # for bench/long-runs.md
    assert (grown <= 2) is is_flat, grown


# -- what comes below a floor ----------------------------------------------------------------------


async def look(shop: Any, floors: Floors) -> int:
    groups = await shop.store.read(partial(read_groups_above, provider=PROVIDER, floors=floors))
    return sum(group.due_at <= shop.store.clock() for group in groups)


async def claim(shop: Any, floors: Floors, limit: int = 9) -> tuple[Sequence[Attempt], Floors]:
    asked = Claim(PROVIDER, shop.store.clock(), limit, LEASE_MS, 0, floors=floors)
    claimed = await shop.store.write(Apart(partial(open_due, claim=asked)))
    assert claimed.floors is not None
    return claimed.attempts, claimed.floors


async def add(shop: Any, ago_ms: int = 0, **fields: Any) -> str:
    now = shop.store.clock()
    given = {"created_at": now, "due_at": now - ago_ms, "deadline_at": now + HOUR}
    return str(await shop.add(**{**given, **fields}))


async def commit_late(shop: Any, _sent: Attempt) -> None:
    await add(shop, LATE)


async def come_first_of_a_template(shop: Any, _sent: Attempt) -> None:
    await add(shop, template="another")


async def come_first_of_a_route(shop: Any, _sent: Attempt) -> None:
    await add(shop, LATE, route="another")


async def resend(shop: Any, sent: Attempt) -> None:
    now = shop.store.clock()
    await shop.store.close_attempt(
        sent, Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT, now - LATE), now, 1
    )
    assert await shop.store.write(partial(resend_unknown, now=now)) == 1


async def retry(shop: Any, sent: Attempt) -> None:
    now = shop.store.clock()
    await shop.store.close_attempt(sent, Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT), now, 1)
    assert await shop.store.retry_deliveries([sent.delivery.id], now)


async def try_again(shop: Any, sent: Attempt) -> None:
    now = shop.store.clock()
    outcome = Retryable(Reason.UNAVAILABLE)
    await shop.store.close_attempt(sent, outcome, Decision(State.PENDING, outcome.reason, due_at=now), now, 1)


@pytest.mark.parametrize(
    ("land", "is_seen_at_once"),
    [
        (commit_late, False),
        (come_first_of_a_template, False),
        (resend, False),
        (come_first_of_a_route, True),
        (retry, True),
        (try_again, True),
    ],
)
async def test_what_lands_below_a_floor_is_seen_when_all_is_walked_at_the_latest(
    one: Any, land: Callable[[Any, Attempt], Awaitable[None]], is_seen_at_once: bool
) -> None:
    await add(one, LATE)
    (sent,), floors = await claim(one, {})
    _, floors = await claim(one, floors)
    await land(one, sent)
    assert await look(one, floors) == is_seen_at_once
    assert await look(one, {}) == 1


async def test_what_a_hold_kept_is_seen_once_it_is_released(one: Any) -> None:
    await add(one, LATE)
    await one.store.write(partial(put_hold, scope="route:coupon-ready", reason="by_hand"))
    floors: Floors = {}
    for _ in range(3):
        attempts, floors = await claim(one, floors)
        assert attempts == []
    await one.store.write(partial(release_hold, scope="route:coupon-ready"))
    attempts, _ = await claim(one, floors)
    assert len(attempts) == 1


async def test_who_waits_for_a_limit_is_seen_once_it_is_lifted(one: Any) -> None:
    await add(one, LATE)
    _, floors = await claim(one, {})
    id_ = await add(one, -HOUR // 2)
    await one.store.write(lambda tx: tx.run("UPDATE deliveries SET reason = 'limit_person' WHERE id = :id", id=id_))
    assert await look(one, floors) == 0
    await one.store.write(partial(free_waiting, provider=PROVIDER))
    assert await look(one, floors) == 1


async def test_a_floor_passes_neither_what_still_waits_nor_the_last_two_seconds(one: Any) -> None:
    for _ in range(3):
        await add(one, LATE)
    before = one.store.clock()
    attempts, floors = await claim(one, {}, limit=2)
    _, floors = await claim(one, floors, limit=0)
    assert len(attempts) == 2
    assert await look(one, floors) == 1
    await claim(one, floors)
    _, floors = await claim(one, floors)
    ((due_at, _),) = floors.values()
    assert before - SLACK_MS <= due_at <= one.store.clock() - SLACK_MS


async def test_a_clock_that_was_set_back_lowers_the_floors(one: Any) -> None:
    await add(one, LATE)
    _, floors = await claim(one, {})
    ahead = {group: (place[0] + HOUR, 0) for group, place in floors.items()}
    await add(one)
    assert await look(one, ahead) == 0
    _, floors = await claim(one, ahead)
    assert await look(one, floors) == 1


# -- a lane ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every_s", "is_seen"), [(0.0, True), (1e9, False)])
async def test_a_lane_walks_all_after_a_while(
    one: Any, monkeypatch: pytest.MonkeyPatch, every_s: float, is_seen: bool
) -> None:
    """The control: one that never does."""
    monkeypatch.setattr(shared_lane, "WALK_EVERY_S", every_s)
    lane = await open_lane(one)
    await add(one, LATE)
    assert len((await lane._claim())[0]) == 1
    await lane._claim()
    await add(one, LATE)
    attempts, next_due = await lane._claim()
    assert len(attempts) == is_seen
    assert next_due is not None  # it naps no longer than until the next walk


async def test_a_claim_that_did_not_commit_moves_no_floor(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = await open_lane(one)
    await add(one, LATE)
    whole = claim_shared

    def break_off(*asked: Any) -> Any:
        assert whole(*asked) is not None
        raise ZeroDivisionError

    monkeypatch.setattr(shared_lane, "claim_shared", break_off)
    with pytest.raises(ZeroDivisionError):
        await lane._claim()
    monkeypatch.setattr(shared_lane, "claim_shared", whole)
    assert len((await lane._claim())[0]) == 1


async def open_lane(shop: Any) -> Any:
    unused: Any = None
    settings = ProviderSettings(type="fake", rate="900/s", concurrency=64)
    context = build_context(shop.store, shop.store.clock)
    lane = shared_lane.SharedLane(PROVIDER, settings, unused, context, unused, Turns())
    await lane._recall()
    return lane
