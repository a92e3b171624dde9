"""What `explain` tells of every story is what was written down; `python -m tests.golden.stories` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.stories import FOLDER, find_changed, hide_day, tell_stories


@pytest.mark.timeout(240)
def test_every_story_is_told_as_it_was_written_down(tmp_path: Path) -> None:
    told = tell_stories(tmp_path)
    assert {name: told.get(name) for name in find_changed(told)} == {}


def test_control_a_word_more_a_story_more_and_a_story_less_are_noticed() -> None:
    kept = {path.stem: path.read_text() for path in FOLDER.glob("*.txt")}
    told = {**kept, "accepted": kept["accepted"].replace("no receipt yet", "no receipt"), "new": ""}
    del told["shadow"]
    assert find_changed(told) == ["accepted", "new", "shadow"]


def test_control_an_hour_and_an_id_of_the_day_are_hidden_and_nothing_else() -> None:
    line = "2026-11-26T16:43:01.123Z    +12 ms  attempt 2: uncertain in 1.2 s → unknown"
    assert hide_day(line) == "AT  attempt 2: uncertain in N → unknown"
