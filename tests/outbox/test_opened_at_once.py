"""What is opened in the insert of its event goes as what a claim finds in the outbox would, and is told alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.delivery.policy import GO
from app.model.delivery import Delivery, Reason, Rejected, Scope, State
from app.model.event import Event
from app.model.message import NO_LIMITS, Limit, Limits
from app.outbox import claim, move
from app.outbox.add import NewEvent, add_events
from app.outbox.claim import Claim, claim_each
from app.outbox.close import Ending, close_attempts
from app.outbox.holds import put_hold
from app.outbox.store import Job, Tx
from app.outbox.values import Claimed
from tests.outbox.conftest import DAY, NOW, Shop
from tests.outbox.methods import SqliteOutbox

LEASE_MS = 30_000
SEEDS = 40
PROVIDERS = ("gallabox", "bitespeed")
# What a reader can ask of: the order of rows is that in which they were made.
TOLD = (
    "SELECT * FROM deliveries ORDER BY seq",
    "SELECT * FROM timeline ORDER BY delivery_seq, n",
    "SELECT * FROM attempts ORDER BY delivery_seq, number",
    "SELECT * FROM recipient_turns ORDER BY provider, recipient",
    "SELECT * FROM counts ORDER BY provider, state",
    "SELECT * FROM reached ORDER BY route, provider, state",
    "SELECT hash, seen_at FROM dedup_keys ORDER BY hash",
    "SELECT * FROM holds ORDER BY scope",
)


class Scene:
    """What stands before, what comes at once, and what the lanes may claim; drawn from a seed."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311  # a test's dice
        self._make, self._draw = Shop(None), draw  # type: ignore[arg-type]  # for its words
        self.events = [self._plan() for _ in range(draw.randint(1, 12))]
        if draw.random() < 0.1:
            self.events.append(self.events[0])  # sent twice at once
        self.before = [self._plan(due_at=draw.choice([NOW, NOW + DAY])) for _ in range(draw.choice([0, 0, 0, 1]))]
        self.held = draw.choice([None] * 6 + ["route:coupon-ready", "provider:bitespeed"])
        self.limits = draw.choice([NO_LIMITS] * 7 + [Limits(person=Limit(1, DAY))])
        self.places = {provider: draw.choice([5, 64, 64]) for provider in PROVIDERS}
        people = {each.recipient for _, planned in self.events for each in planned}
        self.written = [each for each in sorted(people) if draw.random() < 0.2]  # to them, a second ago

    def _plan(self, **fields: Any) -> tuple[Event, Sequence[Delivery]]:
        event, draw = self._make.event(), self._draw
        planned = []
        for _ in range(draw.choice([0, 1, 1, 1, 2])):
            route = draw.choice(["coupon-ready", "coins-earned"])
            standard = {
                "route": route,
                "provider": draw.choice(PROVIDERS[: 1 + draw.choice([0, 1])]),
                "priority": draw.choice([0, 0, 0, 5]),
                "due_at": NOW + draw.choice([0, 0, 0, 0, 0, 0, 0, 5_000]),
                "deadline_at": NOW + draw.choice([DAY] * 9 + [0]),
                "dedup_key": draw.choice([None, None, "once"]),
                "recipient": f"+9198000{draw.randrange(draw.choice([20, 90_000, 90_000])):05}",
                **({"state": State.SHADOW} if draw.random() < 0.1 else {}),
            }
            planned.append(self._make.delivery(event, **{**standard, **fields}))
        return event, planned


@asynccontextmanager
async def open_outbox(path: Path, scene: Scene) -> AsyncIterator[SqliteOutbox]:
    store = SqliteOutbox(path, clock=lambda: NOW)
    try:
        for event, deliveries in scene.before:
            await store.add_event(event, deliveries)
        turns = [
            {"provider": each, "recipient": who, "now": NOW - 1_000} for who in scene.written for each in PROVIDERS
        ]
        await store.write(lambda tx: tx.run_many(claim._TAKE_TURN, turns))
        if scene.held:
            await store.write(lambda tx: put_hold(tx, scene.held, "by_hand", None, by_hand=True))  # type: ignore[arg-type]  # asked above
        yield store
    finally:
        await store.close()


def ask_for(scene: Scene) -> list[Claim]:
    return [Claim(each, NOW, scene.places[each], LEASE_MS, limits=scene.limits) for each in PROVIDERS]


async def play(path: Path, scene: Scene, *, at_once: bool) -> tuple[Any, list[Claimed]]:
    """Return all that the outbox tells once nothing more may go, and the first claims."""
    async with open_outbox(path, scene) as store:
        adds = [Job(add_events, NewEvent(event, deliveries)) for event, deliveries in scene.events]
        claims = [Job(claim_each, each, is_last=True) for each in ask_for(scene)]
        if at_once:
            adding = asyncio.gather(*[store.write(job) for job in adds])
            enqueued, claimed = await asyncio.gather(adding, asyncio.gather(*[store.write(job) for job in claims]))
        else:
            enqueued = await asyncio.gather(*[store.write(job) for job in adds])
            claimed = await asyncio.gather(*[store.write(job) for job in claims])
        went = {each.delivery.id: each.number for one in claimed for each in one.attempts}
        while any(one.next_due is not None and one.next_due <= NOW for one in claimed):
            claimed = await asyncio.gather(*[store.write(job) for job in claims])
            went |= {each.delivery.id: each.number for one in claimed for each in one.attempts}
        told = await store.read(lambda tx: [[_strip(row) for row in tx.rows(query)] for query in TOLD])
    return (enqueued, went, [one.next_due for one in claimed], told), claimed


