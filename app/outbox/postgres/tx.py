"""A transaction on PostgreSQL, as `Tx` wants it: named values in, rows with names out, many of a kind in one trip."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.string import StrDumperUnknown

from app.outbox.store import Counts, Row

_ONLY_HERE = re.compile(r"/\*postgres (.*?)\*/", re.DOTALL)
_ELSEWHERE = re.compile(r"/\*sqlite .*?\*/", re.DOTALL)
_NAME = re.compile(r"(?<![\w:]):([a-z_]+)")
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s) AS taken"
_LOCK = "SELECT pg_advisory_xact_lock(%s)"


class PostgresTx:
    """A `Tx`. Only what a transaction holds by itself is used, so it may go through a pooler of transactions."""

    __slots__ = ("_cursor", "_place", "left", "now", "people_key", "slot", "tally")

    def __init__(self, db: psycopg.Connection[Any], now: int, people_key: bytes, slot: int, place: str) -> None:
        """Speak through `db`. `place`: the schema, by which locks are told from those of other relays."""
        self._cursor = db.cursor(row_factory=namedtuple_row)
        self._place = place
        self.now = now
        self.people_key = people_key
        self.slot: int | None = slot
        self.tally: Counts = defaultdict(int)
        self.left: Counts = defaultdict(int)

    def run(self, sql: str, /, **values: Any) -> int:
        """See Tx."""
        return self.run_many(sql, (values,))

    def run_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> int:
        """See Tx."""
        if "RETURNING" in sql:
            raise ValueError("of a statement that answers SQLite counts no row; read it with `rows`")
        given = list(rows)
        if given:
            self._send(sql, given, returning=False)
        return self._cursor.rowcount if given else 0

    def add_many(self, _table: str, sql: str, rows: Sequence[dict[str, Any]], /) -> Sequence[int | None]:
        """See Tx."""
        return [found[0].seq if found else None for found in self.rows_many(f"{sql} RETURNING seq", rows)]

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """See Tx."""
        self._send(sql, (values,), returning=True)
        return self._cursor.fetchall()

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx."""
        given = list(rows)
        if not given:
            return []
        self._send(sql, given, returning=True)
        answers = [self._cursor.fetchall()]
        while self._cursor.nextset():
            answers.append(self._cursor.fetchall())
        return answers

    def lock(self, name: str, *, wait: bool = False) -> bool:
        """See Tx."""
        key = hash_lock(self._place, name)
        if wait:
            self._cursor.execute(_LOCK, (key,))
            return True
        return bool(self._cursor.execute(_TRY_LOCK, (key,)).fetchall()[0][0])

    def _send(self, sql: str, rows: Sequence[dict[str, Any]], *, returning: bool) -> None:
        text, has_slot = translate(sql)
        if has_slot:
            rows = [{**row, "slot": self.slot} for row in rows]
        if len(rows) == 1:
            self._cursor.execute(text, rows[0])
        else:
            self._cursor.executemany(text, rows, returning=returning)


class CleanText(StrDumperUnknown):
    """A text as PostgreSQL takes it: what others wrote may hold a NUL, which no text of its can."""

    def dump(self, obj: str) -> bytes:
        """Return the bytes that are sent."""
        return (obj.replace("\0", "\ufffd") if "\0" in obj else obj).encode()


@lru_cache(maxsize=1_000)
def translate(sql: str) -> tuple[str, bool]:
    """Return a statement as the driver wants it, with what stands in it for PostgreSQL alone; True if it has a slot."""
    text = _ONLY_HERE.sub(r"\1", _ELSEWHERE.sub("", sql)).replace("%", "%%")
    return _NAME.sub(r"%(\1)s", text), ":slot" in text


def hash_lock(place: str, name: str) -> int:
    """Return the number of an advisory lock of this relay: another's in the same database has others."""
    return int.from_bytes(hashlib.sha256(f"nector-relay/{place}/{name}".encode()).digest()[:8], "big", signed=True)
