from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.instants import format_instant, parse_instant, read_epoch, read_moment
from app.core.numbers import SentFloat

INDIA = "Asia/Kolkata"
NEW_YEAR_IN_INDIA = 1_798_741_800_000  # 2027-01-01T00:00:00+05:30


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-12-31T18:30:00Z", NEW_YEAR_IN_INDIA),
        ("2026-12-31T18:30:00.000Z", NEW_YEAR_IN_INDIA),
        ("2026-12-31T18:30:00.123456Z", NEW_YEAR_IN_INDIA + 123),
        ("2027-01-01T00:00:00+05:30", NEW_YEAR_IN_INDIA),
        ("2027-01-01T00:00:00", NEW_YEAR_IN_INDIA),
        (" 2027-01-01 00:00 ", NEW_YEAR_IN_INDIA),
        (1_798_741_800, NEW_YEAR_IN_INDIA),
        ("1798741800", NEW_YEAR_IN_INDIA),
        (NEW_YEAR_IN_INDIA, NEW_YEAR_IN_INDIA),
        (str(NEW_YEAR_IN_INDIA), NEW_YEAR_IN_INDIA),
        (SentFloat("1798741800.5"), NEW_YEAR_IN_INDIA + 500),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("9999-12-31T23:59:59-05:30", 253_402_320_599_000),
    ],
)
@pytest.mark.parametrize("end_of_day", [True, False])
def test_instant_is_read(value: Any, instant: int, end_of_day: bool) -> None:
    assert parse_instant(value, INDIA, end_of_day=end_of_day) == instant


@pytest.mark.parametrize(
    ("value", "end_of_day", "instant"),
    [
        ("2026-12-31", True, NEW_YEAR_IN_INDIA),
        ("20261231", True, NEW_YEAR_IN_INDIA),
        ("2027-01-01", False, NEW_YEAR_IN_INDIA),
        ("9999-12-31", True, 253_402_300_800_000),
    ],
)
def test_date_is_a_whole_day_in_the_zone_of_the_store(value: str, end_of_day: bool, instant: int) -> None:
    assert parse_instant(value, INDIA, end_of_day=end_of_day) == instant


def test_day_ends_with_its_zone_also_when_the_clock_changes() -> None:
    start = parse_instant("2026-03-29", "Europe/Berlin", end_of_day=False)
    end = parse_instant("2026-03-29", "Europe/Berlin", end_of_day=True)
    assert start is not None
    assert end is not None
    assert end - start == 23 * 3_600_000


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "31/12/2026",
        "12-31-2026",
        "2026-02-30",
        "2026-13-01",
        "0000-00-00",
        "1970-01-01",
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59",
        "0001-01-01T00:00:00+14:00",
        "2026-12-31T25:00:00Z",
        0,
        7,
        20261231,
        202612312359,
        1_798_741_800_000_000,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_instant_is_not_guessed(value: Any) -> None:
    assert parse_instant(value, INDIA, end_of_day=True) is None


@pytest.mark.parametrize(
    ("number", "instant"),
    [
        (946_684_799, None),
        (946_684_800, 946_684_800_000),
        (7_258_118_399, 7_258_118_399_000),
        (7_258_118_400, None),
        (946_684_799_999, None),
        (946_684_800_000, 946_684_800_000),
        (7_258_118_399_999, 7_258_118_399_999),
        (7_258_118_400_000, None),
    ],
)
def test_epoch_is_judged_by_its_magnitude(number: float, instant: int | None) -> None:
    assert read_epoch(number) == instant


def test_moment_is_shown_in_the_zone_of_the_store() -> None:
    assert read_moment("2026-12-31", INDIA) == date(2026, 12, 31)
    moment = read_moment("2026-12-31T18:30:00Z", INDIA)
    assert moment == datetime(2027, 1, 1, tzinfo=ZoneInfo(INDIA))
    assert str(moment) == "2027-01-01 00:00:00+05:30"


@given(st.integers(946_770_400_000, NEW_YEAR_IN_INDIA + 10**12))
def test_formatted_instant_reads_back(instant: int) -> None:
    assert parse_instant(format_instant(instant), INDIA, end_of_day=False) == instant


def test_instant_is_written_as_rfc_3339() -> None:
    assert format_instant(NEW_YEAR_IN_INDIA + 7) == "2026-12-31T18:30:00.007Z"
    assert format_instant(0) == "1970-01-01T00:00:00.000Z"
