"""Instants as shops write them: ISO 8601 and its neighbours, mail's dates, Unix times, and a form of their own.

Durations, rates and limits as people write them in the YAML stand at the end.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from datetime import timezone as fixed_offset
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from app.values.text import read_decimal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Before 2000 or after 2199 a bare number is something else (20261231, a duration).
_FIRST_S = 946_684_800
_LAST_S = 7_258_118_400
_FIRST_YEAR = 2000  # "1970-01-01" and "0001-01-01" are how programs write "no date"
_IN_BRACKETS = re.compile(r"/Date\(([0-9]+)(?:[+-][0-9]{4})?\)/")  # as .NET writes JSON
# Rails, mail (RFC 2822), JavaScript's Date: a day, a time, a zone, each in its own way.
_LOOSE = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?(?P<day>[0-9a-z/ -]+?)"
    r"(?:[t ](?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<part>[0-9]+))?)?"
    r" ?(?P<half>[ap]m)?(?: ?(?P<zone>z|[a-z]{3,5}|(?:utc|gmt)?[+-][0-9]{2}:?[0-9]{2}))?(?: \(.*\))?)?"
)
_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d %Y", "%B %d %Y")
_OFFSET = re.compile(r"(?:utc|gmt)?([+-])([0-9]{2}):?([0-9]{2})")
_MIDNIGHT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]00:00(?::00(?:\.0+)?)?(?:[Zz]| ?[+-][0-9]{2}:?[0-9]{2})?")
_END_OF_TIME = 253_402_300_800_000  # shops write 9999-12-31 for "never"


def read_epoch(number: float) -> int | None:
    """Return ms since the epoch for a Unix time in seconds or ms, judged by its magnitude; None if neither."""
    if _FIRST_S <= number < _LAST_S:
        return int(number * 1000)
    if _FIRST_S * 1000 <= number < _LAST_S * 1000:
        return int(number)
    return None


def read_moment(value: Any, timezone: str) -> datetime | date | None:
    """Return the instant (aware, in the store's zone) or the bare date that `value` names; None if unreadable.

    A text without a zone is in the store's zone. 31/12/2026 is not read: which is the month, is a guess.
    """
    if isinstance(value, str) and (found := _IN_BRACKETS.fullmatch(value.strip())) is not None:
        value = found[1]
    number = read_decimal(value)
    if number is not None and number >= _FIRST_S * 1_000_000:
        number /= 1000  # microseconds
    epoch = read_epoch(float(number)) if number is not None else None
    if epoch is not None:
        return (_EPOCH + epoch * _MILLISECOND).astimezone(ZoneInfo(timezone))
    moment = _read_iso(value.strip(), ZoneInfo(timezone)) if isinstance(value, str) else None
    return moment if moment is not None and moment.year >= _FIRST_YEAR else None


def _read_iso(text: str, zone: ZoneInfo) -> datetime | date | None:
    with suppress(ValueError):
        return date.fromisoformat(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _read_loose(" ".join(text.replace(", ", " ").lower().split()), zone)
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else _shift(moment, zone)


def _read_loose(text: str, zone: ZoneInfo) -> datetime | date | None:
    found = _LOOSE.fullmatch(text)
    day = None if found is None else _read_day(found["day"].strip())
    if found is None or day is None or found["hour"] is None:
        return day
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    if found["half"] is not None:
        hour = hour % 12 + (12 if found["half"] == "pm" else 0) if 1 <= hour <= 12 else 99  # noqa: PLR2004 - a clock has 12
    if (hour, minute, second) == (24, 0, 0):
        day, hour = day + timedelta(days=1), 0
    try:
        moment = datetime(
            day.year, day.month, day.day, hour, minute, second, int((found["part"] or "0")[:6].ljust(6, "0")), zone
        )
    except ValueError:
        return None
    return _place(moment, found["zone"], zone)


def _read_day(text: str) -> date | None:
    for form in _DAYS:
        with suppress(ValueError):
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no zone
    return None


def _place(moment: datetime, named: str | None, zone: ZoneInfo) -> datetime | None:
    """Return a local time in its zone. A short name is read only if it is the store's own: IST is Israel's, too."""
    if named in ("z", "utc", "gmt"):
        return _shift(moment.replace(tzinfo=UTC), zone)
    if named is not None and (found := _OFFSET.fullmatch(named)) is not None:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        if offset >= timedelta(days=1):
            return None
        return _shift(moment.replace(tzinfo=fixed_offset(-offset if found[1] == "-" else offset)), zone)
    local = moment.replace(tzinfo=zone)
    return local if named is None or named == (local.tzname() or "").lower() else None


def _shift(moment: datetime, zone: ZoneInfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:  # 9999-12-31T23:59:59Z, "never", is in the year 10000 further east
        return moment


def is_whole_day(value: Any, timezone: str, day_ends: str) -> bool:
    """Tell whether a deadline is a date without a time; where it is written when a day ends, midnight is none, too."""
    moment = read_moment(value, timezone)
    is_midnight = isinstance(value, str) and _MIDNIGHT.fullmatch(value.strip()) is not None
    return moment is not None and (not isinstance(moment, datetime) or (bool(day_ends) and is_midnight))


def parse_instant(value: Any, timezone: str, *, end_of_day: bool, day_ends: str = "") -> int | None:
    """Return `value` as ms since the epoch; None if unreadable.

    A date without a time is the start of that day in the store's zone or, for `end_of_day`, of the next:
    what is valid until the 31st may be sent until the 31st is over, or until `day_ends` ("22:00") of it.
    """
    if day_ends and isinstance(value, str) and (found := _MIDNIGHT.fullmatch(value.strip())) is not None:
        value = found[1]
    moment = read_moment(value, timezone)
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        if end_of_day and moment == date.max:
            return _END_OF_TIME
        if end_of_day and day_ends not in ("", "24:00"):
            moment = datetime.combine(moment, time.fromisoformat(day_ends), ZoneInfo(timezone))
        else:
            day = moment + timedelta(days=1) if end_of_day else moment
            moment = datetime.combine(day, time.min, ZoneInfo(timezone))
    return (moment - _EPOCH) // _MILLISECOND


def format_instant(at: int) -> str:
    """Return ms since the epoch as RFC 3339 in UTC, to the millisecond ("2026-12-31T18:29:59.000Z")."""
    return (_EPOCH + at * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def name_day(at: int, timezone: str) -> str:
    """Return the day on which `at` (ms since the epoch) lies in a zone ("2026-12-31")."""
    return (_EPOCH + at * _MILLISECOND).astimezone(ZoneInfo(timezone)).date().isoformat()


# From https://babel.pocoo.org/en/latest/dates.html#date-fields what Python reads; its names of months are English.
_DIRECTIVES = {
    "d": "%d", "dd": "%d", "M": "%m", "MM": "%m", "MMM": "%b", "MMMM": "%B", "y": "%Y", "yyyy": "%Y", "yy": "%y",
    "H": "%H", "HH": "%H", "h": "%I", "hh": "%I", "m": "%M", "mm": "%M", "s": "%S", "ss": "%S",
    "a": "%p", "EEE": "%a", "EEEE": "%A",
}  # fmt: skip
_TOKENS = re.compile(r"'([^']*)'|(([A-Za-z])\3*)|([^A-Za-z']+)")
_NEEDED = ("%d", "%m %b %B", "%Y %y")


def find_input_fault(pattern: Any) -> str | None:
    """Return what is wrong with a pattern to read dates by, None if nothing is."""
    form = _translate(pattern) if isinstance(pattern, str) else ""
    if all(any(directive in form for directive in some.split()) for some in _NEEDED):
        return None
    return 'a date is read by day, month and year, such as from="dd/MM/yyyy"; there are d, M, MMM, y, yy, H, h, a, m, s'


def read_by_pattern(text: str, pattern: str, timezone: str) -> datetime | date | None:
    """Return the date, or with an hour the instant in the store's zone, that `text` names; None if it is none."""
    form = _translate(pattern)
    try:
        moment = datetime.strptime(text.strip(), form).replace(tzinfo=ZoneInfo(timezone))
    except (ValueError, re.error):
        return None
    return moment if "%H" in form or "%I" in form else moment.date()


@cache
def _translate(pattern: str) -> str:
    """Return the pattern as Python's own; "" where it holds an unknown letter."""
    parts = []
    for quoted, field, _, between in _TOKENS.findall(pattern):
        if field and field not in _DIRECTIVES:
            return ""
        parts.append(_DIRECTIVES.get(field) or (quoted or between).replace("%", "%%"))
    return "".join(parts)


_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|min|m|h|d)")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})"
)
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)/(s|min|m|h)")
_LIMIT = re.compile(r"([1-9][0-9]{0,6})/(s|min|m|h|d)")


