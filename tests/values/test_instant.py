from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values.instant import format_instant, is_whole_day, name_day, parse_instant, read_epoch, read_moment
from app.values.text import SentFloat

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
        (NEW_YEAR_IN_INDIA * 1000 + 7, NEW_YEAR_IN_INDIA),
        ("1798741800000000", NEW_YEAR_IN_INDIA),
        ("/Date(1798741800000)/", NEW_YEAR_IN_INDIA),
        ("/Date(1798741800000+0530)/", NEW_YEAR_IN_INDIA),
        ("2026-12-31 18:30:00 UTC", NEW_YEAR_IN_INDIA),
        ("2026-12-31 18:30:00 +0000", NEW_YEAR_IN_INDIA),
        ("2027-01-01 00:00:00 IST", NEW_YEAR_IN_INDIA),
        ("2027-01-01 00:00:00 +0530", NEW_YEAR_IN_INDIA),
        ("2027-01-01 00:00 +05:30", NEW_YEAR_IN_INDIA),
        ("Thu, 31 Dec 2026 18:30:00 GMT", NEW_YEAR_IN_INDIA),
        ("Thu, 31 Dec 2026 13:30:00 -0500", NEW_YEAR_IN_INDIA),
        ("1 Jan 2027 00:00", NEW_YEAR_IN_INDIA),
        ("Jan 1, 2027 12:00 AM", NEW_YEAR_IN_INDIA),
        ("January 1, 2027 12:00am", NEW_YEAR_IN_INDIA),
        ("Fri Jan 01 2027 00:00:00 GMT+0530 (India Standard Time)", NEW_YEAR_IN_INDIA),
        ("2027/01/01 00:00:00", NEW_YEAR_IN_INDIA),
        ("2027/1/1 00:00", NEW_YEAR_IN_INDIA),
        ("2026-12-31T24:00:00", NEW_YEAR_IN_INDIA),
        ("2026-12-31T24:00:00+05:30", NEW_YEAR_IN_INDIA),
        ("2026-12-31t18:30:00z", NEW_YEAR_IN_INDIA),
        ("2026-12-31 18:30:00.123456 UTC", NEW_YEAR_IN_INDIA + 123),
        ("2026-12-31T18:30:00,5Z", NEW_YEAR_IN_INDIA + 500),
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
        ("2026/12/31", True, NEW_YEAR_IN_INDIA),
        ("31 Dec 2026", True, NEW_YEAR_IN_INDIA),
        ("31-Dec-2026", True, NEW_YEAR_IN_INDIA),
        ("December 31, 2026", True, NEW_YEAR_IN_INDIA),
        ("2027-01-01", False, NEW_YEAR_IN_INDIA),
        ("9999-12-31", True, 253_402_300_800_000),
    ],
)
def test_date_is_a_whole_day_in_the_zone_of_the_store(value: str, end_of_day: bool, instant: int) -> None:
    assert parse_instant(value, INDIA, end_of_day=end_of_day) == instant


@pytest.mark.parametrize(
    ("value", "day_ends", "instant"),
    [
        ("2026-12-31", "", "2026-12-31T18:30:00.000Z"),
        ("2026-12-31", "24:00", "2026-12-31T18:30:00.000Z"),
        ("2026-12-31", "22:00", "2026-12-31T16:30:00.000Z"),
        ("2026-12-31T00:00:00Z", "", "2026-12-31T00:00:00.000Z"),
        ("2026-12-31T00:00:00Z", "24:00", "2026-12-31T18:30:00.000Z"),
        ("2026-12-31T00:00:00.000Z", "24:00", "2026-12-31T18:30:00.000Z"),
        ("2026-12-31 00:00", "22:00", "2026-12-31T16:30:00.000Z"),
        ("2026-12-31T00:00:00+05:30", "24:00", "2026-12-31T18:30:00.000Z"),
        ("2026-12-31T00:00:01Z", "24:00", "2026-12-31T00:00:01.000Z"),
        (1_798_675_200, "24:00", "2026-12-31T00:00:00.000Z"),
    ],
)
def test_a_store_says_when_a_day_ends_and_then_midnight_is_a_whole_day(value: Any, day_ends: str, instant: str) -> None:
    at = parse_instant(value, INDIA, end_of_day=True, day_ends=day_ends)
    assert format_instant(at or 0) == instant
    is_whole = is_whole_day(value, INDIA, day_ends)
    assert is_whole is (
        value == "2026-12-31" or (bool(day_ends) and str(value).find("00:00") > 0 and ":01" not in str(value))
    )


@pytest.mark.parametrize("value", ["soon", None, "31/12/2026"])
def test_what_is_no_date_is_no_whole_day(value: Any) -> None:
    assert not is_whole_day(value, INDIA, "24:00")


@pytest.mark.parametrize("zone", ["Asia/Jerusalem", "Asia/Kolkata", "UTC"])
def test_a_short_name_of_a_zone_is_only_the_stores_own(zone: str) -> None:
    at = parse_instant("2026-12-31 10:00:00 IST", zone, end_of_day=True)
    expected = {"Asia/Jerusalem": "2026-12-31T08:00:00.000Z", "Asia/Kolkata": "2026-12-31T04:30:00.000Z"}
    assert (at and format_instant(at)) == expected.get(zone)


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
        "2026-12-31T24:30:00Z",
        "2026/02/30",
        "1970/01/01 00:00:00 UTC",
        "31 Foo 2026",
        "31 Dec 2026 13:00 PM",
        "2026-12-31 18:30:00 +9900",
        "Thu, 31 Dec 2026 18:30:00 XYZ",
        "/Date(7)/",
        0,
        7,
        20261231,
        202612312359,
        20261231235959,
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


