"""Opening attempts: which due deliveries of a lane go next, and what is put off, expired or found damaged.

The pending index is ordered by provider, route, template, rank and due time, so the earliest of every
group is found by one seek each, whatever waits behind it: what is held costs nothing, and 100,000 due
on one route do not delay another's one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.message.freeze import checksum, decode_message
from app.model.delivery import Attempt, Delivery, Reason, State
from app.model.message import Message
from app.outbox.holds import Group, Standing, find_start, list_blocking, move_probes, read_standing
from app.outbox.lanes import note_claim
from app.outbox.suppressions import is_suppressed

EXAMINE_LIMIT = 500  # rows beyond the limit that one claim may put off or expire before it lets others write
EXAMINE_A_TURN = 16  # and one route in its turn, so that its expired ones do not use up the claim

# A loose index scan: from each group's first row, seek the first row of the next one. Only the index is read: its keys
# rise at every step, so that the scan ends even where a row was damaged and no longer says what its key does. SQLite
# turns a row value's `>` into a seek by `>=` and a test, hence the due time beyond all others. The names go back as
# bytes, for a damaged one may be no text; `+` takes the cast's affinity away, without which only the first of the row
# value would be sought by.
_NEXT_GROUP = """
SELECT route, template, rank, due_at, CAST(route AS BLOB), CAST(template AS BLOB)
FROM deliveries INDEXED BY deliveries_pending
WHERE state = 'pending' AND provider = ?
  AND (route, template, rank, due_at) > (+CAST(? AS TEXT), +CAST(? AS TEXT), ?, 1 << 62)
ORDER BY route, template, rank, due_at LIMIT 1
"""
_FIRST = (b"", b"", -(2**62))
_DUE = """
SELECT d.seq, d.id, e.id, d.route, d.provider, d.template, d.recipient, d.message, d.checksum, d.created_at, d.due_at,
       d.deadline_at, -d.rank, d.on_unknown, d.config_hash, d.attempts, d.spent, d.config_line, d.marketing, d.trace,
       d.person
FROM deliveries d INDEXED BY deliveries_pending CROSS JOIN events e ON e.seq = d.event_seq
WHERE d.state = 'pending' AND d.provider = ? AND d.route = ? AND d.template = ? AND d.rank = ? AND d.due_at <= ?
ORDER BY d.due_at, d.seq LIMIT ?
"""
_LAST_TURN = "SELECT last_at FROM recipient_turns WHERE provider = ? AND recipient = ?"
_SEND = """
UPDATE deliveries SET state = 'sending', reason = NULL, detail = '', attempts = ?1, last_attempt_at = ?2,
    lease_until = ?3, updated_at = ?2 WHERE seq = ?4
"""
_OPEN_ATTEMPT = "INSERT INTO attempts (delivery_seq, number, started_at) VALUES (?, ?, ?)"
_TAKE_TURN = """
INSERT INTO recipient_turns VALUES (?, ?, ?) ON CONFLICT (provider, recipient) DO UPDATE SET last_at = excluded.last_at
"""
_PUT_OFF = "UPDATE deliveries SET due_at = ? WHERE seq = ?"
_END = "UPDATE deliveries SET state = ?, reason = ?, updated_at = ? WHERE seq = ?"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a lane asks for. `after`: the route that was served last, so that turns go on from there."""

    provider: str
    now: int
    limit: int
    lease_ms: int
    gap_ms: int
    after: str | None = None


@dataclass(slots=True)
class _Route:
    """A route's turn: its groups in order, and the rows that were read ahead."""

    name: str
    groups: deque[Group]
    ahead: deque[Any] = field(default_factory=deque)


@dataclass(slots=True)
class _Harvest:
    """What a claim has decided so far, and not yet written."""

    attempts: list[Attempt] = field(default_factory=list)
    examined: int = 0
    free_at: dict[str, int] = field(default_factory=dict)
    send: list[tuple[int, int, int, int]] = field(default_factory=list)
    put_off: list[tuple[int, int]] = field(default_factory=list)
    end: list[tuple[str, str, int, int]] = field(default_factory=list)


