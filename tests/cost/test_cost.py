"""An event and its receipts cost no more than they did: bench/cost.md has the figures, bounds.json 10 % of room.

A figure that falls may take its bound along: `python -m tests.cost.measuring --bounds`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.cost.measuring import BOUNDS, find_dearer
from tests.outside import ROOT

COPY_EVERY_STEP = """
CREATE TABLE copies (detail TEXT);
CREATE TRIGGER copy_step AFTER UPDATE ON deliveries BEGIN INSERT INTO copies VALUES (randomblob(5000)); END;
"""


def measure(*options: str) -> Any:
    """Measure in a process of its own, in which nothing was imported or cached before."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cost.measuring", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bounds() -> Any:
    return json.loads(BOUNDS.read_text())


@pytest.mark.timeout(180)
def test_an_event_and_its_receipts_cost_no_more_than_they_did(bounds: Any) -> None:
    found = find_dearer(measure(), bounds)
    for _ in range(2):  # which of ten at once share a commit, a busy machine decides: what costs more does so each time
        found = found and find_dearer(measure(), bounds)
    assert found == []


def test_control_a_row_more_for_every_change_is_dearer(bounds: Any) -> None:
    dearer = "\n".join(find_dearer(measure("--rounds", "1", "--change", COPY_EVERY_STEP), bounds))
    assert "rows written" in dearer
    assert "statements" in dearer
    assert "bytes to the file" in dearer
    assert "write calls" in dearer


def test_control_a_call_more_and_a_line_more_are_dearer_from_a_tenth_on(bounds: Any) -> None:
    for figure in ("Python calls", "bytes logged", "commits"):
        costs = json.loads(json.dumps(bounds))
        assert find_dearer(costs, bounds) == []
        costs["alone"]["event"][figure] += 1
        assert len(find_dearer(costs, bounds)) == 1
