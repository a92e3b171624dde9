"""Holds: stops on a provider, a route or a template, behind which pending deliveries wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.delivery.decide import probe_wait_ms
from app.delivery.holds import REINSTATED
from app.model.delivery import Reason
from app.outbox.values import Hold, NewHold

# What a person has stopped, an automatic hold neither renames nor lets probe; a person may take over any.
_PUT = """
INSERT INTO holds (scope, reason, since, probe_at, probe_every_ms, by_hand) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at,
    probe_every_ms = excluded.probe_every_ms, by_hand = excluded.by_hand
WHERE excluded.by_hand OR NOT holds.by_hand
"""
_RELEASE = "DELETE FROM holds WHERE scope = ?"
_RELEASE_PROBED = "DELETE FROM holds WHERE scope = ? AND NOT by_hand"
_REFUSE = """
INSERT INTO refusals VALUES (?, ?, 1)
ON CONFLICT (route) DO UPDATE SET n = iif(reason = excluded.reason, n, 0) + 1, reason = excluded.reason
"""
_READ = "SELECT scope, probe_at FROM holds"
_MOVE_PROBE = "UPDATE holds SET probe_at = ? + probe_every_ms WHERE scope = ? AND probe_at IS NOT NULL"
_COUNT_PENDING = """
SELECT provider, route, template, count(*) FROM deliveries INDEXED BY deliveries_pending
WHERE state = 'pending' GROUP BY provider, route, template
"""
_LIST = "SELECT scope, reason, since, probe_at FROM holds ORDER BY since, scope"

Standing = Mapping[str, int | None]
"""Every scope on hold, and when it may be probed."""


@dataclass(frozen=True, slots=True)
class Group:
    """The pending deliveries of a lane that share route, template and rank; `due_at` is their earliest."""

    route: str
    template: str
    rank: int
    due_at: int


def name_scopes(provider: str, route: str, template: str) -> tuple[str, str, str]:
    """Return the scopes that would hold a delivery, the widest first."""
    return f"provider:{provider}", f"route:{route}", f"template:{provider}/{template}"


def put_hold(
    db: sqlite3.Connection, scope: str, reason: str, now: int, probe_at: int | None, *, by_hand: bool = False
) -> bool:
    """Set a hold; True if none stood. One that stands keeps its `since`; one set by hand is never probed.

    The one door: what passes it stands in the history, too.
    """
    stood = db.execute("SELECT reason, by_hand FROM holds WHERE scope = ?", (scope,)).fetchone()
    by_hand = by_hand or reason == Reason.BY_HAND
    row = (scope, reason, now, None if by_hand else probe_at, probe_wait_ms(scope), by_hand)
    if db.execute(_PUT, row).rowcount and stood != (reason, by_hand):
        note_change(db, scope, now, "set", reason, by_hand=by_hand)
    return stood is None


def put_new(db: sqlite3.Connection, scope: str, reason: Reason, now: int, probe_at: int | None) -> NewHold | None:
    """Set a hold that nobody asked for by hand; return it if none stood."""
    return NewHold(scope, reason.value) if put_hold(db, scope, reason, now, probe_at) else None


def release_hold(db: sqlite3.Connection, scope: str, now: int) -> bool:
    """End a hold, as a person wishes; False if there was none. What it was set for is counted anew."""
    forget_refusals(db, scope.removeprefix("route:"))
    return _end_hold(db, _RELEASE, scope, now, by_hand=True)


def release_probed(db: sqlite3.Connection, scopes: Iterable[str], now: int) -> tuple[str, ...]:
    """End the holds that a probe has found mended; return those that stood. What a person stopped meanwhile stays."""
    return tuple(scope for scope in scopes if _end_hold(db, _RELEASE_PROBED, scope, now, by_hand=False))


def lift_hold(db: sqlite3.Connection, scope: str, reasons: Collection[str], now: int) -> bool:
    """End a hold that stands for one of these reasons and not by hand, since WhatsApp says so."""
    stood = db.execute("SELECT reason FROM holds WHERE scope = ?", (scope,)).fetchone()
    fits = stood is not None and stood[0] in reasons
    return fits and _end_hold(db, _RELEASE_PROBED, scope, now, by_hand=False, why=REINSTATED)


def _end_hold(
    db: sqlite3.Connection, statement: str, scope: str, now: int, *, by_hand: bool, why: str | None = None
) -> bool:
    stood = db.execute("SELECT reason FROM holds WHERE scope = ?", (scope,)).fetchone()
    if stood is None or not db.execute(statement, (scope,)).rowcount:
        return False
    note_change(db, scope, now, "released", why or stood[0], by_hand=by_hand)
    return True


def count_refusal(db: sqlite3.Connection, route: str, reason: str) -> int:
    """Note that one more message of a route was refused for good; return how many were, in a row, for this reason.

    Answers that say nothing are counted in the same way, for `provider:NAME`, which is no name of a route.
    """
    db.execute(_REFUSE, (route, reason))
    return int(db.execute("SELECT n FROM refusals WHERE route = ?", (route,)).fetchone()[0])


def forget_refusals(db: sqlite3.Connection, route: str, provider_scope: str = "") -> None:
    """Begin the count of a route's refusals again, and of a provider's unreadable answers."""
    db.execute("DELETE FROM refusals WHERE route IN (?, ?)", (route, provider_scope))


def read_standing(db: sqlite3.Connection) -> Standing:
    """Return every hold and its probe time."""
    return dict(db.execute(_READ).fetchall())


def move_probes(db: sqlite3.Connection, scopes: Iterable[str], now: int) -> None:
    """A probe leaves now: put the next one of these holds off."""
    db.executemany(_MOVE_PROBE, [(now, scope) for scope in scopes])


def list_blocking(standing: Standing, provider: str, group: Group) -> tuple[str, ...]:
    """Return the holds that stop a group, the widest first."""
    return tuple(scope for scope in name_scopes(provider, group.route, group.template) if scope in standing)


def find_start(standing: Standing, provider: str, group: Group) -> int | None:
    """Return when a group's earliest delivery may start, at the earliest; None: not before a person releases it."""
    start = group.due_at
    for scope in list_blocking(standing, provider, group):
        probe_at = standing[scope]
        if probe_at is None:
            return None
        start = max(start, probe_at)
    return start