def read_groups(db: sqlite3.Connection, provider: str) -> Sequence[Group]:
    """Return the lane's pending groups, each with its earliest due time."""
    groups: list[Group] = []
    last = _FIRST
    while (row := db.execute(_NEXT_GROUP, (provider, *last)).fetchone()) is not None:
        groups.append(Group(*row[:4]))
        last = row[4], row[5], row[2]
    return groups


def find_next_due(db: sqlite3.Connection, provider: str) -> int | None:
    """Return when the lane's next delivery may start; None if nothing waits, or all behind holds by hand."""
    standing = read_standing(db)
    starts = [find_start(standing, provider, group) for group in read_groups(db, provider)]
    return min((start for start in starts if start is not None), default=None)


def find_oldest_due(db: sqlite3.Connection, provider: str, now: int) -> int | None:
    """Return since when the lane's oldest delivery that could go now is due; what is held could not."""
    standing = read_standing(db)
    free = (group.due_at for group in read_groups(db, provider) if not list_blocking(standing, provider, group))
    return min((due_at for due_at in free if due_at <= now), default=None)


def claim_due(db: sqlite3.Connection, claim: Claim) -> Sequence[Attempt]:
    """Open up to `claim.limit` attempts: probes of holds first, then the routes in turn."""
    standing = read_standing(db)
    due = [group for group in read_groups(db, claim.provider) if group.due_at <= claim.now]
    harvest = _Harvest()
    for group in due if standing else ():
        _claim_probe(db, claim, harvest, group, standing)
    free = [group for group in due if not list_blocking(standing, claim.provider, group)]
    turns = _order_turns(free, claim.after)
    while turns and len(harvest.attempts) < claim.limit and harvest.examined < claim.limit + EXAMINE_LIMIT:
        route = turns.popleft()
        if _take_turn(db, claim, harvest, route, ()):
            turns.append(route)
    _write(db, claim, harvest)
    return harvest.attempts


def _claim_probe(db: sqlite3.Connection, claim: Claim, harvest: _Harvest, group: Group, standing: Standing) -> None:
    """Let one delivery of a held group try, if each of its holds may be probed now and none was in this claim."""
    scopes = list_blocking(standing, claim.provider, group)
    start = find_start(standing, claim.provider, group)
    tried = {scope for attempt in harvest.attempts for scope in attempt.probes}
    if not scopes or start is None or start > claim.now or len(harvest.attempts) >= claim.limit or tried & {*scopes}:
        return
    before = len(harvest.attempts)
    _take_turn(db, claim, harvest, _Route(group.route, deque([group])), scopes)
    if len(harvest.attempts) > before:
        move_probes(db, scopes, claim.now)


def _order_turns(groups: Sequence[Group], after: str | None) -> deque[_Route]:
    """Return the routes, the one after the last served first; in each, groups by rank, then by due time."""
    routes: dict[str, _Route] = {}
    for group in sorted(groups, key=lambda group: (group.route, group.rank, group.due_at)):
        routes.setdefault(group.route, _Route(group.route, deque())).groups.append(group)
    return deque(routes[name] for name in sorted(routes, key=lambda name: (name <= (after or ""), name)))


def _take_turn(db: sqlite3.Connection, claim: Claim, harvest: _Harvest, route: _Route, probes: tuple[str, ...]) -> bool:
    """Open one attempt of a route, passing over what cannot go now. False if nothing more is due there."""
    for _ in range(EXAMINE_A_TURN):
        row = _next_row(db, claim, harvest, route)
        if row is None:
            return False
        harvest.examined += 1
        if _examine(db, claim, harvest, row, probes):
            return True
    return True


