"""A lane has a row. Where several replicas serve it, that is its lock, its rate for all, its pause, luck and turn.

What they share beside it stands here, too: what each remembers of the lane, and who of them tells the shop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from app.delivery.policy import Group
from app.outbox.store import Row, Tx, first
from app.outbox.values import Floors, LaneState

_RECALL = """
SELECT last_claim_at, paused_until, failures, probe_at, resumed_at, down_since FROM lanes WHERE provider = :provider
"""
_SAVE = """
INSERT INTO lanes (provider, paused_until, failures, probe_at, resumed_at, down_since)
VALUES (:provider, :paused_until, :failures, :probe_at, :resumed_at, :down_since)
ON CONFLICT (provider) DO UPDATE SET paused_until = excluded.paused_until, failures = excluded.failures,
    probe_at = excluded.probe_at, resumed_at = excluded.resumed_at, down_since = excluded.down_since
"""
_ADD = "INSERT INTO lanes (provider) VALUES (:provider) ON CONFLICT DO NOTHING"
# A statement of its own: what the next one sees is then newer than the lock.
_LOCK = """
SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now,
    tat, served, paused_until, failures, probe_at, resumed_at, down_since
FROM lanes WHERE provider = :provider FOR UPDATE SKIP LOCKED
"""
_KEEP = """
UPDATE lanes SET last_claim_at = :now, tat = :tat, served = :served, paused_until = :paused_until, failures = :failures,
    probe_at = :probe_at, resumed_at = :resumed_at, down_since = :down_since WHERE provider = :provider
"""


def read_lane(tx: Tx, provider: str) -> LaneState:
    """Return what a lane must still know after a restart; the default if nothing is remembered."""
    rows = tx.rows(_RECALL, provider=provider)
    return LaneState(*rows[0]) if rows else LaneState()


def save_lane(tx: Tx, provider: str, state: LaneState) -> None:
    """Remember a lane's pause and luck; its `last_claim_at` is the claims' to write."""
    tx.run(_SAVE, provider=provider, **asdict(state))


def add_lane(tx: Tx, provider: str) -> None:
    """Make the row of a lane that has none."""
    tx.run(_ADD, provider=provider)


def lock_lane(tx: Tx, provider: str) -> Row | None:
    """Take a lane's row, and read it with the database's time; None while another replica has it."""
    return first(tx.rows(_LOCK, provider=provider))


def keep_lane(tx: Tx, provider: str, **row: Any) -> None:
    """Write the row of a lane in which something was claimed, or its provider has shown something."""
    tx.send(_KEEP, [{"provider": provider, **row}])


# -- floors, below which one replica has seen nothing ------------------------------------------------

# While somebody holds a snapshot (`pg_dump`, a transaction left open), each message that has gone leaves its entry in
# the index of what waits. To walk them all would be slower with each, so a replica's looks begin at floors, which it
# remembers of each group. What others write meanwhile may lie below: so a floor never passes what is still to go, stays
# SLACK_MS behind the clock, and counts for WALK_EVERY_S. Then all is walked again, which is the truth.

# A message is due from when its event came, and is there once that is committed, behind some that came later.
SLACK_MS = 2_000
# So long a message may wait because nobody looks where it is: one whose commit took longer than SLACK_MS, whose attempt
# was unknown, or which is the first of a template. To walk 30,000 dead entries takes some 30 ms.
WALK_EVERY_S = 5.0

# A loose index scan in one round trip, where there is a network in between.
_WALK = """
WITH RECURSIVE found AS (
    (SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
        ORDER BY route, template, rank, due_at, seq LIMIT 1)
    UNION ALL SELECT n.* FROM found AS f, LATERAL (
        SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
            AND (route, template, rank) > (f.route, f.template, f.rank)
        ORDER BY route, template, rank, due_at, seq LIMIT 1) AS n)
SELECT route, template, rank, due_at, seq FROM found
"""
# A seek in each group that is known, from its floor on, and one behind its route up to the next that is known.
READ = """
SELECT f.* FROM json_to_recordset(CAST(:known AS JSON)) AS k(route TEXT COLLATE "C", template TEXT COLLATE "C",
    rank BIGINT, due_at BIGINT, seq BIGINT, until TEXT COLLATE "C"), LATERAL (
    (SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
        AND route = k.route AND template = k.template AND rank = k.rank AND (due_at, seq) >= (k.due_at, k.seq)
    ORDER BY due_at, seq LIMIT 1)
    UNION ALL (SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending'
        AND provider = :provider AND route > k.route AND route < k.until
    ORDER BY route, template, rank, due_at, seq LIMIT 1)) AS f
"""
_COLUMNS = ("route", "template", "rank", "due_at", "seq", "until")
_BEFORE, _BEHIND = (("", "", 0), (0, 0)), (("~", "", 0), (0, 0))  # every route's name lies between


def read_groups_above(tx: Tx, provider: str, floors: Floors) -> Sequence[Group]:
    """Return the lane's pending groups, each with its first one above its floor; all where no floor is known.

    Of the routes between two that are known it returns the first.
    """
    if not floors:
        return [Group(*row) for row in tx.rows(_WALK, provider=provider)]
    places = [_BEFORE, *sorted(floors.items()), _BEHIND]
    known = [dict(zip(_COLUMNS, (*group, *at, until[0]), strict=True)) for (group, at), (until, _) in pairwise(places)]
    return [Group(*row) for row in tx.rows(READ, provider=provider, known=json.dumps(known))]


def raise_floors(floors: Floors, groups: Sequence[Group], now: int) -> Floors:
    """Return the floors after a look at `now` that found these groups above `floors`."""
    highest = (now - SLACK_MS, 0)
    found = {(each.route, each.template, each.rank): min((each.due_at, each.seq), highest) for each in groups}
    return dict.fromkeys(floors, highest) | found


# -- what of several replicas one tells the shop -----------------------------------------------------

NOTICE_MS = 86_400_000  # all see a change within seconds
_TAKE_NOTICE = "INSERT INTO marks VALUES (:name, :now) ON CONFLICT DO NOTHING"
_FORGET_NOTICES = "DELETE FROM marks WHERE name > 'told ' AND name < 'told!' AND at < :before"


def take_notice(tx: Tx, what: str) -> bool:
    """Tell whether this replica is the first to tell of something, and so the one to do it."""
    tx.send(_FORGET_NOTICES, [{"before": tx.now - NOTICE_MS}])
    return bool(tx.run(_TAKE_NOTICE, name=f"told {what}", now=tx.now))
