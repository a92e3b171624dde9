"""Opening attempts: which due deliveries of a lane go next, and what is put off, expired or found damaged.

The pending index is ordered by provider, route, template, rank and due time, so the earliest of every
group is found by one seek each, whatever waits behind it: what is held costs nothing, and 100,000 due
on one route do not delay another's one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from app.delivery.pace import RECIPIENT_GAP_MS
from app.delivery.policy import (
    DAMAGED,
    Candidate,
    Cause,
    End,
    Go,
    Group,
    StandingHolds,
    Stop,
    Wait,
    find_free,
    find_start,
    judge_candidate,
    list_blocking,
    order_turns,
)
from app.delivery.transitions import Move
from app.message.components import thaw_message
from app.model.delivery import Attempt, Delivery, State
from app.model.message import NO_LIMITS, Limits, Message
from app.model.value import dataclass
from app.outbox.holds import Accounts, Counting, move_probes, put_new, read_standing
from app.outbox.lanes import raise_floors, read_groups_above
from app.outbox.move import move, open_first, open_unwritten, write_unwritten
from app.outbox.people import SLOTS, fill_slots, find_unwanted
from app.outbox.store import Row, Tx, first
from app.outbox.values import Claimed, Floors, NewHold

EXAMINE_LIMIT = 500  # rows beyond the limit that one claim may put off or expire before it lets others write
EXAMINE_A_TURN = 16  # and one route in its turn, so that its expired ones do not use up the claim

# A loose index scan: from each group's first row, seek the first row of the next one. Only the index is read: its keys
# rise at every step, so that the scan ends even where a row was damaged and no longer says what its key does. SQLite
# turns a row value's `>` into a seek by `>=` and a test, hence the due time beyond all others. The names go back as
# bytes, for a damaged one may be no text; `+` takes the cast's affinity away, without which only the first of the row
# value would be sought by.
_NEXT_GROUP = """
SELECT route, template, rank, due_at,
    CAST(route AS BLOB) AS route_key, CAST(template AS BLOB) AS template_key
FROM deliveries /*sqlite INDEXED BY deliveries_pending*/
WHERE state = 'pending' AND provider = :provider AND (route, template, rank, due_at) >
    (+CAST(:route AS TEXT), +CAST(:template AS TEXT), :rank, :beyond)
ORDER BY route, template, rank, due_at LIMIT 1
"""
_BEYOND = 2**62
_FIRST = {"route": b"", "template": b"", "rank": -_BEYOND, "beyond": _BEYOND}
DUE = """
SELECT d.seq, d.id, e.id AS event_id, d.route, d.provider, d.template, d.recipient, d.message, d.checksum, d.created_at,
       d.due_at, d.deadline_at, d.rank, d.detail, d.on_unknown, d.config_hash, d.attempts, d.spent, d.config_line,
       d.marketing, d.trace, d.person, d.reason, d.steps = 1 AND d.receipt IS NULL AS is_usual,
       d.marketing = 1 AND EXISTS (SELECT 1 FROM suppressions s WHERE s.person = d.person) AS is_unwanted,
       (SELECT last_at FROM recipient_turns t WHERE t.provider = d.provider AND t.recipient = d.recipient) AS last_at
FROM deliveries d /*sqlite INDEXED BY deliveries_pending CROSS*/ JOIN events e ON e.seq = d.event_seq
WHERE d.state = 'pending' AND d.provider = :provider AND d.route = :route AND d.template = :template
  AND d.rank = :rank AND d.due_at <= :now /*postgres AND (d.due_at, d.seq) >= (:from_at, :from_seq)*/
ORDER BY d.due_at, d.seq LIMIT :limit /*postgres FOR UPDATE OF d SKIP LOCKED*/
"""
_OPEN_ATTEMPT = "INSERT INTO attempts_kept (delivery_seq, number, started_at) VALUES (:seq, :number, :now)"
_LAST_TURNS = f"""
SELECT recipient, last_at FROM recipient_turns WHERE provider = :provider AND recipient IN (:{", :".join(SLOTS)})
"""  # noqa: S608  # our own words only
_TAKE_TURN = """
INSERT INTO recipient_turns VALUES (:provider, :recipient, :now) /*postgres FROM MANY*/
ON CONFLICT (provider, recipient) DO UPDATE SET last_at = excluded.last_at
"""
# So that a restart grants no extra message.
_NOTE_CLAIM = """
INSERT INTO lanes (provider, last_claim_at) VALUES (:provider, :now)
ON CONFLICT (provider) DO UPDATE SET last_claim_at = excluded.last_claim_at
"""
_PUT_OFF = """
UPDATE deliveries SET due_at = :due_at, reason = coalesce(CAST(:reason AS TEXT), reason) WHERE seq = :seq
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim is what a lane asks for. `after`: the route that was served last, so that turns go on from there.

    `count_free`: asked once it is carried out, how many may go by then.
    """

    provider: str
    now: int
    limit: int
    lease_ms: int
    gap_ms: int = RECIPIENT_GAP_MS
    after: str | None = None
    limits: Limits = NO_LIMITS
    floors: Floors | None = None
    count_free: Callable[[], int] | None = None


@dataclass(slots=True)
class _Route:
    """A route's turn: its groups in order, and the rows that were read ahead."""

    groups: deque[Group]
    ahead: deque[Any] = field(default_factory=deque)


