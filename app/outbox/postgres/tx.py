"""A transaction on PostgreSQL, as `Tx` wants it: named values in, rows with names out, many of a kind in one trip."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import field
from functools import cached_property, lru_cache
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.string import StrDumperUnknown

from app.model.value import dataclass
from app.outbox.store import Counts, Row

_ONLY_HERE = re.compile(r"/\*postgres (.*?)\*/", re.DOTALL)
_ELSEWHERE = re.compile(r"/\*sqlite .*?\*/", re.DOTALL)
_NAME = re.compile(r"(?<![\w:]):([a-z_]+)")
# To read and plan a statement takes the server longer than to run it, so one stands for many rows: an INSERT of plain
# values, and what changes rows and says by FROM MANY that it is given each of them once.
_VALUES = re.compile(r"\sVALUES (\((?:\s*%\(\w+\)s,?)+\s*\))[^%]*$")
_MANY = "FROM MANY"
_GIVEN = re.compile(r"%\((\w+)\)s")
_MOST_ROWS = 500  # in one statement, which has 65,535 values at most
_FUNCTION = """CREATE FUNCTION {name}({given}) RETURNS TABLE ({columns}) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$ #variable_conflict use_column
BEGIN RETURN QUERY {text}; END $$"""


@dataclass(eq=False)
class PostgresTx:
    """A `Tx`, in a pipeline. Only what a transaction holds by itself is used: it may go through a pooler of them.

    `place`: the schema, by which locks are told from other relays'. `kept`: the statements whose plans the server
    keeps, see `keep_plan`.
    """

    db: psycopg.Connection[Any]
    read_now: Callable[[], int]
    people_key: bytes
    slot: int | None
    place: str
    kept: Collection[str] = ()
    tally: Counts = field(default_factory=lambda: defaultdict(int))
    left: Counts = field(default_factory=lambda: defaultdict(int))
    unwritten: list[dict[str, Any]] | None = None

    @cached_property
    def now(self) -> int:
        """See Tx."""
        return self.read_now()

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
        for text, given in self._translate(sql, rows):
            self.db.cursor().executemany(text, given)

    def add_many(self, _table: str, sql: str, rows: Sequence[dict[str, Any]], /) -> Sequence[int | None]:
        """See Tx."""
        answers = self._ask(f"{sql} RETURNING id, seq", rows)
        added = {row.id: row.seq for cursor in answers for row in cursor.fetchall()}
        return [added.pop(row["id"], None) for row in rows]

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """See Tx."""
        ((text, (given,)),) = self._translate(sql, (values,))
        return self.db.cursor(row_factory=namedtuple_row).execute(text, given).fetchall()

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """See Tx."""
        return [cursor.fetchall() for cursor in self._ask(sql, rows)]

    def lock(self, name: str, *, wait: bool = False) -> bool:
        """See Tx."""
        call = "SELECT pg_advisory_xact_lock(%s)" if wait else "SELECT pg_try_advisory_xact_lock(%s)"
        (answer,) = self.db.execute(call, (hash_lock(self.place, name),)).fetchall()
        return wait or bool(answer[0])

    def _ask(self, sql: str, rows: Iterable[dict[str, Any]]) -> Iterator[psycopg.Cursor[Any]]:
        """Yield a cursor that stands at each answer in turn."""
        for text, given in self._translate(sql, rows):
            cursor = self.db.cursor(row_factory=namedtuple_row)
            cursor.executemany(text, given, returning=True)
            yield cursor
            while cursor.nextset():
                yield cursor

    def _translate(self, sql: str, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield statements for the driver, each with what to run it with: once for all rows, where that can be."""
        text = translate(sql)
        given = [{**row, "slot": self.slot} for row in rows]
        if len(given) > 1 and (_MANY in text or ("DO UPDATE" not in text and _VALUES.search(text))):
            for start in range(0, len(given), _MOST_ROWS):
                yield spread(text, given[start : start + _MOST_ROWS])
        elif given:
            yield call_kept(sql) if sql in self.kept else text.replace(_MANY, ""), given


def spread(text: str, rows: Sequence[dict[str, Any]]) -> tuple[str, Sequence[Sequence[Any]]]:
    """Return a statement that does for many rows at once what `text` does for one, and the values for it."""
    if (found := _VALUES.search(text)) is not None:
        names, its = _GIVEN.findall(found[1]), _GIVEN.sub("%s", found[1])
        text = text[: found.start(1)] + ", ".join([its] * len(rows)) + text[found.end(1) :].replace(_MANY, "")
    else:
        names = [*dict.fromkeys(_GIVEN.findall(text))]
        its = ", ".join('%s COLLATE "C"' if isinstance(rows[0][name], str) else "%s" for name in names)
        columns = ", ".join(f"its_{name}" for name in names)
        many = f"FROM (VALUES {', '.join([f'({its})'] * len(rows))}) AS many ({columns})"
        text = _GIVEN.sub(r"its_\1", text).replace(_MANY, many)
    return text, [[row[name] for row in rows for name in names]]


class CleanText(StrDumperUnknown):
    """A text as PostgreSQL takes it: what others wrote may hold a NUL, which no text of its can."""

    def dump(self, obj: str) -> bytes:
        """Return the bytes that are sent."""
        return (obj.replace("\0", "\ufffd") if "\0" in obj else obj).encode()


@lru_cache(maxsize=1_000)
def translate(sql: str) -> str:
    """Return a statement as the driver wants it, with what stands in it for PostgreSQL alone."""
    text = _ONLY_HERE.sub(r"\1", _ELSEWHERE.sub("", sql)).replace("%", "%%")
    return _NAME.sub(r"%(\1)s", text)


def keep_plan(db: psycopg.Connection[Any], sql: str) -> None:
    """Make the function of a statement where there is none, with the types that the server finds in it."""
    name, text, names = _name_kept(sql)
    if db.execute("SELECT to_regproc(%s)", (name,)).fetchone() == (None,):
        db.pgconn.prepare(b"", text.encode())
        told, types = db.pgconn.describe_prepared(b""), db.adapters.types
        given = ", ".join(types[told.param_type(n)].name for n in range(len(names)))
        columns = [f"{(told.fname(n) or b'').decode()} {types[told.ftype(n)].name}" for n in range(told.nfields)]
        db.execute(_FUNCTION.format(name=name, given=given, columns=", ".join(columns), text=text))


@lru_cache
def call_kept(sql: str) -> str:
    """Return what runs the function of a statement; it has a row for each that one changes."""
    name, _, names = _name_kept(sql)
    return f"SELECT * FROM {name}({', '.join(f'%({each})s' for each in names)})"  # noqa: S608  # our own words only


def _name_kept(sql: str) -> tuple[str, str, Sequence[str]]:
    text = translate(sql).replace(_MANY, "") + (" RETURNING 1 AS n" if sql.lstrip().startswith("UPDATE") else "")
    names = [*dict.fromkeys(_GIVEN.findall(text))]
    text = _GIVEN.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    return f"kept_{hashlib.sha256(text.encode()).hexdigest()[:16]}", text, names


def hash_lock(place: str, name: str) -> int:
    """Return the number of an advisory lock of this relay: another's in the same database has others."""
    return int.from_bytes(hashlib.sha256(f"nector-relay/{place}/{name}".encode()).digest()[:8], "big", signed=True)
