"""Every statement of the outbox is one that PostgreSQL runs as well; what only SQLite reads stands in a comment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

OUTBOX = Path(__file__).parents[2] / "app" / "outbox"
MODULES = sorted(path.stem for path in OUTBOX.glob("*.py") if path.stem != "__init__")
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\s")
ONLY_SQLITE = re.compile(r"/\*sqlite.*?\*/", re.DOTALL)
NOT_PORTABLE = re.compile(
    r"\b(?:INDEXED|GLOB|LIKE|ifnull|iif|total\(|rowid|last_insert_rowid|json_\w+|strftime|CROSS JOIN"
    r"|OR (?:IGNORE|REPLACE|ABORT|FAIL|ROLLBACK)|LIMIT -1|TRUE|FALSE|AUTOINCREMENT|max\([^()]*,)|\?|==",
    re.IGNORECASE,
)
UPSERT = re.compile(r"DO UPDATE\s+SET (.*?)(?:RETURNING|\Z)", re.DOTALL)
# What stands at the right of an upsert: a column says whose it is, for there are two of each.
LOOSE = re.compile(r"(?<![\w.:'])[a-z_]+\b(?!\s*(?:\(|\.|=(?!=)))")


def list_strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from list_strings(item)
    elif isinstance(value, Mapping):
        yield from list_strings([*value.values()])


def list_statements() -> Iterator[tuple[str, str]]:
    """Yield (module, statement): what a module holds, and what its functions spell out."""
    for name in MODULES:
        module = import_module(f"app.outbox.{name}")
        written = [node.value for node in ast.walk(ast.parse((OUTBOX / f"{name}.py").read_text()))
                   if isinstance(node, ast.Constant)]  # fmt: skip
        held = [value for key, value in vars(module).items() if not key.startswith("__")]
        for text in dict.fromkeys(list_strings([*written, *held])):
            if STATEMENT.match(text) and " LATERAL (" not in text:  # the looks above floors are PostgreSQL's alone
                yield name, text


def find_fault(statement: str) -> str | None:
    """Return what PostgreSQL would not take."""
    portable = ONLY_SQLITE.sub(" ", statement)
    if (found := NOT_PORTABLE.search(re.sub(r"'[^']*'", "''", portable))) is not None:
        return found[0]
    for upsert in UPSERT.findall(portable):
        for part in re.split(r",(?![^()]*\))|\bWHERE\b|\bOR\b|\bAND\b", upsert):
            right = part.partition("=")[2] if re.match(r"\s*[a-z_]+ = ", part) else part
            if (loose := LOOSE.search(right)) is not None:
                return loose[0]
    return None


def test_there_are_statements_in_most_modules() -> None:
    found = list(list_statements())
    assert len(found) > 100
    assert len({name for name, _ in found}) > len(MODULES) / 2


def test_every_statement_is_portable() -> None:
    assert {(name, text): fault for name, text in list_statements() if (fault := find_fault(text))} == {}


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT 1 FROM deliveries INDEXED BY deliveries_event", "INDEXED"),
        ("SELECT 1 FROM deliveries WHERE id LIKE 'a%'", "LIKE"),
        ("SELECT 1 FROM deliveries WHERE id GLOB 'a*'", "GLOB"),
        ("INSERT OR IGNORE INTO plans VALUES (:id)", "OR IGNORE"),
        ("SELECT iif(state = 'dead', 1, 0) FROM deliveries", "iif"),
        ("SELECT total(n) FROM counts", "total("),
        ("SELECT max(a, b) FROM counts", "max(a,"),
        ("SELECT id FROM plans WHERE id = ?", "?"),
        ("UPDATE holds SET by_hand = TRUE", "TRUE"),
        ("INSERT INTO counts VALUES (:n) ON CONFLICT (state) DO UPDATE SET n = n + excluded.n", "n"),
        ("INSERT INTO marks VALUES (:at) ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE at < :at", "at"),
        ("SELECT 1 FROM deliveries /*sqlite INDEXED BY deliveries_event*/ WHERE detail = 'LIKE'", None),
        ("INSERT INTO counts VALUES (:n) ON CONFLICT (state) DO UPDATE SET n = counts.n + excluded.n", None),
    ],
)
def test_control_what_is_not_portable_is_found(statement: str, fault: str | None) -> None:
    assert find_fault(statement) == fault