@dataclass(slots=True)
class _Harvest:
    """The harvest is what a claim has decided so far, and not yet written. `limited`: the routes of who waits now."""

    counting: Counting | None
    attempts: list[Attempt] = field(default_factory=list)
    examined: int = 0
    free_at: dict[str, int] = field(default_factory=dict)
    usual: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    turns: dict[str, dict[str, Any]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    put_off: list[dict[str, Any]] = field(default_factory=list)
    holds_set: list[NewHold] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)


def read_groups(tx: Tx, provider: str, floors: Floors | None = None) -> Sequence[Group]:
    """Return the lane's pending groups, each with its earliest due time."""
    if tx.slot is not None:
        return read_groups_above(tx, provider, floors or {})
    groups: list[Group] = []
    last: dict[str, Any] = _FIRST
    while (row := first(tx.rows(_NEXT_GROUP, provider=provider, **last))) is not None:
        groups.append(Group(*row[:4]))
        last = {**last, "route": row.route_key, "template": row.template_key, "rank": row.rank}
    return groups


def find_next_due(tx: Tx, provider: str) -> int | None:
    """Return when the lane's next delivery (or hold probe) may start; None: none waits, or all behind holds by hand."""
    return _find_earliest(tx, provider, read_standing(tx))


def _find_earliest(tx: Tx, provider: str, standing: StandingHolds, floors: Floors | None = None) -> int | None:
    starts = [find_start(standing, provider, group) for group in read_groups(tx, provider, floors)]
    return min((start for start in starts if start is not None), default=None)


def find_oldest_due(tx: Tx, provider: str) -> int | None:
    """Return since when the lane's oldest delivery that could go now is due; what is held could not."""
    standing = read_standing(tx)
    free = (group.due_at for group in read_groups(tx, provider) if not list_blocking(standing, provider, group))
    return min((due_at for due_at in free if due_at <= tx.now), default=None)


def claim_due(tx: Tx, claim: Claim) -> Claimed:
    """Claim for a lane as `open_due` does, and note when, for the next start."""
    claimed = open_due(tx, claim)
    if claimed.attempts:
        tx.send(_NOTE_CLAIM, [{"provider": claim.provider, "now": claim.now}])
    return claimed


def claim_each(tx: Tx, claims: Sequence[Claim]) -> Sequence[Claimed]:
    """Claim for several lanes, as of when the transaction began: what it sees may be younger than the asking."""
    return [claim_due(tx, _renew(claim, tx.now)) for claim in claims]


def _renew(claim: Claim, now: int) -> Claim:
    limit = claim.limit if claim.count_free is None else min(claim.limit, claim.count_free())
    return replace(claim, now=max(claim.now, now), limit=limit)


