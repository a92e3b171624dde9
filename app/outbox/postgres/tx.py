"""A transaction on PostgreSQL, as `Tx` wants it: named values in, rows with names out, many of a kind in one trip."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
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

    def __init__(
        self, db: psycopg.Connection[Any], read_now: Callable[[], int], people_key: bytes, slot: int, place: str
    ) -> None:
        """Speak through `db`, in a pipeline. `place`: the schema, by which locks are told from other relays'."""
        self._db = db
        self._read_now = read_now
        self._place = place
        self.people_key = people_key
        self.slot: int | None = slot
        self.tally: Counts = defaultdict(int)
        self.left: Counts = defaultdict(int)

    @cached_property
    def now(self) -> int:
        """See Tx."""
        return self._read_now()

    def run(self, sql: str, /, **values: Any) -> int:
        """See Tx."""
        return self.run_many(sql, (values,))

    def run_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> int:
        """See Tx."""
        if "RETURNING" in sql:
            raise ValueError("of a statement that answers SQLite counts no row; read it with `rows`")
        return sum(cursor.rowcount for cursor in self._ask(sql, rows))

    def send(self, sql: str, rows: Iterable[dict[str, Any]], /) -> None:
        """See Tx."""
        text, given = self._translate(sql, rows)
        self._db.cursor().executemany(text, given)

    def add_many(self, _table: str, sql: str, rows: Sequence[dict[str, Any]], /) -> Sequence[int | None]:
        """See Tx."""
        return [found[0].seq if found else None for found in self.rows_many(f"{sql} RETURNING seq", rows)]

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """See Tx."""
        text, (given,) = self._translate(sql, (values,))
        return self._db.cursor(row_factory=namedtuple_row).execute(text, given).fetchall()

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx."""
        return [cursor.fetchall() for cursor in self._ask(sql, rows)]

    def lock(self, name: str, *, wait: bool = False) -> bool:
        """See Tx."""
        (answer,) = self._db.execute(_LOCK if wait else _TRY_LOCK, (hash_lock(self._place, name),)).fetchall()
        return wait or bool(answer[0])

    def _ask(self, sql: str, rows: Iterable[dict[str, Any]]) -> Iterator[psycopg.Cursor[Any]]:
        """Yield a cursor that stands at the answer for each row in turn."""
        text, given = self._translate(sql, rows)
        cursor = self._db.cursor(row_factory=namedtuple_row)
        if given:
            cursor.executemany(text, given, returning=True)
            yield cursor
            while cursor.nextset():
                yield cursor

    def _translate(self, sql: str, rows: Iterable[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        text, has_slot = translate(sql)
        return text, [{**row, "slot": self.slot} for row in rows] if has_slot else list(rows)


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
