"""Replay: stored events evaluated again with today's YAML. First a plan that sends nothing, then that plan, once.

Or with another YAML beside it, to see what would differ: of that nothing is kept, and nothing is sent by it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import Any, cast

from app.delivery.replay import (
    KEEP_PLAN_MS,
    Draft,
    Entry,
    Judgement,
    Verdict,
    compare_deliveries,
    judge_delivery,
    read_sends,
    write_entries,
)
from app.errors import Refusal
from app.message.render import plan_deliveries
from app.model.delivery import Delivery, Reason, State
from app.model.event import TEST_SOURCE, Event
from app.outbox import replay as stored
from app.outbox.people import find_suppressed
from app.outbox.replay import EventQuery, Plan, StoredEvent
from app.outbox.store import Store
from app.relay import Context, Snapshot
from app.sources import SOURCE
from app.sources.base import parse_body
from app.values.instant import format_instant

_PAGE = 100  # events in memory at a time; a body may have 64 KiB


async def make_plan(context: Context, wanted: EventQuery) -> dict[str, Any] | Refusal:
    """Work out what a replay would send, keep that as a plan, and return what it says. Sends nothing."""
    snapshot, now = context.snapshot, context.clock()
    names = sorted(route.name for route in snapshot.config.routes)
    if wanted.route is not None and wanted.route not in names:
        return Refusal(422, f"route: the YAML has no route of this name; it has {', '.join(names)}")
    unknown = await _find_unknown(context.outbox, wanted.ids or ())
    if unknown is not None:
        return Refusal(422, f"events: no event has the id that is number {unknown} of those given")
    draft = Draft()
    async for events in _list_pages(context.outbox, wanted, snapshot):
        await _judge_events(context, snapshot, wanted, events, draft)
        if not draft.complete:
            break
    plan = Plan(context.new_id(now), now, snapshot.config.hash, write_entries(draft))
    await context.outbox.write(partial(stored.save_plan, plan=plan))
    counts = {verdict.value: count for verdict, count in draft.counts.items()}
    context.log.info("replay.planned", plan_id=plan.id, counts=counts, by="ops")
    return {
        "plan_id": plan.id,
        "config_hash": plan.config_hash,
        "created_at": format_instant(plan.created_at),
        "counts": counts,
        "complete": draft.complete,
        "unlisted": draft.unlisted,
        "entries": _show_entries(draft.entries),
    }


async def apply_plan(context: Context, plan_id: str) -> dict[str, Any] | Refusal:
    """Send what a plan says, once and all of it in one commit; return that, and what changed meanwhile."""
    snapshot, now = context.snapshot, context.clock()
    plan = await context.outbox.read(partial(stored.read_plan, plan_id=plan_id))
    if plan is None or plan.created_at <= now - KEEP_PLAN_MS:
        return Refusal(404, "no plan has this id; plans are kept for a day: plan again")
    if plan.applied_at is not None:
        return Refusal(409, "this plan was applied already, and none is applied twice: plan again to see what is left")
    if plan.config_hash != snapshot.config.hash:
        return Refusal(409, "the YAML has changed since this plan was made: plan again")
    made, changed = await _remake_deliveries(context, snapshot, plan)
    applied = await context.outbox.write(partial(stored.apply_plan, plan_id=plan_id, deliveries=list(made.values())))
    if applied is None:
        return Refusal(409, "this plan was applied by another request meanwhile: plan again to see what is left")
    changed += [Entry(made[id_].event_id, "", made[id_].route, why) for id_, why in applied.left_out.items()]
    for provider in dict.fromkeys(row.provider for row in applied.deliveries if row.state is State.PENDING):
        context.wake(provider)
    context.log.info("replay.applied", plan_id=plan_id, sent=len(applied.deliveries), left_out=len(changed), by="ops")
    sent = {"send": len(applied.deliveries)} if applied.deliveries else {}
    return {
        "plan_id": plan_id,
        "counts": {**sent, **Counter(entry.verdict.value for entry in changed)},
        "deliveries": [{**asdict(row), "event_id": made[row.id].event_id} for row in applied.deliveries],
        "left_out": _show_entries(changed),
    }


def _show_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [{**asdict(entry), "route": entry.route or None} for entry in entries]


# -- which events ----------------------------------------------------------------------------------


async def _find_unknown(outbox: Store, ids: Collection[str]) -> int | None:
    """Return which of the ids, from 1, is the first that no event has: what somebody typed may be a number."""
    known: set[str] = set()
    for some in _cut(ids):
        known |= {event.id for event in await _find_events(outbox, some)}
    return next((number for number, id_ in enumerate(ids, 1) if id_ not in known), None)


async def _find_events(outbox: Store, ids: Collection[str]) -> Sequence[StoredEvent]:
    return (await outbox.read(partial(stored.find_events, wanted=EventQuery(ids=ids)))).events


async def _list_pages(outbox: Store, wanted: EventQuery, snapshot: Snapshot) -> AsyncIterator[Sequence[StoredEvent]]:
    """Yield the events, a bounded number at a time. What is `unrouted` has no delivery whose route could be asked."""
    of_past = wanted.state not in (None, "unrouted")
    route, topic = wanted.route if of_past else None, _pick_topic(wanted, snapshot)
    asked = replace(wanted, ids=None, topic=topic, route=route, limit=_PAGE)
    for some in _cut(wanted.ids or ()):
        yield (await outbox.read(partial(stored.find_events, wanted=replace(asked, ids=some)))).events
    after = None if wanted.ids else 0
    while after is not None:
        page = await outbox.read(partial(stored.find_events, wanted=replace(asked, after=after)))
        yield page.events
        after = page.next_after


def _pick_topic(wanted: EventQuery, snapshot: Snapshot) -> str | None:
    """Return the topic to look for: the one asked for, else the route's own where nothing else narrows the search."""
    if wanted.topic is not None:
        return SOURCE.canonical_topic(wanted.topic)
    if wanted.ids or wanted.state not in (None, "unrouted"):
        return None
    return next((route.topic for route in snapshot.config.routes if route.name == wanted.route), None)


