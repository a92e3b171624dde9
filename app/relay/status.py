"""How the relay stands now, of the outbox, the lanes and what the process has seen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version

from app.delivery.pace import Pace
from app.delivery.status import (
    ConfigStatus,
    HoldStatus,
    LaneStatus,
    LastEvent,
    RefusedRequests,
    Status,
    StoreStatus,
    Unhandled,
    list_needs,
)
from app.model.delivery import State
from app.outbox.claim import find_oldest_due
from app.outbox.holds import list_holds
from app.outbox.read import count_deliveries, count_reasons
from app.outbox.status import count_reported, read_last_event
from app.outbox.store import Tx
from app.outbox.values import Hold
from app.relay.context import Context
from app.values.instant import format_instant


async def read_status(context: Context, paces: Mapping[str, Pace], config: ConfigStatus) -> Status:
    """Return how the relay stands. Raises StoreError where the outbox does not answer."""
    now, event = context.clock(), await context.outbox.read(read_last_event)
    status = Status(
        version=version("nector-relay"),
        now=format_instant(now),
        started_at=format_instant(context.started_at),
        config=config,
        last_event=event and LastEvent(id=event.id, topic=event.topic, at=format_instant(event.received_at)),
        refused=_list_refused(context, now),
        lanes=await context.outbox.read(partial(_read_lanes, context=context, paces=paces, now=now)),
        holds=[show_hold(hold) for hold in await context.outbox.read(list_holds)],
        unhandled=await context.outbox.read(partial(_list_unhandled, context=context, now=now)),
        store=_look_at_store(context, can_commit=await context.outbox.can_commit()),
    )
    return status.model_copy(update={"needs": list(list_needs(status))})


def show_lane(provider: str, pace: Pace, rate: str, now: int) -> LaneStatus:
    """Return how a lane stands by its pace alone."""
    recovery, paused = pace.recovery, pace.paused_until > now
    probe_at = max(recovery.probe_at or 0, pace.paused_until, now) if recovery.down else None
    return LaneStatus(
        provider=provider,
        state="down" if recovery.down else "paused" if paused else "up",
        rate=rate,
        paused_until=format_instant(pace.paused_until) if paused else None,
        down_since=_show(recovery.down_since),
        next_probe_at=_show(probe_at),
    )


def show_hold(hold: Hold) -> HoldStatus:
    """Return a hold as the ops API shows it."""
    return HoldStatus(
        scope=hold.scope,
        reason=hold.reason,
        since=format_instant(hold.since),
        deliveries=hold.deliveries,
        probe_at=_show(hold.probe_at),
        by=hold.by,
        until=_show(hold.ends_at),
        by_hand=hold.by_hand,
    )


def _read_lanes(tx: Tx, context: Context, paces: Mapping[str, Pace], now: int) -> list[LaneStatus]:
    counts, reported = count_deliveries(tx), count_reported(tx)
    waiting = {provider: n for (provider, state), n in counts.items() if state is State.PENDING and n}
    providers = context.snapshot.config.providers
    lanes = [show_lane(name, paces[name], providers[name].rate, now) for name in providers if name in paces]
    lanes += [LaneStatus(provider=name, state="gone", rate="-") for name in sorted(waiting.keys() - providers.keys())]
    for lane in lanes:
        lane.waiting = waiting.get(lane.provider, 0)
        lane.oldest_due_at = _show(find_oldest_due(tx, lane.provider))
        if (row := reported.get(lane.provider)) is not None:
            lane.accepted, lane.reported, lane.last_receipt_at = row.accepted, row.reported, _show(row.last_at)
    return lanes


def _list_unhandled(tx: Tx, context: Context, now: int) -> list[Unhandled]:
    """Return what is dead or unknown for good, of the time for which it can still be mended: payloads go after that."""
    since, settled = now - context.settings.payload_retention, now - context.settings.settle_after
    groups = {
        "dead": count_reasons(tx, "dead", since=since),
        "unknown": count_reasons(tx, "unknown", since=since, until=settled),
    }
    return [Unhandled(state=state, **row) for state, rows in groups.items() for row in rows]


def _list_refused(context: Context, now: int) -> Sequence[RefusedRequests]:
    tally = context.turned_away
    return [tally.show(*key, now) for key in sorted(tally.counts)]


def _look_at_store(context: Context, *, can_commit: bool) -> StoreStatus:
    settings, size, free = context.settings, None, None
    if not settings.shares_database and (path := settings.database_path).is_file():
        size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    return StoreStatus(place=settings.database_place, can_commit=can_commit, size_bytes=size, free_bytes=free)


def _show(at: int | None) -> str | None:
    return None if at is None else format_instant(at)
