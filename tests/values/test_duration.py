from __future__ import annotations

import pytest

from app.model.message import Limit
from app.values.instant import (
    format_duration,
    parse_duration,
    parse_limit,
    parse_live_from,
    parse_rate,
    round_duration,
)


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("500ms", 500),
        ("90s", 90_000),
        ("15m", 900_000),
        ("15min", 900_000),
        ("6h", 21_600_000),
        ("7d", 604_800_000),
        (" 0s ", 0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "1h30m", "-5s", "1.5h", "10S", "٣s", "9" * 10 + "s", "7 days"])
def test_any_other_duration_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15m, 6h or 7d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"), [(0, "0ms"), (90_000, "90s"), (129_600_000, "36h"), (604_800_000, "7d"), (1_500, "1500ms")]
)
def test_a_duration_is_shown_in_its_largest_whole_unit(duration_ms: int, text: str) -> None:
    assert format_duration(duration_ms) == text
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    ("text", "per_s"), [("16/s", 16.0), ("600/min", 10.0), ("90/m", 1.5), ("1800/h", 0.5), ("0.5/s", 0.5)]
)
def test_a_rate_is_a_number_per_unit(text: str, per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["", "16", "0/s", "0.0/min", "16/sec", "16 / s", "-1/s", "1e3/s", "16/d"])
def test_any_other_rate_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match="16/s, 1000/min or 100/h"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000),
        ("1970-01-01 05:30:00+05:30", 0),
        ("1970-01-01T00:00:00.250Z", 250),
    ],
)
def test_an_instant_is_rfc_3339(text: str, at: int) -> None:
    assert parse_live_from(text) == at


@pytest.mark.parametrize("text", ["", "2026-10-01", "2026-10-01T00:00:00", "2026-13-01T00:00:00Z", "tomorrow"])
def test_an_instant_without_zone_or_sense_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match="with its zone"):
        parse_live_from(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0 ms"),
        (99, "99 ms"),
        (100, "0.1 s"),
        (800, "0.8 s"),
        (1_000, "1 s"),
        (9_940, "9.9 s"),
        (12_345, "12 s"),
        (119_000, "119 s"),
        (900_000, "15 min"),
        (330_000, "5.5 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 d"),
        (950_400_000, "11 d"),
    ],
)
def test_a_duration_is_rounded_as_people_say_it(duration_ms: int, text: str) -> None:
    assert round_duration(duration_ms) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10/d", Limit(10, 86_400_000)), (" 2000/h ", Limit(2_000, 3_600_000)), ("60/min", Limit(60, 60_000))],
)
def test_a_limit_is_so_many_in_a_time(text: str, expected: Limit) -> None:
    assert Limit(*parse_limit(text)) == expected


@pytest.mark.parametrize("text", ["10 a day", "0/h", "1.5/h", "10/w", "", "10000000/d"])
def test_what_is_no_limit_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match="10/d"):
        parse_limit(text)
