"""Tells how the relay stands: the outbox, the lanes and what the process has seen. Instants are in ms until shown."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from app.delivery.pace import Pace
from app.delivery.status import RECENT_MS, ConfigStatus, HoldStatus, LaneStatus, Status, list_needs
from app.model.delivery import State
from app.outbox.claim import find_oldest_due
from app.outbox.holds import list_holds
from app.outbox.read import count_deliveries, count_reasons, count_reported, read_last_event
from app.outbox.store import Tx
from app.outbox.values import Hold
from app.relay.context import Context


async def read_status(context: Context, paces: Mapping[str, Pace], config: ConfigStatus) -> Status:
    """Return how the relay stands. Raises StoreError where the outbox does not answer."""
    outbox, now, event = context.outbox, context.clock(), await context.outbox.read(read_last_event)
    told = {
        "version": version("nector-relay"),
        "now": now,
        "started_at": context.started_at,
        "config": config,
        "last_event": event and {"id": event.id, "topic": event.topic, "at": event.received_at},
        "refused": [
            {
                "kind": kind,
                "reason": reason,
                "count": count,
                "last_at": at,
                "recent": now - at < RECENT_MS,
                "cure": cure,
            }
            for (kind, reason), (count, at, cure) in sorted(context.turned_away.counts.items())
        ],
        "lanes": await outbox.read(partial(_read_lanes, context=context, paces=paces, now=now)),
        "holds": [show_hold(hold) for hold in await outbox.read(list_holds)],
        "unhandled": await outbox.read(partial(_list_unhandled, context=context, now=now)),
        "store": _look_at_store(context, can_commit=await outbox.can_commit()),
    }
    status = Status.model_validate(told)
    return status.model_copy(update={"needs": list(list_needs(status))})


def show_lane(provider: str, pace: Pace, rate: str, now: int) -> LaneStatus:
    """Return how a lane stands by its pace alone."""
    recovery, paused = pace.recovery, pace.paused_until > now
    told = {
        "provider": provider,
        "state": "down" if recovery.down else "paused" if paused else "up",
        "rate": rate,
        "paused_until": pace.paused_until if paused else None,
        "down_since": recovery.down_since,
        "next_probe_at": max(recovery.probe_at or 0, pace.paused_until, now) if recovery.down else None,
    }
    return LaneStatus.model_validate(told)


def show_hold(hold: Hold) -> HoldStatus:
    """Return a hold as the ops API shows it."""
    return HoldStatus.model_validate({**asdict(hold), "until": hold.ends_at})


def _read_lanes(tx: Tx, context: Context, paces: Mapping[str, Pace], now: int) -> list[dict[str, Any]]:
    counts, reported = count_deliveries(tx), count_reported(tx)
    waiting = {provider: n for (provider, state), n in counts.items() if state is State.PENDING and n}
    providers = context.snapshot.config.providers
    lanes = [show_lane(name, paces[name], providers[name].rate, now) for name in providers if name in paces]
    lanes += [LaneStatus(provider=name, state="gone", rate="-") for name in sorted(waiting.keys() - providers.keys())]
    told = []
    for lane in lanes:
        row = reported.get(lane.provider)
        seen = {"accepted": row.accepted, "reported": row.reported, "last_receipt_at": row.last_at} if row else {}
        due_at = find_oldest_due(tx, lane.provider)
        told.append({**dict(lane), "waiting": waiting.get(lane.provider, 0), "oldest_due_at": due_at, **seen})
    return told


def _list_unhandled(tx: Tx, context: Context, now: int) -> list[dict[str, Any]]:
    """Return what is dead or unknown for good, of the time for which it can still be mended: payloads go after that."""
    since, settled = now - context.settings.payload_retention, now - context.settings.settle_after
    groups = {
        "dead": count_reasons(tx, "dead", since=since),
        "unknown": count_reasons(tx, "unknown", since=since, until=settled),
    }
    return [{"state": state, **row} for state, rows in groups.items() for row in rows]


def _look_at_store(context: Context, *, can_commit: bool) -> dict[str, Any]:
    settings, size, free = context.settings, None, None
    if not settings.shares_database and (path := settings.database_path).is_file():
        size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    return {"place": settings.database_place, "can_commit": can_commit, "size_bytes": size, "free_bytes": free}
