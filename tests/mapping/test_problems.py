from __future__ import annotations

import pytest

from app.mapping import MOST_SHOWN, cut_lines


@pytest.mark.parametrize(
    ("count", "last"),
    [
        (1, "fault 1"),
        (MOST_SHOWN, f"fault {MOST_SHOWN}"),
        (MOST_SHOWN + 1, "and 1 more"),
        (20_000, f"and {20_000 - MOST_SHOWN:,} more"),
    ],
)
def test_of_many_faults_the_first_are_shown_and_the_rest_are_counted(count: int, last: str) -> None:
    shown = cut_lines([f"fault {number}" for number in range(1, count + 1)]).split("\n")
    assert shown[0] == "fault 1"
    assert shown[-1] == last
    assert len(shown) == min(count, MOST_SHOWN + 1)
