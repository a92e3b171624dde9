"""Triggers that record every change of a delivery's state, whoever makes it: what the product's own account is held to.

They are of the connection alone: nothing of them is in the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import pairwise

from app.delivery.policy import Cause
from app.delivery.transitions import ALLOWED, BORN
from app.model.delivery import State

_TRIGGERS = """
CREATE TEMP TABLE recorded (
    n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, route TEXT NOT NULL, provider TEXT NOT NULL, state TEXT NOT NULL
);
CREATE INDEX temp.recorded_seq ON recorded (seq);
CREATE TEMP TRIGGER record_added AFTER INSERT ON main.deliveries BEGIN
    INSERT INTO recorded (seq, route, provider, state) VALUES (NEW.seq, NEW.route, NEW.provider, NEW.state);
END;
CREATE TEMP TRIGGER record_changed AFTER UPDATE OF state ON main.deliveries WHEN OLD.state <> NEW.state BEGIN
    INSERT INTO recorded (seq, route, provider, state) VALUES (NEW.seq, NEW.route, NEW.provider, NEW.state);
END;
CREATE TEMP TRIGGER record_forgotten AFTER DELETE ON main.deliveries BEGIN
    DELETE FROM recorded WHERE seq = OLD.seq;
END;
"""
TOLD = """
SELECT value, cause FROM timeline WHERE delivery_seq = ? AND kind = 'state' ORDER BY n
"""
STANDING = """
SELECT provider, state, count(*) FROM deliveries WHERE state NOT IN ('pending', 'sending') GROUP BY 1, 2
"""


def record_states(db: sqlite3.Connection) -> None:
    """Record from now on."""
    db.executescript(_TRIGGERS)


def find_faults(db: sqlite3.Connection) -> list[str]:
    """Return where the timeline or the counts tell of something else than what was recorded."""
    recorded: dict[int, list[str]] = {}
    for seq, state in db.execute("SELECT seq, state FROM recorded ORDER BY n").fetchall():
        recorded.setdefault(seq, []).append(state)
    told = {seq: db.execute(TOLD, (seq,)).fetchall() for seq in recorded}
    counted = db.execute("SELECT provider, state, n FROM counts WHERE n <> 0").fetchall()
    return find_unlike(recorded, told, counted, db.execute(STANDING).fetchall())


def find_unlike(
    recorded: Mapping[int, list[str]],
    told: Mapping[int, list[tuple[str, str | None]]],
    counted: list[tuple[str, str, int]],
    standing: list[tuple[str, str, int]],
) -> list[str]:
    """Return where what is told and counted is not what was recorded and stands."""
    faults = []
    for seq, states in recorded.items():
        rows = told[seq]
        changes = [rows[0], *(row for before, row in pairwise(rows) if row[0] != before[0])]
        if [state for state, _ in changes][-len(states) :] != states:
            faults.append(f"{seq}: {states} was recorded, {rows} is told")
        if not _is_allowed(rows):
            faults.append(f"{seq}: {rows} is not allowed")
    if sorted(counted) != sorted(standing):
        faults.append(f"counted are {counted}")
    return faults


def _is_allowed(told: list[tuple[str, str | None]]) -> bool:
    """Tell whether each step has a cause that may lead there; of a row from before there were causes none is known."""
    first, cause = told[0]
    if cause is not None and Cause(cause) not in BORN[State(first)]:
        return False
    return all(
        why is None or Cause(why) in ALLOWED[State(was)].get(State(state), ())
        for (was, _), (state, why) in pairwise(told)
    )
