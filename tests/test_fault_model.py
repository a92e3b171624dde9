"""The page of the fault model: every row is there once, and every test that it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/decisions/2026-11-23-the-fault-model.md"
EXPECTED = [
    f"{letter}{number}" for letter, last in (("L", 12), ("D", 7), ("W", 8), ("T", 13)) for number in range(1, last + 1)
]
UNTESTED = {"W3"}  # the page says why


def read_rows(text: str) -> dict[str, str]:
    """Return the proof of each row by its name."""
    found = re.findall(r"^\| ([LDWT]\d+) \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert len(found) == len(dict(found))
    return dict(found)


def find_missing(text: str) -> Iterator[str]:
    """Yield the tests that a page names and nobody wrote."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text):
        file = ROOT / path
        if not file.exists() or re.search(rf"^(?:async )?def {name}\(", file.read_text(), re.MULTILINE) is None:
            yield f"{path}::{name}"


def test_every_row_has_its_answer_and_its_proof() -> None:
    rows = read_rows(PAGE.read_text())
    assert list(rows) == EXPECTED
    assert {name for name, proof in rows.items() if "::test_" not in proof} == UNTESTED


def test_every_test_that_the_page_names_exists() -> None:
    assert list(find_missing(PAGE.read_text())) == []


def test_a_test_that_is_not_there_is_missed() -> None:
    named = "`tests/test_fault_model.py::test_nothing_at_all` and `tests/nowhere.py::test_it` and"
    missed = ["tests/test_fault_model.py::test_nothing_at_all", "tests/nowhere.py::test_it"]
    assert list(find_missing(f"{named} `tests/test_fault_model.py::test_a_test_that_is_not_there_is_missed`")) == missed
