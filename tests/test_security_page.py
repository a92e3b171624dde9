"""The table of controls: every row is there once, with a test and a known-bad control or a written reason."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_fault_model import find_missing

PAGE = Path(__file__).with_name("security") / "README.md"
SHORTEST_REASON = 40


def read_rows(text: str) -> dict[str, tuple[str, str]]:
    """Return of each row its tests and its control."""
    found = re.findall(r"^\|\s*(S\d+)\s*\|[^|]+\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    assert len(found) == len({name for name, _, _ in found})
    return {name: (tests.strip(), control.strip()) for name, tests, control in found}


def find_unproved(text: str) -> list[str]:
    """Return the rows that name no test, or neither a control nor a reason."""
    return [
        name
        for name, (tests, control) in read_rows(text).items()
        if "::test_" not in tests or ("::test_" not in control and len(control) < SHORTEST_REASON)
    ]


def test_every_row_has_its_test_and_its_control_or_a_reason() -> None:
    text = PAGE.read_text()
    assert list(read_rows(text)) == [f"S{number}" for number in range(1, 28)]
    assert find_unproved(text) == []


def test_every_test_that_the_page_names_exists() -> None:
    assert list(find_missing(PAGE.read_text())) == []


def test_control_a_row_without_a_proof_or_with_an_invented_one_is_noticed() -> None:
    text = PAGE.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| S1 ")]
    assert find_unproved(text.replace(rows[0], "| S1 | x | trust us | |")) == ["S1"]
    assert list(find_missing("`tests/security/test_fuzz.py::test_nothing`")) == [
        "tests/security/test_fuzz.py::test_nothing"
    ]
