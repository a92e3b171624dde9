"""A floor is a place in a group of what waits, below which one replica has seen nothing.

While somebody holds a snapshot (`pg_dump`, a transaction left open), PostgreSQL may clean up nothing that could be seen
in it, so every message that has gone leaves its entry in the index of what waits. A look for a group's first one would
walk them all, and be slower with each. So each replica remembers floors, and its looks begin there.

Others write meanwhile, and what they write may lie below. So a floor never passes what is still to go, stays SLACK_MS
behind the clock, and counts for WALK_EVERY_S: then all is walked again, which is the truth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.delivery.policy import Group
from app.outbox.store import Tx
from app.outbox.values import Floors

# A message is due from when its event came, and is there once that is committed, behind some that came later.
SLACK_MS = 2_000
# So long a message may wait because nobody looks where it is: one whose commit took longer than SLACK_MS, whose attempt
# was unknown, or which is the first of a template. To walk 30,000 dead entries takes some 30 ms.
WALK_EVERY_S = 5.0

# A loose index scan in one round trip, where there is a network in between: a seek for each group that is known, and
# between two known routes one from each group's first to the next group.
_READ = """
WITH RECURSIVE known AS (SELECT * FROM json_to_recordset(CAST(:known AS JSON)) AS k(
    route TEXT COLLATE "C", template TEXT COLLATE "C", rank BIGINT, due_at BIGINT, seq BIGINT)),
gaps AS (SELECT route, lead(route, 1, '~') OVER (ORDER BY route) AS following
    FROM (SELECT '' AS route UNION SELECT route FROM known) AS r),
others AS (
    SELECT f.*, following FROM gaps g, LATERAL (
        SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
            AND route > g.route AND route < following
        ORDER BY route, template, rank, due_at, seq LIMIT 1) AS f
    UNION ALL SELECT f.*, following FROM others o, LATERAL (
        SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
            AND (route, template, rank) > (o.route, o.template, o.rank) AND route < following
        ORDER BY route, template, rank, due_at, seq LIMIT 1) AS f)
SELECT route, template, rank, due_at, seq FROM others
UNION ALL SELECT f.* FROM known k, LATERAL (
    SELECT route, template, rank, due_at, seq FROM deliveries WHERE state = 'pending' AND provider = :provider
        AND route = k.route AND template = k.template AND rank = k.rank AND (due_at, seq) >= (k.due_at, k.seq)
    ORDER BY due_at, seq LIMIT 1) AS f
"""
_COLUMNS = ("route", "template", "rank", "due_at", "seq")


def read_groups_above(tx: Tx, provider: str, floors: Floors) -> Sequence[Group]:
    """Return the lane's pending groups, each with its first one above its floor; all where no floor is known."""
    known = json.dumps([dict(zip(_COLUMNS, (*group, *place), strict=True)) for group, place in floors.items()])
    return [Group(*row) for row in tx.rows(_READ, provider=provider, known=known)]


def raise_floors(floors: Floors, groups: Sequence[Group], now: int) -> Floors:
    """Return the floors after a look at `now` that found these groups above `floors`."""
    highest = (now - SLACK_MS, 0)
    found = {(each.route, each.template, each.rank): min((each.due_at, each.seq), highest) for each in groups}
    return dict.fromkeys(floors, highest) | found
