"""What others hold on to changes only by a line in a commit: `python -m tests.surface` writes it anew."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.surface import PATH, find_log_events, show_surface


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_surface_is_what_was_written_down() -> None:
    assert json.loads(show_surface()) == json.loads(PATH.read_text())


def test_no_name_of_a_log_line_is_worked_out() -> None:
    assert [event for event in json.loads(PATH.read_text())["log_events"] if event.startswith("<")] == []


def test_control_a_log_line_and_a_metric_are_found_wherever_they_stand() -> None:
    source = 'self._log.warning("a.b" if x else "a.c", detail=1)\nprint("d.e")\nlog.info(name)'
    assert [name for node in ast.walk(ast.parse(source)) for name in find_log_events(node)] == ["a.b", "a.c", "<name>"]
