from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.values.instant import find_input_fault, read_by_pattern

INDIA = "Asia/Kolkata"


@pytest.mark.parametrize(
    ("text", "pattern", "moment"),
    [
        ("31/12/2026", "dd/MM/yyyy", date(2026, 12, 31)),
        (" 3/1/2026 ", "d/M/y", date(2026, 1, 3)),
        ("12-31-26", "MM-dd-yy", date(2026, 12, 31)),
        ("31 Dec 2026", "d MMM yyyy", date(2026, 12, 31)),
        ("Thursday, 31 December 2026", "EEEE, d MMMM yyyy", date(2026, 12, 31)),
        ("20261231", "yyyyMMdd", date(2026, 12, 31)),
        ("31/12/2026 18:30", "dd/MM/yyyy HH:mm", datetime(2026, 12, 31, 18, 30, tzinfo=ZoneInfo(INDIA))),
        ("31/12/2026 6:30 PM", "dd/MM/yyyy h:mm a", datetime(2026, 12, 31, 18, 30, tzinfo=ZoneInfo(INDIA))),
        ("31 at 12 of 2026 100%", "d 'at' MM 'of' yyyy 100%", date(2026, 12, 31)),
        ("2026-12-31", "dd/MM/yyyy", None),
        ("31/13/2026", "dd/MM/yyyy", None),
        ("30/02/2026", "dd/MM/yyyy", None),
        ("31/12/2026", "nonsense", None),
        ("31/12/2026", "dd/dd/MM/yyyy", None),
    ],
)
def test_date_is_read_by_the_pattern_of_the_shop(text: str, pattern: str, moment: Any) -> None:
    read = read_by_pattern(text, pattern, INDIA)
    assert (type(read), read) == (type(moment), moment)


@pytest.mark.parametrize("pattern", ["dd/MM/yyyy", "d MMM yy", "yyyyMMdd", "MM/dd/y h:mm a"])
def test_pattern_with_day_month_and_year_is_right(pattern: str) -> None:
    assert find_input_fault(pattern) is None


@pytest.mark.parametrize("pattern", ["", "dd/MM", "dd/mm/yyyy", "DD/MM/YYYY", "%d/%m/%Y", "yyyy", 7, None])
def test_pattern_that_names_no_day_is_refused(pattern: Any) -> None:
    assert "dd/MM/yyyy" in (find_input_fault(pattern) or "")
