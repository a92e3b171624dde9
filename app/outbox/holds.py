"""Holds stop a provider, a route or a template; limits count what went lately by scope, also after a restart.

Where no limit is written, nothing of those is asked and nothing is counted; see app/model/message.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from typing import Literal

from app.delivery.decide import END_REACHED, REINSTATED, probe_wait_ms
from app.delivery.policy import StandingHolds, count_streaks, find_room, name_bucket, name_scopes
from app.model.delivery import Reason
from app.model.message import ALL, Account, Limits, name_person
from app.model.value import dataclass
from app.outbox.store import Row, Tx, first
from app.outbox.values import IN_LUMPS, Hold, NewHold

# What a person has stopped, an automatic hold neither renames nor lets probe; a person may take over any.
_PUT = """
INSERT INTO holds (scope, reason, since, probe_at, probe_every_ms, by_hand, author, ends_at)
VALUES (:scope, :reason, :now, :probe_at, :every_ms, :by_hand, :author, :ends_at)
ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at,
    probe_every_ms = excluded.probe_every_ms, by_hand = excluded.by_hand, author = excluded.author,
    ends_at = excluded.ends_at
WHERE excluded.by_hand = 1 OR holds.by_hand = 0
"""
_STOOD = "SELECT reason, by_hand, author, ends_at FROM holds WHERE scope = :scope /*postgres FOR UPDATE*/"
_RELEASE = "DELETE FROM holds WHERE scope = :scope"
_RELEASE_PROBED = "DELETE FROM holds WHERE scope = :scope AND by_hand = 0"
_BEGIN_ANEW = "DELETE FROM sends WHERE scope = :scope"  # of a limit that was reached: as many may go again
_READ_REFUSALS = "SELECT route, reason, n FROM refusals WHERE route IN (:route, :provider) /*postgres FOR UPDATE*/"
_REFUSE = """
INSERT INTO refusals (route, reason, n) VALUES (:route, :reason, :n)
ON CONFLICT (route) DO UPDATE SET n = excluded.n, reason = excluded.reason
"""
# A hold that is over stops nothing, even before the sweep has come to it; until then nothing of it is probed.
STANDS = "coalesce(ends_at, :now + 1) > :now"
_READ = f"SELECT scope, coalesce(ends_at, probe_at) AS probe_at FROM holds WHERE {STANDS}"  # noqa: S608  # our own words only
_FIND_OVER = f"SELECT scope, ends_at, author FROM holds WHERE NOT {STANDS} ORDER BY ends_at, scope"  # noqa: S608  # our own words only
_MOVE_PROBE = "UPDATE holds SET probe_at = :now + probe_every_ms WHERE scope = :scope AND probe_at IS NOT NULL"
_COUNT_PENDING = """
SELECT provider, route, template, count(*) AS n FROM deliveries /*sqlite INDEXED BY deliveries_pending*/
WHERE state = 'pending' GROUP BY provider, route, template
"""
_LIST = f"""
SELECT scope, reason, since, probe_at, author, ends_at, by_hand FROM holds WHERE {STANDS} ORDER BY since, scope
"""  # noqa: S608  # our own words only


def put_hold(
    tx: Tx,
    scope: str,
    reason: str,
    probe_at: int | None = None,
    *,
    by_hand: bool = False,
    author: str | None = None,
    ends_at: int | None = None,
) -> bool:
    """Set a hold; True if none stood. One that stands keeps its `since`; one set by hand is never probed.

    Only a person changes what a person has set. The one door: what passes it stands in the history, too.
    """
    end_overdue(tx)
    stood = first(tx.rows(_STOOD, scope=scope))
    by_hand = by_hand or reason == Reason.BY_HAND
    probe_at, every_ms = None if by_hand else probe_at, probe_wait_ms(scope)
    set_by = {"by_hand": int(by_hand), "author": author, "ends_at": ends_at}
    put = tx.run(_PUT, scope=scope, reason=reason, now=tx.now, probe_at=probe_at, every_ms=every_ms, **set_by)
    if put and stood != (reason, by_hand, author, ends_at):
        note_change(tx, scope, "set", reason, by_hand=by_hand, author=author, ends_at=ends_at)
    return stood is None


def put_new(tx: Tx, scope: str, reason: Reason, probe_at: int | None) -> NewHold | None:
    """Set a hold that nobody asked for by hand; return it if none stood."""
    return NewHold(scope, reason.value) if put_hold(tx, scope, reason, probe_at) else None


def put_probed(tx: Tx, scope: str, reason: Reason) -> NewHold | None:
    """Set a hold that ends by itself once a message gets through; return it if none stood."""
    return put_new(tx, scope, reason, tx.now + probe_wait_ms(scope))


def release_hold(tx: Tx, scope: str, author: str | None = None) -> bool:
    """End a hold, as a person wishes; False if there was none. What it was set for is counted anew."""
    forget_refusals(tx, scope.removeprefix("route:"))
    stood = first(tx.rows(_STOOD, scope=scope))
    if stood is not None and stood.reason == Reason.LIMIT_REACHED:
        tx.run(_BEGIN_ANEW, scope=ALL if scope.startswith("provider:") else scope)
    return _end_hold(tx, _RELEASE, scope, by_hand=True, author=author)


def release_probed(tx: Tx, scopes: Iterable[str]) -> tuple[str, ...]:
    """End the holds that a probe has found mended; return those that stood. What a person stopped meanwhile stays."""
    return tuple(scope for scope in scopes if _end_hold(tx, _RELEASE_PROBED, scope, by_hand=False))


def end_overdue(tx: Tx) -> tuple[str, ...]:
    """End the holds that were set for a time and have stood so long; return their scopes."""
    over = tx.rows(_FIND_OVER, now=tx.now)
    for hold in over:
        tx.run(_RELEASE, scope=hold.scope)
        note_change(tx, hold.scope, "released", END_REACHED, by_hand=False, at=hold.ends_at)
    return tuple(hold.scope for hold in over)


def lift_hold(tx: Tx, scope: str, reasons: Collection[str]) -> bool:
    """End a hold that stands for one of these reasons and not by hand, since WhatsApp says so."""
    stood = first(tx.rows(_STOOD, scope=scope))
    fits = stood is not None and stood.reason in reasons
    return fits and _end_hold(tx, _RELEASE_PROBED, scope, by_hand=False, why=REINSTATED)


def _end_hold(
    tx: Tx, statement: str, scope: str, *, by_hand: bool, why: str | None = None, author: str | None = None
) -> bool:
    stood = first(tx.rows(_STOOD, scope=scope))
    if stood is None or not tx.run(statement, scope=scope):
        return False
    note_change(tx, scope, "released", why or stood.reason, by_hand=by_hand, author=author)
    return True


Ended = tuple[str, str | None]
"""A route, or `provider:NAME`, which is no name of a route, and what the end of a message says of it."""


def count_refusals(tx: Tx, ended: Sequence[tuple[Ended, Ended]]) -> Sequence[tuple[int, int]]:
    """Note how messages ended for their route and their provider, in their order; see count_streaks.

    Return after each how many of the route were refused alike in a row, and how many answers of the provider nobody
    could read.
    """
    keys = [{"route": route, "provider": provider} for route, provider in {(of[0][0], of[1][0]): 0 for of in ended}]
    stored = {row.route: (row.reason, row.n) for rows in tx.rows_many(_READ_REFUSALS, keys) for row in rows}
    counted, answers = count_streaks(stored, [each for both in ended for each in both])
    changed = [
        {"route": route, "reason": why, "n": n} for route, (why, n) in counted.items() if stored.get(route) != (why, n)
    ]
    if changed:
        tx.run_many(_REFUSE, changed)
    for route in sorted(stored.keys() - counted.keys()):
        forget_refusals(tx, route)
    return list(zip(answers[::2], answers[1::2], strict=True))


def forget_refusals(tx: Tx, route: str) -> None:
    """Begin the count of a route's refusals again, or that of a provider's unreadable answers."""
    tx.run("DELETE FROM refusals WHERE route = :route", route=route)


def read_standing(tx: Tx) -> StandingHolds:
    """Return every hold and its probe time."""
    return {hold.scope: hold.probe_at for hold in tx.rows(_READ, now=tx.now)}


def move_probes(tx: Tx, scopes: Iterable[str], now: int) -> None:
    """A probe leaves now: put the next one of these holds off."""
    tx.run_many(_MOVE_PROBE, [{"now": now, "scope": scope} for scope in scopes])


def list_holds(tx: Tx) -> Sequence[Hold]:
    """Return every hold, oldest first, with how many pending deliveries it stops."""
    holds = tx.rows(_LIST, now=tx.now)
    waiting: dict[str, int] = {}
    # Most of the time there is none, and then nothing to count among 100,000 pending.
    for row in tx.rows(_COUNT_PENDING) if holds else ():
        for scope in name_scopes(row.provider, row.route, row.template):
            waiting[scope] = waiting.get(scope, 0) + row.n
    return [
        Hold(scope, reason, since, waiting.get(scope, 0), probe_at, by, ends_at, bool(by_hand))
        for scope, reason, since, probe_at, by, ends_at, by_hand in holds
    ]


Change = Literal["set", "released"]
KEPT = 500  # changes of a scope: two faults that take turns at every probe must not fill the disk

_ADD = """
INSERT INTO hold_changes (scope, at, change, reason, by_hand, author, ends_at)
VALUES (:scope, :at, :change, :reason, :by_hand, :author, :ends_at)
"""
_DROP_SURPLUS = """
DELETE FROM hold_changes WHERE scope = :scope AND n <= (SELECT n FROM hold_changes WHERE scope = :scope
    ORDER BY n DESC LIMIT 1 OFFSET :kept)