def _next_row(db: sqlite3.Connection, claim: Claim, harvest: _Harvest, route: _Route) -> Any:
    while not route.ahead:
        if not route.groups:
            return None
        # What was decided leaves the index once written, so the group's head is again what is still to do.
        _write(db, claim, harvest)
        group = route.groups[0]
        wanted = min(EXAMINE_A_TURN, claim.limit - len(harvest.attempts))
        place = (claim.provider, group.route, group.template, group.rank, claim.now, wanted)
        route.ahead.extend(db.execute(_DUE, place).fetchall())
        if len(route.ahead) < wanted:
            route.groups.popleft()
    return route.ahead.popleft()


def _examine(db: sqlite3.Connection, claim: Claim, harvest: _Harvest, row: Any, probes: tuple[str, ...]) -> bool:
    """Open an attempt on a due row; False if it expired, is damaged, or its recipient opted out or had one just now."""
    seq, recipient, deadline_at = row[0], row[6], row[11]
    if deadline_at <= claim.now:
        harvest.end.append((State.EXPIRED, Reason.DEADLINE_PASSED, claim.now, seq))
        return False
    if row[18] and is_suppressed(db, row[20]):  # marketing, and they have opted out since it was queued
        harvest.end.append((State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT, claim.now, seq))
        return False
    free_at = _find_free(db, claim, harvest, recipient)
    if free_at > claim.now:
        harvest.put_off.append((free_at, seq))  # all of theirs to one instant: equal due times go oldest first
        return False
    message = thaw_message(row[7], row[8])
    if message is None:
        harvest.end.append((State.DEAD, Reason.MESSAGE_DAMAGED, claim.now, seq))
        return False
    harvest.free_at[recipient] = claim.now + claim.gap_ms
    number = row[15] + 1
    harvest.send.append((number, claim.now, claim.now + claim.lease_ms, seq))
    harvest.attempts.append(Attempt(_read_delivery(row, message), number, claim.now, spent=row[16], probes=probes))
    return True


def _find_free(db: sqlite3.Connection, claim: Claim, harvest: _Harvest, recipient: str) -> int:
    """Return from when on the recipient may be written to again."""
    free_at = harvest.free_at.get(recipient)
    if free_at is None:
        found = db.execute(_LAST_TURN, (claim.provider, recipient)).fetchone()
        # A clock that was set back must not silence anybody for longer than the gap.
        free_at = min(found[0], claim.now) + claim.gap_ms if found else claim.now
    return free_at


def thaw_message(data: bytes | None, expected: str | None) -> Message | None:
    """Return the frozen message; None if it is not the one that was frozen."""
    if data is None or checksum(data) != expected:
        return None
    try:
        return decode_message(data)
    except ValueError:  # sound bytes of a shape that this release cannot read
        return None


def _read_delivery(row: Any, message: Message) -> Delivery:
    """The delivery as it was handed in; its dedup key is not kept, only a hash."""
    return Delivery(
        id=row[1],
        event_id=row[2],
        route=row[3],
        provider=row[4],
        template=row[5],
        recipient=row[6],
        message=message,
        state=State.SENDING,
        reason=None,
        created_at=row[9],
        due_at=row[10],
        deadline_at=row[11],
        priority=row[12],
        on_unknown=row[13],
        config_hash=row[14],
        config_line=row[17],
        marketing=bool(row[18]),
        trace=row[19],
    )


def _write(db: sqlite3.Connection, claim: Claim, harvest: _Harvest) -> None:
    """Write what was decided since the last time."""
    if harvest.send:
        db.executemany(_SEND, harvest.send)
        db.executemany(_OPEN_ATTEMPT, [(seq, number, now) for number, now, _, seq in harvest.send])
        opened = harvest.attempts[-len(harvest.send) :]
        note_claim(db, claim.provider, claim.now)
        db.executemany(_TAKE_TURN, [(claim.provider, each.delivery.recipient, claim.now) for each in opened])
    if harvest.put_off:
        db.executemany(_PUT_OFF, harvest.put_off)
    if harvest.end:
        db.executemany(_END, harvest.end)
    harvest.send, harvest.put_off, harvest.end = [], [], []
