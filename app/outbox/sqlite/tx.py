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
        return self.rows_many(sql, (values,))[0]

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx. SQLite has no round trips to spare."""
        statement = translate(sql)
        answers: list[Sequence[Row]] = []
        for values in rows:
            cursor = self.execute(statement, values)
            found = cursor.fetchall()
            if found:
                found = list(map(_shapes.get(sql) or _shape(sql, cursor), found))
            answers.append(found)
        return answers


@lru_cache(maxsize=1_000)
def translate(sql: str) -> str:
    """Return a statement with what stands in it for SQLite alone."""
    return _ONLY_HERE.sub(r"\1", sql)


@lru_cache(maxsize=1_000)
def _translate_change(sql: str) -> str:
    if "RETURNING" in sql:
        raise ValueError("of a statement that answers SQLite counts no row; read it with `rows`")
    return translate(sql)


def _shape(sql: str, cursor: sqlite3.Cursor) -> Callable[[Iterable[Any]], Row]:
    """Return what makes a row of this statement's answer."""
    columns = [column[0] for column in cursor.description]
    row: Any = namedtuple("Row", columns)  # type: ignore[misc]  # noqa: PYI024  # the columns are the statement's
    # As `_make`, but for its count of the columns: SQLite has counted them.
    return _shapes.setdefault(sql, partial(tuple.__new__, row))