def _cut(ids: Collection[str]) -> Iterator[Sequence[str]]:
    left = iter(dict.fromkeys(ids))
    while some := list(islice(left, _PAGE)):
        yield some


# -- what today's YAML makes of them ---------------------------------------------------------------


async def _judge_events(
    context: Context, snapshot: Snapshot, wanted: EventQuery, events: Sequence[StoredEvent], draft: Draft
) -> None:
    """Add what comes of a page of events to the draft."""
    now = context.clock()
    judged: list[tuple[Delivery, Entry]] = []
    for event in events:
        await asyncio.sleep(0)  # rendering takes its time: webhooks are answered in between
        planned = _evaluate(context, snapshot, event)
        if isinstance(planned, Entry):
            draft.add(planned)
            continue
        ours = [delivery for delivery in planned if wanted.route in (None, delivery.route)]
        if not ours:
            draft.add(Entry(event.id, event.topic, wanted.route or "", Verdict.UNROUTED))
        for delivery in ours:
            judgement = judge_delivery(delivery, event.deliveries, now, shadow_wanted=wanted.state == "shadow")
            judged.append((delivery, _write_entry(event, delivery, judgement)))
    sendable = [delivery for delivery, entry in judged if entry.verdict is Verdict.SEND]
    taken = await context.outbox.read(partial(stored.find_duplicates, deliveries=sendable))
    stopped = await context.outbox.read(partial(find_suppressed, deliveries=sendable))
    for delivery, entry in judged:
        if delivery.id in stopped:
            draft.add(replace(entry, verdict=Verdict.DEAD, reason=Reason.RECIPIENT_OPTED_OUT))
        else:
            draft.add_delivery(delivery, entry, taken=delivery.id in taken)


def _evaluate(context: Context, snapshot: Snapshot, event: StoredEvent) -> Sequence[Delivery] | Entry:
    """Return what today's YAML makes of an event as it came, or why nothing can be made of it."""
    again = restore_event(event)
    return again if isinstance(again, Entry) else plan_deliveries(again, snapshot.config, context.new_id)