"""
# What stood when the delivery came, then what changed until it had ended.
_LIST_CHANGES = """
SELECT scope, change, at, reason, by_hand, author AS "by", ends_at, n FROM (
    SELECT * FROM hold_changes WHERE scope = :scope AND at < :since
    ORDER BY at DESC, n DESC LIMIT 1) AS stood WHERE change = 'set'
UNION ALL
SELECT scope, change, at, reason, by_hand, author AS "by", ends_at, n FROM hold_changes
WHERE scope = :scope AND at BETWEEN :since AND :until
"""
# Of a hold that still stands it stays known since when.
_FORGET = """
DELETE FROM hold_changes WHERE at < :before AND NOT (change = 'set' AND n IN
    (SELECT max(n) FROM hold_changes GROUP BY scope))
"""


def note_change(
    tx: Tx,
    scope: str,
    change: Change,
    reason: str,
    *,
    by_hand: bool,
    author: str | None = None,
    ends_at: int | None = None,
    at: int | None = None,
) -> None:
    """Keep that a hold was set, or set for another reason, or released. `reason`: the hold's own, of either."""
    at = tx.now if at is None else at
    more = {"by_hand": int(by_hand), "author": author, "ends_at": ends_at}
    tx.run(_ADD, scope=scope, at=at, change=change, reason=reason, **more)
    tx.run(_DROP_SURPLUS, scope=scope, kept=KEPT)