def list_holds(db: sqlite3.Connection) -> Sequence[Hold]:
    """Return every hold, oldest first, with how many pending deliveries it stops."""
    holds = db.execute(_LIST).fetchall()
    waiting: dict[str, int] = {}
    # Most of the time there is none, and then nothing to count among 100,000 pending.
    for provider, route, template, count in db.execute(_COUNT_PENDING) if holds else ():
        for scope in name_scopes(provider, route, template):
            waiting[scope] = waiting.get(scope, 0) + count
    return [Hold(scope, reason, since, waiting.get(scope, 0), probe_at) for scope, reason, since, probe_at in holds]


Change = Literal["set", "released"]
KEPT = 500  # changes of a scope: two faults that take turns at every probe must not fill the disk

_ADD = "INSERT INTO hold_changes (scope, at, change, reason, by_hand) VALUES (?, ?, ?, ?, ?)"
_DROP_SURPLUS = """
DELETE FROM hold_changes WHERE scope = ?1 AND n <= (SELECT n FROM hold_changes WHERE scope = ?1
    ORDER BY n DESC LIMIT 1 OFFSET ?2)
"""
# What stood when the delivery came, then what changed until it had ended.
_LIST_CHANGES = """
SELECT scope, change, at, reason, by_hand, n FROM (SELECT * FROM hold_changes WHERE scope = ?1 AND at < ?2
    ORDER BY at DESC, n DESC LIMIT 1) WHERE change = 'set'
UNION ALL SELECT scope, change, at, reason, by_hand, n FROM hold_changes WHERE scope = ?1 AND at BETWEEN ?2 AND ?3
"""
# Of a hold that still stands it stays known since when.
_FORGET = """
DELETE FROM hold_changes WHERE at < ?1 AND NOT (change = 'set' AND n IN
    (SELECT max(n) FROM hold_changes GROUP BY scope))
"""


def note_change(db: sqlite3.Connection, scope: str, now: int, change: Change, reason: str, *, by_hand: bool) -> None:
    """Keep that a hold was set, or set for another reason, or released. `reason`: the hold's own, of either."""
    db.execute(_ADD, (scope, now, change, reason, by_hand))
    db.execute(_DROP_SURPLUS, (scope, KEPT))


def list_changes(db: sqlite3.Connection, scopes: Sequence[str], since: int, until: int) -> Sequence[Any]:
    """Return (scope, change, at, reason, by_hand) of what stood on these scopes at `since` or changed until `until`.

    In the order in which it happened; both bounds included.
    """
    rows = [row for scope in scopes for row in db.execute(_LIST_CHANGES, (scope, since, until))]
    return [tuple(row[:5]) for row in sorted(rows, key=lambda row: row[5])]


def forget_changes(db: sqlite3.Connection, before: int) -> int:
    """Delete what changed before `before`, but for what still stands. Return how many."""
    return db.execute(_FORGET, (before,)).rowcount