def _strip(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._asdict().items() if name != "person"}  # by a key of its file


async def compare(folder: Path, seed: int) -> bool:
    """Tell whether a scene ends alike, whether it is claimed with what is added or behind it."""
    scene = Scene(seed)
    together, _ = await play(folder / f"{seed}-a" / "relay.db", scene, at_once=True)
    apart, _ = await play(folder / f"{seed}-b" / "relay.db", scene, at_once=False)
    return bool(together == apart)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each insert: how many of its deliveries were opened in it."""
    counts: list[int] = []

    def write_unwritten(tx: Tx) -> None:
        counts.append(sum(row["state"] == "sending" for row in tx.unwritten or ()))
        move.write_unwritten(tx)

    for place in ("app.outbox.sqlite.store", "app.outbox.claim"):
        monkeypatch.setattr(f"{place}.write_unwritten", write_unwritten)
    return counts


async def test_whether_claimed_with_its_event_or_behind_it_a_delivery_fares_alike(
    tmp_path: Path, opened: list[int]
) -> None:
    assert [seed for seed in range(SEEDS) if not await compare(tmp_path, seed)] == []
    assert sum(opened) > SEEDS, "many went that way"


BROKEN = {
    "whoever was written to a moment ago is written to again": ("find_free", lambda *_: NOW),
    "what is too late goes": ("judge_candidate", lambda *_: GO),
    "who may not be chosen goes, too": ("_LAST_TURNS", claim._LAST_TURNS + " AND 0"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_one_that_is_opened_by_another_rule_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, Any]
) -> None:
    whole = claim._open_added

    def open_added(*given: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(claim, *broken)
            return whole(*given)

    monkeypatch.setattr(claim, "_open_added", open_added)
    assert not all([await compare(tmp_path, seed) for seed in range(SEEDS)])


async def test_it_is_in_the_index_of_what_waits_at_no_time(tmp_path: Path, opened: list[int]) -> None:
    shop = Shop(SqliteOutbox(tmp_path / "relay.db", clock=lambda: NOW))
    events = [shop.event() for _ in range(3)]
    statements: list[str] = []
    await shop.store._writer.run_alone(lambda db: db.set_trace_callback(statements.append))  # type: ignore[attr-defined]  # SQLite's
    adds = [shop.store.write(Job(add_events, NewEvent(event, [shop.delivery(event)]))) for event in events]
    asked = Job(claim_each, Claim("gallabox", NOW, 64, LEASE_MS), is_last=True)
    _, claimed = await asyncio.gather(asyncio.gather(*adds), shop.store.write(asked))
    assert len(claimed.attempts) == sum(opened) == 3
    assert not [text for text in statements if text.strip().startswith("UPDATE deliveries")]
    assert await shop.timeline(claimed.attempts[0].delivery.id) == [("pending", None), ("sending", None)]
    await shop.store.close()


async def test_one_that_was_taken_and_not_claimed_is_there_all_the_same(tmp_path: Path) -> None:
    shop = Shop(SqliteOutbox(tmp_path / "relay.db", clock=lambda: NOW))
    event = shop.event()
    await shop.store.write(Job(add_events, NewEvent(event, [shop.delivery(event)])))
    assert len(await shop.claim()) == 1
    await shop.store.close()


async def test_what_a_dead_process_opened_so_is_recovered_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    shop = Shop(SqliteOutbox(path, clock=lambda: NOW))
    event = shop.event()
    planned = shop.delivery(event)
    asked = Job(claim_each, Claim("gallabox", NOW, 64, LEASE_MS), is_last=True)
    await asyncio.gather(shop.store.write(Job(add_events, NewEvent(event, [planned]))), shop.store.write(asked))
    await shop.store.close()  # nobody has closed the attempt
    again = Shop(SqliteOutbox(path, clock=lambda: NOW))
    assert await again.store.recover_open_attempts(NOW, 1_000) == 1
    assert (await again.show(planned.id))[:2] == ("unknown", "process_died")
    await again.store.close()


async def claim_beside_an_opt_out(path: Path) -> tuple[int, tuple[Any, Any]]:
    """Return how many go when the refusal that tells of it is recorded with the next message, and how that one ends."""
    shop = Shop(SqliteOutbox(path, clock=lambda: NOW))
    person, earlier = "+919800000042", NOW - 10_000
    await shop.add(recipient=person, created_at=earlier, due_at=earlier)
    (open_,) = await shop.claim(after_ms=-10_000)
    refused = Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT)
    event = shop.event()
    planned = shop.delivery(event, recipient=person)
    asked = Job(claim_each, Claim("gallabox", NOW, 64, LEASE_MS), is_last=True)
    _, _, claimed = await asyncio.gather(
        shop.store.write(Job(add_events, NewEvent(event, [planned]))),
        shop.store.write(Job(close_attempts, Ending(open_, refused, Decision(State.DEAD, refused.reason), 1))),
        shop.store.write(asked),
    )
    await shop.claim()
    ended = (await shop.show(planned.id))[:2]
    await shop.store.close()
    return len(claimed.attempts), ended


async def test_who_opts_out_in_the_very_transaction_gets_no_marketing_by_it(tmp_path: Path) -> None:
    assert await claim_beside_an_opt_out(tmp_path / "relay.db") == (0, ("suppressed", "recipient_opted_out"))


async def test_who_does_is_written_to_where_only_the_intake_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "find_unwanted", lambda *_: ())
    assert await claim_beside_an_opt_out(tmp_path / "relay.db") == (1, ("sending", None))