@pytest.mark.parametrize(
    ("zone", "day", "begins", "ends"),
    [
        (INDIA, "2028-02-28", "2028-02-27T18:30:00.000Z", "2028-02-28T18:30:00.000Z"),
        (INDIA, "2028-02-29", "2028-02-28T18:30:00.000Z", "2028-02-29T18:30:00.000Z"),
        ("America/New_York", "2028-02-29", "2028-02-29T05:00:00.000Z", "2028-03-01T05:00:00.000Z"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"),  # 23 h
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"),  # 25 h
        ("America/New_York", "2026-03-08", "2026-03-08T05:00:00.000Z", "2026-03-09T04:00:00.000Z"),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"),
        # Where the clock is changed at midnight: the day that ends has no 24:00, or has it twice.
        ("Asia/Beirut", "2026-03-28", "2026-03-27T22:00:00.000Z", "2026-03-28T22:00:00.000Z"),
        ("America/Havana", "2026-03-07", "2026-03-07T05:00:00.000Z", "2026-03-08T05:00:00.000Z"),
        ("UTC", "2027-02-28", "2027-02-28T00:00:00.000Z", "2027-03-01T00:00:00.000Z"),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(zone: str, day: str, begins: str, ends: str) -> None:
    bounds = [parse_instant(day, zone, end_of_day=end_of_day) for end_of_day in (False, True)]
    assert [format_instant(bound or 0) for bound in bounds] == [begins, ends]


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        # An hour that is not there is read by the offset before it; one that is there twice is the first, which
        # as a deadline is the one that can never be too late.
        ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00.000Z"),
        ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00.000Z"),
        ("America/New_York", "2026-03-08T02:30:00", "2026-03-08T07:30:00.000Z"),
        ("America/New_York", "2026-11-01T01:30:00", "2026-11-01T05:30:00.000Z"),
        (INDIA, "2028-02-29T23:59:59", "2028-02-29T18:29:59.000Z"),
        # What names its own offset is not the store's to read.
        ("Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00.000Z"),
        ("America/New_York", "2028-02-29T23:59:59+05:30", "2028-02-29T18:29:59.000Z"),
    ],
)
def test_a_local_time_in_the_gap_or_the_overlap_is_one_instant(zone: str, local: str, instant: str) -> None:
    assert format_instant(parse_instant(local, zone, end_of_day=True) or 0) == instant


@pytest.mark.parametrize(
    "text",
    ["2027-02-29", "2026-12-31T10:00:00 PST", "2026-12-31T10:00:00 Mars/Base", "2026-12-31T10:00:00[Asia/Dubai]"],
)
def test_a_day_or_a_zone_that_does_not_exist_is_not_guessed(text: str) -> None:
    assert parse_instant(text, INDIA, end_of_day=True) is None


_TABLE = """
import json
from app.values.instant import parse_live_from
from app.mapping.grammar import ExpressionCompiler
from app.values.instant import format_instant, parse_instant

texts = ["2026-12-31", "2028-02-29", "2026-03-29T02:30:00", "2026-10-25T02:30", "2026-12-31T18:29:59Z", "1798741800"]
zones = ["Asia/Kolkata", "Europe/Berlin", "America/New_York", "UTC"]
print([[format_instant(parse_instant(text, zone, end_of_day=True)) for text in texts] for zone in zones])
print([[ExpressionCompiler("IN", zone, "en_IN").compile('at | date("d MMM yyyy, HH:mm")').evaluate({"at": text})
        for text in texts] for zone in zones])
print(parse_live_from("2026-10-01T00:00:00+05:30"))
"""


def test_the_zone_of_the_machine_makes_no_difference() -> None:
    def run(zone: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", _TABLE], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
        ).stdout

    first, *others = [run(zone) for zone in ("Asia/Kolkata", "UTC", "America/New_York")]
    assert "2026-12-31T18:30:00.000Z" in first
    assert others == [first] * 2


def test_control_what_reads_the_machines_zone_differs() -> None:
    script = "from datetime import datetime; print(datetime.fromisoformat('2026-12-31').timestamp())"
    shown = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "TZ": zone}, capture_output=True, check=True
        ).stdout
        for zone in ("Asia/Kolkata", "UTC", "America/New_York")
    }
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("at", "timezone", "day"),
    [
        ("2026-12-31T18:29:59.999Z", "Asia/Kolkata", "2026-12-31"),
        ("2026-12-31T18:30:00Z", "Asia/Kolkata", "2027-01-01"),
        ("2026-12-31T18:30:00Z", "UTC", "2026-12-31"),
        ("2026-12-31T18:14:59Z", "Asia/Kathmandu", "2026-12-31"),
        ("2026-12-31T18:15:00Z", "Asia/Kathmandu", "2027-01-01"),
    ],
)
def test_a_day_is_one_in_its_zone(at: str, timezone: str, day: str) -> None:
    instant = parse_instant(at, "UTC", end_of_day=False)
    assert instant is not None
    assert name_day(instant, timezone) == day