def list_changes(tx: Tx, scopes: Sequence[str], since: int, until: int) -> Sequence[Row]:
    """Return what stood on these scopes at `since` or changed until `until`, both included, in the order of time."""
    rows = [row for scope in scopes for row in tx.rows(_LIST_CHANGES, scope=scope, since=since, until=until)]
    return sorted(rows, key=lambda row: int(row.n))


def forget_changes(tx: Tx, before: int) -> int:
    """Delete what changed before `before`, but for what still stands. Return how many."""
    return tx.run(_FORGET, before=before)


LONGEST_MS = 86_400_000  # the window of a limit a day; none is longer

_READ_SENDS = "SELECT at, n FROM sends WHERE scope = :scope AND at > :after ORDER BY at"
_COUNT = """
INSERT INTO sends (scope, at, n) VALUES (:scope, :at, 1) ON CONFLICT (scope, at) DO UPDATE SET n = sends.n + excluded.n
"""
_GIVE_BACK = "UPDATE sends SET n = n - 1 WHERE scope = :scope AND at = :at AND n > 0"
_FREE = f"""
UPDATE deliveries SET due_at = :now WHERE {IN_LUMPS["deliveries"]}
    person = (SELECT person FROM deliveries WHERE seq = :seq) AND state = 'pending' AND reason = 'limit_person'
"""  # noqa: S608  # our own words only
_FREE_LANE = """
UPDATE deliveries SET due_at = :now WHERE state = 'pending' AND provider = :provider AND reason = 'limit_person'
"""
# What was counted later than now was counted before the clock was set back.
_SHIFT = """
INSERT INTO sends (scope, at, n)
SELECT scope, CAST(:now AS BIGINT), CAST(sum(n) AS BIGINT) FROM sends WHERE at > :now GROUP BY scope
ON CONFLICT (scope, at) DO UPDATE SET n = sends.n + excluded.n
"""