def open_due(tx: Tx, claim: Claim) -> Claimed:
    """Open up to `claim.limit` attempts: probes of holds first, then the routes in turn; their state becomes `sending`.

    Within a route higher priority goes first, then the oldest. Puts off a recipient of this provider with an attempt
    less than a gap ago, and who had as many as a limit allows; holds a route or the provider that sent as many. What
    is past its deadline becomes `expired` instead, what is damaged `dead`; since one call does not do much of that, it
    may return nothing while `find_next_due` has come: call again.
    """
    standing = read_standing(tx)
    groups = read_groups(tx, claim.provider, claim.floors)
    floors = None if tx.slot is None else raise_floors(claim.floors or {}, groups, claim.now)
    due = [group for group in groups if group.due_at <= claim.now]
    harvest = _Harvest(None if claim.limits is NO_LIMITS else Counting(claim.limits, claim.now))
    added = [row for row in tx.unwritten or () if row["provider"] == claim.provider and row["state"] == State.PENDING]
    if added and (due or standing or harvest.counting or not _open_added(tx, claim, harvest, added)):
        write_unwritten(tx)
        added, due = [], [group for group in read_groups(tx, claim.provider) if group.due_at <= claim.now]
    for group in due if standing else ():
        _claim_probe(tx, claim, harvest, group, standing)
    free = [group for group in due if not list_blocking(standing, claim.provider, group)]
    turns = deque(_Route(deque(groups)) for groups in order_turns(free, claim.after))
    while turns and len(harvest.attempts) < claim.limit and harvest.examined < claim.limit + EXAMINE_LIMIT:
        route = turns.popleft()
        if _take_turn(tx, claim, harvest, route, ()):
            turns.append(route)
    _write(tx, claim, harvest)
    is_full = len(harvest.attempts) >= claim.limit
    if standing or harvest.holds_set:  # a probe has moved, perhaps
        standing = read_standing(tx)
    next_due = claim.now if is_full else _find_earliest(tx, claim.provider, standing, floors)
    if waiting := [row["due_at"] for row in added if row["state"] == State.PENDING]:
        next_due = min(waiting) if next_due is None else min(next_due, *waiting)
    return Claimed(harvest.attempts, tuple(harvest.holds_set), tuple(harvest.limited), next_due, floors)


def _open_added(tx: Tx, claim: Claim, harvest: _Harvest, added: Sequence[dict[str, Any]]) -> bool:
    """Open what was made in this transaction and is not written yet; False where that takes a choice.

    So what goes at once is one INSERT, and never an entry in the index of what waits. Whom it is not simply to go
    waits there, for the next claim to examine.
    """
    due = [row for row in added if row["due_at"] <= claim.now and row["steps"] == 1]
    people = [row["recipient"] for row in due]
    if len(due) > claim.limit or len(set(people)) < len(due):
        return False
    last_at = _read_turns(tx, claim.provider, people)
    unwanted = find_unwanted(tx, [(row["delivery"], row["person"]) for row in due])  # an outcome may just have said so
    for recipient, row in zip(people, due, strict=True):
        free_at = find_free(last_at.get(recipient), claim.gap_ms, claim.now)
        if isinstance(judge_candidate(Candidate(row["deadline_at"], row["id"] in unwanted, free_at), claim.now), Go):
            open_unwritten(row, claim.now, claim.now + claim.lease_ms)
            harvest.turns[recipient] = {"provider": claim.provider, "recipient": recipient, "now": claim.now}
            harvest.attempts.append(Attempt(row["delivery"], 1, claim.now))
    return True


def _read_turns(tx: Tx, provider: str, recipients: Sequence[str]) -> Mapping[str, int]:
    """Return when each of these people was last written to."""
    found = tx.rows_many(_LAST_TURNS, fill_slots(recipients, provider=provider))
    return {row.recipient: row.last_at for rows in found for row in rows}


def _claim_probe(tx: Tx, claim: Claim, harvest: _Harvest, group: Group, standing: StandingHolds) -> None:
    """Let one delivery of a held group try, if each of its holds may be probed now and none was in this claim."""
    scopes = list_blocking(standing, claim.provider, group)
    start = find_start(standing, claim.provider, group)
    tried = {scope for attempt in harvest.attempts for scope in attempt.probes}
    if not scopes or start is None or start > claim.now or len(harvest.attempts) >= claim.limit or tried & {*scopes}:
        return
    before = len(harvest.attempts)
    _take_turn(tx, claim, harvest, _Route(deque([group])), scopes)
    if len(harvest.attempts) > before:
        move_probes(tx, scopes, claim.now)


def _take_turn(tx: Tx, claim: Claim, harvest: _Harvest, route: _Route, probes: tuple[str, ...]) -> bool:
    """Open one attempt of a route, passing over what cannot go now. False if nothing more may go there."""
    for _ in range(EXAMINE_A_TURN):
        row = _next_row(tx, claim, harvest, route)
        if row is None:
            return False
        harvest.examined += 1
        before = len(harvest.attempts)
        if _examine(tx, claim, harvest, row, probes):
            return False
        if len(harvest.attempts) > before:
            return True
    return True


