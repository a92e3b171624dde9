"""A transaction on SQLite, as `Tx` wants it: named values in, rows with names out."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

from app.outbox.store import Counts, Row

_ONLY_HERE = re.compile(r"/\*sqlite (.*?)\*/")
_shapes: dict[str, Callable[[Iterable[Any]], Row]] = {}


class SqliteTx:
    """A `Tx`. `db` and its two methods are for what only SQLite understands."""

    __slots__ = ("db", "execute", "executemany", "left", "now", "people_key", "tally")

    def __init__(self, db: sqlite3.Connection, now: int, people_key: bytes) -> None:
        self.db = db
        self.execute = db.execute
        self.executemany = db.executemany
        self.now = now
        self.people_key = people_key
        self.tally: Counts = defaultdict(int)
        self.left: Counts = defaultdict(int)

    def run(self, sql: str, /, **values: Any) -> int:
        """See Tx."""
        return self.execute(_translate_change(sql), values).rowcount

    def run_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> int:
        """See Tx."""
        return self.executemany(_translate_change(sql), rows).rowcount

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """See Tx."""
        return _read(self.execute(translate(sql), values), sql)

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx. SQLite has no round trips to spare."""
        statement, execute = translate(sql), self.execute
        return [_read(execute(statement, values), sql) for values in rows]


@lru_cache(maxsize=1_000)
def translate(sql: str) -> str:
    """Return a statement with what stands in it for SQLite alone."""
    return _ONLY_HERE.sub(r"\1", sql)


@lru_cache(maxsize=1_000)
def _translate_change(sql: str) -> str:
    if "RETURNING" in sql:
        raise ValueError("of a statement that answers SQLite counts no row; read it with `rows`")
    return translate(sql)


def _read(cursor: sqlite3.Cursor, sql: str) -> Sequence[Row]:
    found = cursor.fetchall()
    if not found:
        return ()
    make = _shapes.get(sql)
    if make is None:
        make = _shapes[sql] = _shape([column[0] for column in cursor.description])
    return list(map(make, found))


def _shape(columns: list[str]) -> Callable[[Iterable[Any]], Row]:
    """Return what makes a row of an answer with these columns."""
    row: Any = namedtuple("Row", columns)  # type: ignore[misc]  # noqa: PYI024  # the columns are the statement's
    return partial(tuple.__new__, row)  # as `_make`, but for its count of the columns: SQLite has counted them
