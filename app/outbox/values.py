"""These values go into the store and come out of it, beside the model's. Instants are ms since the epoch, UTC.

At the end stands how SQLite seeks people, which several queries share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, NamedTuple

from app.model.delivery import Attempt, State
from app.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The deliveries that `add_event` left in the outbox, those of the first time if a duplicate."""

    event_id: str
    deliveries: tuple[DeliveryState, ...]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """The four columns that a webhook's answer shows."""

    id: str
    route: str
    provider: str
    state: State


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list; None = any. `state` may also be "held". Newest first, `cursor` from the last page.

    `phone`: sent to this person, or of an event that is about them. `since` and `until`: made in between.
    """

    state: str | None = None
    route: str | None = None
    provider: str | None = None
    event_id: str | None = None
    provider_message_id: str | None = None
    template: str | None = None
    topic: str | None = None
    reason: str | None = None
    phone: str | None = None  # E.164
    since: int | None = None
    until: int | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A stop on a scope: `provider:NAME`, `route:NAME` or `template:PROVIDER/NAME`."""

    scope: str
    reason: str
    since: int
    deliveries: int  # pending ones that wait behind it
    probe_at: int | None = None  # when one delivery may try whether it still stands; None: never, by hand only
    by: str | None = None  # the person who set it
    ends_at: int | None = None  # when it ends by itself
    by_hand: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """A sweep expired so many deliveries, resends so many unknown ones, and found so many leases and holds run out."""

    expired: int
    resent: int
    lost: int = 0
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """The result of closing an attempt. `holds_released`: those that it probed and that ended with its success."""

    recorded: bool
    holds_set: tuple[NewHold, ...] = ()
    holds_released: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewHold:
    """A hold that stands now and did not before."""

    scope: str
    reason: str


class UnroutedBodies(NamedTuple):
    """So many events without a route have their bodies, so long together; so many were dropped to make room."""

    bodies: int
    bytes: int
    dropped: int


Floors = Mapping[tuple[str, str, int], tuple[int, int]]
"""By route, template and rank: the due time and the number below which nothing waits, see lanes.py."""


class Claimed(NamedTuple):
    """The result of a claim. `limited`: the route of each that waits for a person's limit, and did not before.

    `next_due`: when to claim again; None if nothing waits, or all behind holds by hand. `floors`: None where no look
    was needed, or a look costs the same whatever has gone.
    """

    attempts: Sequence[Attempt]
    holds_set: tuple[NewHold, ...] = ()
    limited: tuple[str, ...] = ()
    next_due: int | None = None
    floors: Floors | None = None


@dataclass(frozen=True, slots=True)
class ReceiptResult:
    """The result of a receipt: of which delivery it was, all None while it is of none. `recipient`: in clear."""

    delivery_id: str | None = None
    event_id: str | None = None
    route: str | None = None
    recipient: str | None = None
    created_at: int | None = None
    holds_set: tuple[NewHold, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """The result of a reply: of which delivery it was (None: of none), and what is new by it."""

    delivery_id: str | None = None
    event_id: str | None = None
    route: str | None = None
    clicked: bool = False
    changed: bool = False  # they get no marketing any more, or get it again


@dataclass(frozen=True, slots=True)
class SuppressionCounts:
    """So many people get no marketing, and so many WhatsApp could not reach."""

    suppressed: int
    unreachable: int


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane must still know this after a restart, so that its limits hold across it. Instants are ms.

    `failures`: in a row, see core/recovery. `probe_at`: when the next request may feel for a provider that is
    down. `last_claim_at` is written by `claim_due` itself.
    """

    last_claim_at: int | None = None
    paused_until: int = 0
    failures: int = 0
    probe_at: int | None = None
    resumed_at: int | None = None
    down_since: int | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """A process that shares the store: what it runs, and when it was last there."""

    name: str
    release: str
    config: str
    last_seen: int


def list_differences(replicas: Sequence[Replica]) -> Sequence[str]:
    """Return in what the replicas that are there differ: `release`, `config`."""
    return [what for what in ("release", "config") if len({getattr(each, what) for each in replicas}) > 1]


@dataclass(frozen=True, slots=True)
class Erased:
    """The result of erasing a person. `open`: deliveries that are being sent and were left: call again in a minute.

    `opt_out_kept`: that they want no marketing stays known. `log_emptied`: False if somebody went on reading the log,
    which then still holds what was erased: call again.
    """

    events: int
    deliveries: int
    open: int
    opt_out_kept: bool
    log_emptied: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """An event whose values were replaced by invented ones; `payload` is JSON."""

    topic: str
    at: int
    payload: str


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Which deliveries the ledger counts: made from `since` on and before `until`; how they are grouped.

    A customer's act counts for a message within `window_ms` after it was accepted. `timezone`: in which a day is one.
    """

    since: int
    until: int
    by: Literal["route", "topic", "day"]
    window_ms: int
    timezone: str


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row counts the deliveries of one route, topic or day by how far they came; each counts once in each column.

    `acted`: their customer did what they are meant to bring about (Source.aims); `ordered`: placed an order.
    `delivered` includes `read`. `received` = `accepted` + `waiting` + `dead` + `expired` + `unknown` + `suppressed`.
    `reported`: of which any receipt came.
    """

    key: str
    received: int = 0
    accepted: int = 0
    delivered: int = 0
    read: int = 0
    clicked: int = 0
    acted: int = 0
    ordered: int = 0
    failed: int = 0
    waiting: int = 0
    dead: int = 0
    expired: int = 0
    unknown: int = 0
    suppressed: int = 0
    reported: int = 0


def seek_in_lumps(table: str, last: str) -> str:
    """Return the condition by which SQLite seeks people up to the row `last`, an SQL expression; others need none."""
    first, end = f"(SELECT min(seq) >> 8 FROM {table})", f"({last} >> 8)"  # noqa: S608 - ours
    lumps = f"WITH RECURSIVE lumps (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM lumps WHERE n < {end})"  # noqa: S608 - ours
    return f"/*sqlite (seq >> 8) IN ({lumps} SELECT n FROM lumps) AND*/"  # noqa: S608 - ours


IN_LUMPS = {table: seek_in_lumps(table, f"(SELECT max(seq) FROM {table})") for table in ("events", "deliveries")}  # noqa: S608 - ours
"""Stands before a condition on a person or customer. SQLite indexes them by lumps of 256 rows, so that what is new goes
to the end of the index, whoever it is about; a look into each lump is 6 ms a million rows."""