def _next_row(tx: Tx, claim: Claim, harvest: _Harvest, route: _Route) -> Any:
    while not route.ahead:
        if not route.groups:
            return None
        # What was decided leaves the index once written, so the group's head is again what is still to do.
        _write(tx, claim, harvest)
        group = route.groups[0]
        wanted = min(EXAMINE_A_TURN, claim.limit - len(harvest.attempts))
        place = {"route": group.route, "template": group.template, "rank": group.rank}
        place |= {"from_at": group.due_at, "from_seq": group.seq}
        route.ahead.extend(tx.rows(DUE, provider=claim.provider, now=claim.now, limit=wanted, **place))
        if len(route.ahead) < wanted:
            route.groups.popleft()
    return route.ahead.popleft()


def _examine(tx: Tx, claim: Claim, harvest: _Harvest, row: Row, probes: tuple[str, ...]) -> bool:
    """Open an attempt on a due row, or let it wait or end; True if its route is on hold from now on."""
    free_at = harvest.free_at.get(row.recipient)
    if free_at is None:
        free_at = find_free(row.last_at, claim.gap_ms, claim.now)
    accounts = harvest.counting.list_accounts(tx, row) if harvest.counting else ()
    verdict = judge_candidate(Candidate(row.deadline_at, bool(row.is_unwanted), free_at, accounts), claim.now)
    message = thaw_message(row.message, row.checksum) if isinstance(verdict, Go) else None
    match verdict:
        case Wait(until=until, reason=reason):
            # All of theirs to one instant: equal due times go oldest first.
            harvest.put_off.append({"due_at": until, "reason": reason and reason.value, "seq": row.seq})
            if reason is not None and row.reason != reason:
                harvest.limited.append(row.route)
        case Stop(scope=scope, reason=reason):
            harvest.holds_set += filter(None, [put_new(tx, scope, reason, None)])
        case End():
            harvest.moves.append(_end(row, verdict))
        case Go() if message is None:
            harvest.moves.append(_end(row, DAMAGED))
        case Go() if message is not None:
            _open(claim, harvest, row, message, probes, accounts)
    return isinstance(verdict, Stop)


def _open(
    claim: Claim, harvest: _Harvest, row: Row, message: Message, probes: tuple[str, ...], accounts: Accounts
) -> None:
    harvest.free_at[row.recipient] = claim.now + claim.gap_ms
    number, lease_until = row.attempts + 1, claim.now + claim.lease_ms
    counted = harvest.counting.count(accounts) if harvest.counting else ()
    harvest.attempts.append(Attempt(_read_delivery(row, message), number, claim.now, row.spent, probes, counted))
    opened = {
        "seq": row.seq,
        "number": number,
        "now": claim.now,
        "lease_until": lease_until,
        "provider": claim.provider,
        "recipient": row.recipient,
    }
    harvest.turns[row.recipient] = opened
    if row.is_usual:
        harvest.usual.append(opened)
    else:
        harvest.opened.append(opened)
        opening = {"lease_until": lease_until, "due_at": row.due_at}
        harvest.moves.append(_move(row, State.SENDING, Cause.CLAIMED, number, **opening))


def _end(row: Row, end: End) -> Move:
    return _move(row, end.state, end.cause, row.attempts, reason=end.reason, detail=row.detail)


def _move(row: Row, state: State, cause: Cause, attempt: int, **more: Any) -> Move:
    return Move(row.seq, row.route, row.provider, State.PENDING, state, cause, attempt, **more)


def _read_delivery(row: Row, message: Message) -> Delivery:
    """The delivery as it was handed in; its dedup key is not kept, only a hash."""
    return Delivery(
        id=row.id,
        event_id=row.event_id,
        route=row.route,
        provider=row.provider,
        template=row.template,
        recipient=row.recipient,
        message=message,
        state=State.SENDING,
        reason=None,
        created_at=row.created_at,
        due_at=row.due_at,
        deadline_at=row.deadline_at,
        priority=-row.rank,
        on_unknown=row.on_unknown,
        config_hash=row.config_hash,
        config_line=row.config_line,
        marketing=bool(row.marketing),
        trace=row.trace,
    )


def _write(tx: Tx, claim: Claim, harvest: _Harvest) -> None:
    """Write what was decided since the last time."""
    move(tx, harvest.moves, claim.now)
    open_first(tx, harvest.usual)
    if harvest.opened:
        tx.send(_OPEN_ATTEMPT, harvest.opened)
    if harvest.turns:
        tx.send(_TAKE_TURN, [*harvest.turns.values()])
    if harvest.put_off:
        tx.send(_PUT_OFF, harvest.put_off)
    if harvest.counting:
        harvest.counting.write(tx)
    harvest.usual, harvest.opened, harvest.turns, harvest.moves, harvest.put_off = [], [], {}, [], []