def parse_duration(text: str) -> int:
    """Return `90s`, `15m`, `6h` or `7d` in ms; raises ValueError with the cure."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a duration such as 90s, 15m, 6h or 7d")
    return int(found[1]) * _UNITS_MS[found[2]]


def format_duration(duration_ms: int) -> str:
    """Return ms in the largest unit that shows them whole: 7d, 36h, 90s."""
    for unit in ("d", "h", "m", "s"):
        if duration_ms and duration_ms % _UNITS_MS[unit] == 0:
            return f"{duration_ms // _UNITS_MS[unit]}{unit}"
    return f"{duration_ms}ms"


def round_duration(duration_ms: int) -> str:
    """Return ms as people say it, to two or three digits: 40 ms, 0.8 s, 15 min, 5.5 h, 3 d."""
    if duration_ms < 100:  # noqa: PLR2004  # the bounds of the units are clearest as they stand
        return f"{duration_ms} ms"
    units = (("s", 120), ("min", 120), ("h", 48))
    unit = next((unit for unit, longest in units if duration_ms < longest * _UNITS_MS[unit]), "d")
    count = duration_ms / _UNITS_MS[unit]
    return f"{count:.1f}".removesuffix(".0") + f" {unit}" if count < 10 else f"{count:.0f} {unit}"  # noqa: PLR2004


def parse_rate(text: str) -> float:
    """Return `16/s`, `1000/min` or `30/h` as a number per second; raises ValueError with the cure."""
    found = _RATE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError("must be a rate above zero such as 16/s, 1000/min or 100/h")
    return float(found[1]) * 1_000 / _UNITS_MS[found[2]]


def parse_limit(text: str) -> tuple[int, int]:
    """Return `10/d` or `2000/h` as a number and the ms in which it holds; raises ValueError with the cure."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a whole number of messages in a time, such as 10/d, 2000/h or 60/min")
    return int(found[1]), _UNITS_MS[found[2]]


def parse_live_from(text: str) -> int:
    """Return an RFC 3339 instant as ms since the epoch; raises ValueError with the cure."""
    # A zone must be written: a route that goes live five and a half hours early has messaged customers.
    with suppress(ValueError, OverflowError):
        if _RFC_3339.fullmatch(text.strip()):
            return int(datetime.fromisoformat(text.strip().upper()).timestamp() * 1_000)
    raise ValueError("must be an instant with its zone, such as 2026-10-01T00:00:00+05:30")
