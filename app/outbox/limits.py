"""Limits: what went lately is counted by scope, so that a restart is no way around them; see app/model/limit.py.

Where no limit is written, nothing of this is asked and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.delivery.policy import find_room, name_bucket
from app.model.limit import Account, Limits, name_person
from app.outbox.store import Row, Tx
from app.outbox.values import IN_LUMPS

LONGEST_MS = 86_400_000  # the window of a limit a day; none is longer

_READ = "SELECT at, n FROM sends WHERE scope = :scope AND at > :after ORDER BY at"
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
            rows = tx.rows(_READ, scope=account.scope, after=self.now - account.limit.window_ms)
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


def forget_sends(tx: Tx, now: int) -> None:
    """Drop what no window holds any more."""
    tx.run("DELETE FROM sends WHERE at <= :before", before=now - LONGEST_MS)


def shift_sends(tx: Tx) -> None:
    """The clock was set back: what it counted ahead of now counts as of now."""
    tx.run(_SHIFT, now=tx.now)
    tx.run("DELETE FROM sends WHERE at > :now", now=tx.now)