Accounts = Sequence[tuple[Account, int]]
"""Those that a message counts in, and from when on each has room for it."""


@dataclass(slots=True)
class Counting:
    """A claim reads each account once, and counts in it."""

    limits: Limits
    now: int
    read: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    fresh: list[tuple[str, int]] = field(default_factory=list)

    def list_accounts(self, tx: Tx, row: Row) -> Accounts:
        """Return the accounts of a due delivery."""
        accounts = self.limits.list_accounts(row.provider, row.route, row.person)
        return [(each, find_room(each.limit, self._read(tx, each), self.now)) for each in accounts]

    def _read(self, tx: Tx, account: Account) -> list[tuple[int, int]]:
        found = self.read.get(account.scope)
        if found is None:
            rows = tx.rows(_READ_SENDS, scope=account.scope, after=self.now - account.limit.window_ms)
            found = self.read[account.scope] = [(row.at, row.n) for row in rows]
        return found

    def count(self, accounts: Accounts) -> tuple[tuple[str, int], ...]:
        """Count one message in its accounts; return where, to give it back by."""
        counted = tuple((each.scope, name_bucket(each.limit, self.now)) for each, _ in accounts)
        for scope, at in counted:
            self.read[scope].append((at, 1))
        self.fresh += counted
        return counted

    def write(self, tx: Tx) -> None:
        """Write what was counted since the last time."""
        if self.fresh:
            tx.run_many(_COUNT, [{"scope": scope, "at": at} for scope, at in self.fresh])
            self.fresh.clear()


def list_counted(limits: Limits, row: Row, at: int) -> tuple[tuple[str, int], ...]:
    """Return where a message that was claimed at an instant is counted, as far as its limits are still those."""
    accounts = limits.list_accounts(row.provider, row.route, row.person)
    return tuple((each.scope, name_bucket(each.limit, at)) for each in accounts)


def give_back(tx: Tx, seq: int, counted: Sequence[tuple[str, int]], *, is_over: bool) -> None:
    """Uncount a message that nobody got. Who waits for its person's limit asks again, unless it goes once more."""
    tx.run_many(_GIVE_BACK, [{"scope": scope, "at": at} for scope, at in counted])
    if is_over:
        tx.run(_FREE, now=tx.now, seq=seq)


def free_waiting(tx: Tx, provider: str) -> int:
    """Let a lane ask again for whoever waits for a limit, since that may be another one by now. Return how many."""
    return tx.run(_FREE_LANE, now=tx.now, provider=provider)


def forget_person(tx: Tx, person: bytes) -> None:
    """Drop what was counted of a person; `0` follows the slash that begins a route's own account of them."""
    scope = name_person(person)
    tx.run("DELETE FROM sends WHERE scope >= :scope AND scope < :beyond", scope=scope, beyond=f"{scope}0")


def shift_sends(tx: Tx) -> None:
    """The clock was set back: what it counted ahead of now counts as of now."""
    tx.run(_SHIFT, now=tx.now)
    tx.run("DELETE FROM sends WHERE at > :now", now=tx.now)
