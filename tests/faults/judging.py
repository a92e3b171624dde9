"""What the outbox's file, the senders and the sandbox say together after any number of deaths."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """What the file says of one delivery. `deaths`: attempts that ended with the process."""

    state: str
    on_unknown: str
    attempts: int
    deaths: int
    was_unknown: bool
    due: bool


@dataclass(frozen=True)
class Verdict:
    """What the file, the senders and the sandbox say together; ids with what was found of each."""

    lost: Mapping[str, Any]
    doubled: Mapping[str, Any]  # a second message though nothing was unknown, or the route does not say so
    resent: int  # doubled as the route allows
    unknown: int
    parked: int  # `resend`, but not due any more: open in three deaths
    deaths: int
    open: int  # still `sending`
    unseen: int  # `unknown`, and no request ever left; but for the third death of an attempt

    def __str__(self) -> str:
        return (
            f"lost={len(self.lost)} doubled_outside_unknown={len(self.doubled)} resent_doubles={self.resent} "
            f"unknown={self.unknown} unseen={self.unseen} parked={self.parked} deaths_of_attempts={self.deaths} "
            f"open={self.open}"
        )


def read_rows(path: Path) -> dict[str, Row]:
    """Read the outbox as the relay's own reader does: the file stays as it is."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        found = db.execute(
            """SELECT id, state, on_unknown, attempts,
                (SELECT count(*) FROM attempts a WHERE a.delivery_seq = d.seq AND a.reason = 'process_died'),
                (SELECT count(*) FROM timeline t WHERE t.delivery_seq = d.seq AND t.value = 'unknown') > 0,
                due_at IS NOT NULL FROM deliveries d"""
        ).fetchall()
    db.close()
    return {id_: Row(*facts) for id_, *facts in found}


def check_integrity(path: Path) -> None:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def judge(rows: Mapping[str, Row], acknowledged: Mapping[int, str], sent: Mapping[str, int]) -> Verdict:
    """Compare what was acknowledged, what the file says and what the sandbox took."""
    lost: dict[str, Any] = {}
    doubled: dict[str, Any] = {}
    resent = 0
    for id_ in {*acknowledged.values(), *sent, *rows}:
        row, times = rows.get(id_), sent.get(id_, 0)
        if row is None or row.state not in {"accepted", "unknown", "sending"} or times < (row.state == "accepted"):
            lost[id_] = (row, times)
        # A request that no committed attempt stands for would be doubled by the next death.
        if times > (row.attempts if row else 0):
            doubled[id_] = (row, times)
        elif times > 1 and row is not None and row.on_unknown == "resend" and row.was_unknown:
            resent += 1
        elif times > 1:
            doubled[id_] = (row, times)
    return Verdict(
        lost,
        doubled,
        resent,
        unknown=sum(row.state == "unknown" for row in rows.values()),
        parked=sum(row.state == "unknown" and row.on_unknown == "resend" and not row.due for row in rows.values()),
        deaths=sum(row.deaths for row in rows.values()),
        open=sum(row.state == "sending" for row in rows.values()),
        unseen=sum(row.state == "unknown" and row.deaths < 3 and not sent.get(id_) for id_, row in rows.items()),
    )