def restore_event(event: StoredEvent) -> Event | Entry:
    """Return an event as it came, or why nothing can be made of it."""
    if event.source == TEST_SOURCE:
        return Entry(event.id, event.topic, "", Verdict.UNROUTED, detail="a test message, of no customer's event")
    if event.body is None:
        return Entry(event.id, event.topic, "", Verdict.WIPED)
    payload = parse_body(event.body)
    if isinstance(payload, Refusal):
        return Entry(event.id, event.topic, "", Verdict.UNROUTED, detail=payload.detail)
    return Event(event.id, event.source, event.topic, event.source_delivery_id, event.body, payload, event.received_at)


def _write_entry(event: StoredEvent, delivery: Delivery, judgement: Judgement) -> Entry:
    detail = delivery.detail if judgement.verdict is Verdict.DEAD else ""
    return Entry(
        event.id, event.topic, delivery.route, judgement.verdict, judgement.reason, judgement.delivery_id, detail
    )


# -- applying --------------------------------------------------------------------------------------


async def _remake_deliveries(
    context: Context, snapshot: Snapshot, plan: Plan
) -> tuple[dict[str, Delivery], list[Entry]]:
    """Return a plan's deliveries by id, made anew (a plan keeps no values), and the entries that changed meanwhile."""
    routes, now = read_sends(plan.entries), context.clock()
    made: dict[str, Delivery] = {}
    changed: list[Entry] = []
    for some in _cut(routes):
        events = {event.id: event for event in await _find_events(context.outbox, some)}
        for event_id in some:
            await asyncio.sleep(0)
            event = events.get(event_id)
            if event is None:  # forgotten or erased
                changed += [Entry(event_id, "", route, Verdict.WIPED) for route in routes[event_id]]
                continue
            planned = _evaluate(context, snapshot, event)
            if isinstance(planned, Entry):
                changed += [replace(planned, route=route) for route in routes[event_id]]
                continue
            for delivery in (each for each in planned if each.route in routes[event_id]):
                judgement = judge_delivery(delivery, event.deliveries, now, shadow_wanted=True)
                if judgement.verdict is Verdict.SEND:
                    id_, detail = context.new_id(now), f"replayed by plan {plan.id}"
                    made[id_] = replace(delivery, id=id_, created_at=now, due_at=now, detail=detail)
                else:
                    changed.append(_write_entry(event, delivery, judgement))
    return made, changed


# -- beside a YAML that is not in force -------------------------------------------------------------

LONGEST_LOOK_S = 1.0  # a call; whoever asks goes on where it ended, and can show how far it is


async def compare_rules(context: Context, proposed: Snapshot, wanted: EventQuery) -> dict[str, Any]:
    """Return how the stored events would be sent otherwise by the proposed rules, as far as one call comes.

    `changes`: each kind once, with how many messages show it and the first as a masked example. `next`: where the next
    call goes on, None: these were the last. `wiped`: events of which nothing is left.
    """
    snapshot, changes, counts = context.snapshot, dict[tuple[str, ...], dict[str, Any]](), Counter[str]()
    read_time = asyncio.get_running_loop().time
    until_s, after = read_time() + LONGEST_LOOK_S, cast("int | None", wanted.after)
    while after is not None:
        query = partial(stored.find_events, wanted=replace(wanted, after=after, limit=_PAGE))
        page = await context.outbox.read(query)
        after = page.next_after
        for event in page.events:
            await asyncio.sleep(0)  # rendering takes its time: webhooks are answered in between
            old, new = (_evaluate(context, rules, event) for rules in (snapshot, proposed))
            if isinstance(old, Entry) or isinstance(new, Entry):
                counts["wiped"] += isinstance(old, Entry) and old.verdict is Verdict.WIPED
                continue
            counts["events"] += 1
            for one in compare_deliveries(old, new):
                example = {"event_id": event.id, "topic": event.topic, "was": one.was, "now": one.now}
                told = {"change": one.change, "route": one.route, "what": one.what or None, "count": 0}
                key = (one.change, one.route, one.what)
                changes.setdefault(key, {**told, "example": example})["count"] += 1
        if read_time() >= until_s:
            break
    return {**{name: counts[name] for name in ("events", "wiped")}, "changes": list(changes.values()), "next": after}
