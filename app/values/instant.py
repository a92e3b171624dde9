"""Instants as shops write them: ISO 8601 texts and Unix times, in seconds or milliseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.values.number import read_decimal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Before 2000 or after 2199 a bare number is something else (20261231, a duration, microseconds).
_FIRST_S = 946_684_800
_LAST_S = 7_258_118_400
_FIRST_YEAR = 2000  # "1970-01-01" and "0001-01-01" are how programs write "no date"
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
    number = read_decimal(value)
    epoch = read_epoch(float(number)) if number is not None else None
    if epoch is not None:
        return (_EPOCH + epoch * _MILLISECOND).astimezone(ZoneInfo(timezone))
    return _read_iso(value.strip(), ZoneInfo(timezone)) if isinstance(value, str) else None


def _read_iso(text: str, zone: ZoneInfo) -> datetime | date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return day if day.year >= _FIRST_YEAR else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=zone) if moment.tzinfo is None else _shift(moment, zone)
    return moment if moment.year >= _FIRST_YEAR else None


def _shift(moment: datetime, zone: ZoneInfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:  # 9999-12-31T23:59:59Z, "never", is in the year 10000 further east
        return moment


def parse_instant(value: Any, timezone: str, *, end_of_day: bool) -> int | None:
    """Return `value` as ms since the epoch; None if unreadable.

    A date without a time is the start of that day in the store's zone or, for `end_of_day`, of the next:
    what is valid until the 31st may be sent until the 31st is over.
    """
    moment = read_moment(value, timezone)
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        if end_of_day and moment == date.max:
            return _END_OF_TIME
        day = moment + timedelta(days=1) if end_of_day else moment
        moment = datetime.combine(day, time.min, ZoneInfo(timezone))
    return (moment - _EPOCH) // _MILLISECOND


def format_instant(at: int) -> str:
    """Return ms since the epoch as RFC 3339 in UTC, to the millisecond ("2026-12-31T18:29:59.000Z")."""
    return (_EPOCH + at * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def name_day(at: int, timezone: str) -> str:
    """Return the day on which `at` (ms since the epoch) lies in a zone ("2026-12-31")."""
    return (_EPOCH + at * _MILLISECOND).astimezone(ZoneInfo(timezone)).date().isoformat()
