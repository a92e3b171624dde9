"""A transaction on SQLite, as `Tx` wants it: named values in, rows with names out."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from app.outbox.store import Counts, Row

_ONLY_HERE = re.compile(r"/\*sqlite (.*?)\*/")
_ELSEWHERE = re.compile(r"/\*postgres .*?\*/", re.DOTALL)
_NAME = re.compile(r"(?<![\w:]):([a-z_]+)")


class SqliteTx:
    """A `Tx`. `db` and its two methods are for what only SQLite understands."""

    slot: int | None = None

    __slots__ = ("db", "execute", "executemany", "left", "now", "people_key", "tally", "unwritten")

    def __init__(self, db: sqlite3.Connection, now: int, people_key: bytes) -> None:
        self.db = db
        self.execute = db.execute
        self.executemany = db.executemany
        self.now = now
        self.people_key = people_key
        self.tally: Counts = defaultdict(int)
        self.left: Counts = defaultdict(int)
        self.unwritten: list[dict[str, Any]] | None = None

    def lock(self, _name: str, *, wait: bool = False) -> bool:  # noqa: ARG002  # nobody else writes
        """See Tx."""
        return True

    def run(self, sql: str, /, **values: Any) -> int:
        """See Tx."""
        return self.run_many(sql, (values,))

    def run_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> int:
        """See Tx."""
        statement = _prepare(sql)
        if statement.answers:
            raise ValueError("of a statement that answers SQLite counts no row; read it with `rows`")
        return self.executemany(statement.sql, map(statement.pick, rows)).rowcount

    send = run_many

    def add_many(self, table: str, sql: str, rows: Sequence[dict[str, Any]], /) -> Sequence[int | None]:
        """See Tx. RETURNING takes as long as inserting; but nobody else writes, so new rows are the last ones."""
        count = self.run_many(sql, rows)
        if count == 0:
            return [None] * len(rows)
        before = self.execute("SELECT last_insert_rowid()").fetchone()[0] - count
        if count == len(rows):
            return range(before + 1, before + count + 1)
        made = dict(self.execute(f"SELECT id, seq FROM {table} WHERE seq > ?", (before,)))  # noqa: S608 - ours
        return [made.pop(row["id"], None) for row in rows]

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """See Tx."""
        return self.rows_many(sql, (values,))[0]

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx. SQLite has no round trips to spare."""
        statement, execute = _prepare(sql), self.execute
        answers: list[Sequence[Row]] = []
        for values in rows:
            cursor = execute(statement.sql, statement.pick(values))
            found = cursor.fetchall()
            if found:
                found = list(map(statement.make_row or statement.shape(cursor), found))
            answers.append(found)
        return answers


class _Statement:
    """A statement as SQLite is given it: with numbers for names, which it binds in half the time.

    With what stands in it for SQLite alone, too.
    """

    __slots__ = ("answers", "make_row", "pick", "sql")

    def __init__(self, sql: str) -> None:
        sql = _ELSEWHERE.sub("", sql)
        names = list(dict.fromkeys(_NAME.findall(sql)))
        self.sql = _NAME.sub(lambda found: f"?{names.index(found[1]) + 1}", translate(sql))
        self.pick: Callable[[dict[str, Any]], Sequence[Any]] = _pick_all(names)
        self.answers = "RETURNING" in sql
        self.make_row: Callable[[Iterable[Any]], Row] | None = None

    def shape(self, cursor: sqlite3.Cursor) -> Callable[[Iterable[Any]], Row]:
        """Return what makes a row of the answer."""
        columns = [column[0] for column in cursor.description]
        row: Any = namedtuple("Row", columns)  # type: ignore[misc]  # noqa: PYI024  # the columns are the statement's
        # As `_make`, but for its count of the columns: SQLite has counted them.
        self.make_row = partial(tuple.__new__, row)
        return self.make_row


_prepare = lru_cache(maxsize=1_000)(_Statement)


def _pick_all(names: list[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """Return what picks the values of these names."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def translate(sql: str) -> str:
    """Return a statement with what stands in it for SQLite alone."""
    return _ONLY_HERE.sub(r"\1", sql)
