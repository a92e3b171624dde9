"""What replicas share holds none of them up, nobody's own clock counts, and releases may differ for a while."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from app.delivery.pace import Pace
from app.errors import StoreBroken, StoreError
from app.model.delivery import Reason, Retryable, State
from app.model.message import ReceiptStatus
from app.outbox import receipts
from app.outbox.add import NewEvent, add_events
from app.outbox.claim import Claim
from app.outbox.holds import put_hold, release_hold
from app.outbox.lanes import add_lane
from app.outbox.postgres import schema
from app.outbox.read import count_deliveries, count_reached
from app.outbox.store import Job, Tx
from app.outbox.sweep import shift_waits
from app.outbox.values import Replica as Seen
from app.outbox.values import list_differences
from app.relay import notify
from app.relay.shared_lane import claim_shared
from tests.outbox.fleet import PROVIDER, Replica, fill, run_fleet
from tests.outbox.methods import at
from tests.outbox.postgres_outbox import Place, PostgresOutbox, make_place

HOUR = 3_600_000
WAITS = """
SELECT coalesce(wait_event_type || '/' || wait_event, 'running') FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
"""


# -- no commit waits for another -------------------------------------------------------------------


async def sample_waits(place: Place, shops: list[Any], events: int, *, hot: bool) -> Counter[str]:
    """Let each take events in batches; return what their connections waited for meanwhile."""
    seen: Counter[str] = Counter()

    async def add(shop: Any) -> None:
        for _ in range(events // 3):
            some = [shop.event() for _ in range(3)]
            new = [NewEvent(each, [shop.delivery(each, state=State.SHADOW)]) for each in some]
            counting = [shop.store.write(_count_in_one_row)] if hot else []
            await asyncio.gather(*counting, *(shop.store.write(Job(add_events, one)) for one in new))

    def sample(ended: asyncio.Event) -> None:
        with psycopg.connect(place.direct.partition("?")[0], autocommit=True) as db:
            while not ended.is_set():
                seen.update(row[0] for row in db.execute(WAITS).fetchall())

    ended = asyncio.Event()
    sampling = asyncio.create_task(asyncio.to_thread(sample, ended))
    await asyncio.gather(*map(add, shops))
    ended.set()
    await sampling
    return seen


def _count_in_one_row(tx: Tx) -> None:
    tx.run("UPDATE tallies SET n = n + 1")


@pytest.mark.parametrize("slots", ["own", "one"])
async def test_no_commit_waits_for_another(
    open_replica: Callable[..., PostgresOutbox], postgres_place: Place, wrap: Callable[..., Any], slots: str
) -> None:
    """The control: counters in one row for all, as SQLite has them."""
    stores = [open_replica() for _ in range(3)]
    waits = await sample_waits(postgres_place, [wrap(store) for store in stores], 600, hot=slots == "one")
    share = waits["Lock/transactionid"] / waits.total()
    assert share < 0.05 if slots == "own" else share > 0.1, waits


async def test_each_counts_for_itself_and_the_standing_counts_are_of_all(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    one, other = open_replica(), open_replica()
    await wrap(one).add(state=State.SHADOW)
    await wrap(other).add(state=State.SHADOW)
    await wrap(other).add(state=State.SHADOW)
    for store, n in ((one, 1), (other, 2)):
        assert (await store.read(count_reached))["coupon-ready", "gallabox", State.SHADOW] == n
        assert (await store.read(count_deliveries))["gallabox", State.SHADOW] == 3


async def test_who_comes_after_one_that_stopped_counts_on_in_its_slot(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    first, second = open_replica(), open_replica()
    assert first.slot != second.slot
    await wrap(first).add(state=State.SHADOW)
    await first.close()
    third = open_replica()
    assert third.slot == first.slot
    assert (await third.read(count_reached))["coupon-ready", "gallabox", State.SHADOW] == 1


async def test_each_sees_what_the_others_run(open_replica: Callable[..., PostgresOutbox]) -> None:
    one, other = open_replica(), open_replica()
    assert len(await one.note("1.0", "abc")) == 1
    assert list_differences(await other.note("1.0", "abc")) == []
    assert list_differences(await other.note("1.1", "abc")) == ["release"]
    assert list_differences(await one.note("1.0", "def")) == ["release", "config"]
    await one.close()
    assert [each.release for each in await other.note("1.1", "abc")] == ["1.1"]
    assert list_differences([Seen("a", "1", "x", 0)]) == []


# -- what is told to the shop ----------------------------------------------------------------------


@pytest.mark.parametrize(("is_asked", "posts"), [(True, 1), (False, 2)])
async def test_of_replicas_that_all_see_a_change_one_tells_of_it(
    open_replica: Callable[..., PostgresOutbox], monkeypatch: pytest.MonkeyPatch, is_asked: bool, posts: int
) -> None:
    """The control: nobody asks whether another has told already."""
    if not is_asked:
        monkeypatch.setattr(notify, "take_notice", lambda _tx, what: bool(what))
    stores = [open_replica(), open_replica()]
    tellers = [notify.Notifier(_give_context(store), dict, _open_nobody) for store in stores]
    for teller in tellers:
        await teller.look()
    told: list[str] = []
    for change in (partial(put_hold, reason="balance_empty"), release_hold, partial(put_hold, reason="blocked")):
        await stores[0].write(partial(change, scope="route:coupons"))
        for teller in tellers:
            teller._calm_until.clear()
            await teller.look()
        told += [json.loads(body)["type"] for teller in tellers for _, body in teller._waiting]
        for teller in tellers:
            teller._waiting.clear()
    assert Counter(told) == {"hold.set": 2 * posts, "hold.ended": posts}


def _give_context(store: PostgresOutbox) -> Any:
    secret = SimpleNamespace(get_secret_value=lambda: "whsec_")
    settings = SimpleNamespace(notify_url=secret, notify_secret=secret)
    return SimpleNamespace(settings=settings, outbox=store, clock=store.clock, new_id=str)


async def _open_nobody(_url: str) -> Any:
    raise AssertionError


# -- no replica's own clock counts -----------------------------------------------------------------


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR])
async def test_a_replica_whose_clock_is_off_moves_nothing(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, by_ms: int
) -> None:
    right = open_replica()
    monkeypatch.setattr("app.clock.time.time_ns", lambda: (right.clock() + by_ms) * 1_000_000)
    wrong = open_replica()
    await wrong.write(lambda _tx: None)
    assert abs(wrong.clock() - right.clock()) < 1_000
    now = await wrong.write(lambda tx: tx.now)
    assert abs(now - right.clock()) < 1_000
    id_ = await wrap(right).add(due_at=right.clock() + HOUR // 2, deadline_at=right.clock() + 2 * HOUR)
    before = await wrap(right).read(id_)
    await wrong.sweep(wrong.clock(), 0)
    assert await wrong.write(partial(shift_waits, newest=None)) == 0
    assert await wrap(right).read(id_) == before


async def test_control_waits_that_follow_a_replicas_clock_move_for_all(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    store = open_replica()
    now = store.clock()
    id_ = await wrap(store).add(due_at=now + HOUR, deadline_at=now + 2 * HOUR)
    before = await wrap(store).read(id_)
    assert await store.write(at(now - HOUR, shift_waits, newest=now)) == -HOUR
    assert await wrap(store).read(id_) != before


# -- a lane's row ----------------------------------------------------------------------------------


async def test_a_replica_finds_the_lane_taken_and_claims_nothing(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    one, other = open_replica(), open_replica()
    await one.write(partial(add_lane, provider=PROVIDER))
    await wrap(one).add(deadline_at=one.clock() + HOUR)
    has_it, goes_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(tx: Tx) -> None:
        tx.rows("SELECT 1 FROM lanes FOR UPDATE")
        loop.call_soon_threadsafe(has_it.set)
        asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(60)

    holding = asyncio.create_task(one.write(hold))
    await has_it.wait()
    assert await Replica(other, 10).claim() == ()
    goes_on.set()
    await holding
    assert len(await Replica(other, 10).claim()) == 1


async def test_an_outage_that_one_has_seen_holds_for_all(open_replica: Callable[..., PostgresOutbox]) -> None:
    one, other = open_replica(), open_replica()
    await one.write(partial(add_lane, provider=PROVIDER))
    await one.write(partial(fill, route="coupons", count=50))
    shown = [(Retryable(Reason.UNAVAILABLE), None)] * 5
    asked = (Claim(PROVIDER, 0, 0, 1_000), 100.0, 0, shown)
    told = await one.write(lambda tx: claim_shared(tx, *asked))
    assert told is not None
    assert told[1].recovery.down
    replica = Replica(other, 100)
    assert await replica.claim() == ()
    seen: Pace = replica.pace
    assert seen.recovery == told[1].recovery


# -- what only one writer could be sure of ---------------------------------------------------------


async def test_a_receipt_that_was_kept_just_while_its_delivery_became_known_is_found(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = wrap(open_replica()), wrap(open_replica())
    id_ = await one.add()
    attempt = await one.claim_one()
    whole = receipts.find_known
    monkeypatch.setattr(receipts, "find_known", lambda *_: None)  # as of a moment before the other's commit
    assert await one.accept(attempt, "m-1")
    await other.receive(ReceiptStatus.DELIVERED, None, "m-1")
    assert (await one.show(id_))[2] is None
    monkeypatch.setattr(receipts, "find_known", whole)
    await other.store.sweep(other.now, 0)
    assert (await one.show(id_))[2] == "delivered"


async def test_copies_of_an_event_at_two_replicas_are_one(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    shops = [wrap(open_replica()), wrap(open_replica())]
    for number in range(10):
        copies = [shop.event(delivery_id=f"copy-{number}") for shop in shops for _ in range(5)]
        answers = await asyncio.gather(
            *(shops[n % 2].store.add_event(each, [shops[0].delivery(each)]) for n, each in enumerate(copies))
        )
        assert len({each.event_id for each in answers}) == 1
        assert sum(not each.duplicate for each in answers) == 1


async def test_a_text_that_no_text_of_postgres_can_be_is_kept_without_its_nul(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_replica())
    assert (await shop.read(await shop.add(state=State.DEAD, reason=Reason.VARIABLE_MISSING, detail="a\0b")))[
        "detail"
    ] == "a\ufffdb"


# -- two releases side by side ---------------------------------------------------------------------

STEPS = schema.STEPS
NEXT = ("ALTER TABLE deliveries ADD COLUMN note TEXT;", 1)
CONTRACT = ("ALTER TABLE deliveries DROP COLUMN IF EXISTS note;", 3)


@pytest.mark.timeout(200)
async def test_a_release_rolls_out_while_the_one_before_works(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, wrap: Callable[..., Any]
) -> None:
    with make_place(postgres_url) as place:
        before = PostgresOutbox(place.url)
        await before.write(partial(fill, route="coupons", count=300))
        old = Replica(before, 100)
        after: list[PostgresOutbox] = []

        def roll_out() -> bool:
            if not after:
                monkeypatch.setattr(schema, "STEPS", (*STEPS, NEXT))
                after.append(PostgresOutbox(place.url))
                monkeypatch.setattr(schema, "STEPS", STEPS)
                before._writer.drop()  # and connects again to the newer tables
            return len(old.sent) >= 150

        await run_fleet([old], roll_out)
        new = Replica(after[0], 100)
        await run_fleet([old_again := Replica(before, 100), new], lambda: len(new.sent) + len(old_again.sent) >= 100)
        assert len(new.sent) > 0
        assert await wrap(before).add()
        assert (await after[0].read(lambda tx: tx.rows("SELECT note FROM deliveries LIMIT 1")))[0].note is None
        # Control: once what the older one needs is taken away, it does not go on as if nothing were.
        monkeypatch.setattr(schema, "STEPS", (*STEPS, NEXT, CONTRACT))
        await PostgresOutbox(place.url).close()
        monkeypatch.setattr(schema, "STEPS", STEPS)
        with pytest.raises(StoreBroken, match="brought forward by a newer nector-relay"):
            PostgresOutbox(place.url)
        before._writer.drop()
        with pytest.raises(StoreError, match="brought forward by a newer"):
            await before.write(lambda _tx: None)
        for store in (before, *after):
            await store.close()


FUNCTIONS = """SELECT CAST(oid AS regprocedure) AS name FROM pg_proc
WHERE pronamespace = CAST(current_schema() AS regnamespace) AND proname LIKE 'kept%'"""


# -- nothing is prepared ---------------------------------------------------------------------------


async def test_no_connection_prepares_a_statement(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    """A pooler would give the next one another process of the server, which does not know it."""
    store = open_replica()
    for _ in range(8):
        await wrap(store).add(state=State.SHADOW)
    names = "SELECT name FROM pg_prepared_statements"
    assert await store.write(lambda tx: tx.rows(names)) == await store.read(lambda tx: tx.rows(names)) == []


async def test_the_plans_of_what_is_dear_to_plan_are_kept_in_functions_that_each_start_makes_anew(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any]
) -> None:
    one = open_replica()
    await wrap(one).add()
    made = await one.read(lambda tx: tx.rows(FUNCTIONS))
    assert len(made) == len(schema.KEPT)
    await one.write(lambda tx: [tx.run(f"DROP FUNCTION {row.name}") for row in made])
    with pytest.raises(StoreError, match="a function is gone from the database; restart"):
        await wrap(one).claim()
    (attempt,) = await wrap(open_replica()).claim()
    assert await wrap(one).accept(attempt)
