"""A floor is a place in a group of what waits, below which one replica has seen nothing.

While somebody holds a snapshot (`pg_dump`, a transaction left open), each message that has gone leaves its entry in the
index of what waits. To walk them all would be slower with each, so a replica's looks begin at floors that it remembers.

What others write meanwhile may lie below. So a floor never passes what is still to go, stays SLACK_MS behind the clock,
and counts for WALK_EVERY_S: then all is walked again, which is the truth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from app.delivery.policy import Group
from app.outbox.store import Tx
from app.outbox.values import Floors

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
