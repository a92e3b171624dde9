"""Durations, rates and instants as people write them in the YAML."""

from __future__ import annotations

import re
from datetime import datetime

from app.model.limit import Limit

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
    for unit, longest in (("s", 120), ("min", 120), ("h", 48)):
        count = duration_ms / _UNITS_MS[unit]
        if count < longest:
            break
    else:
        unit, count = "d", duration_ms / _UNITS_MS["d"]
    return f"{count:.1f}".removesuffix(".0") + f" {unit}" if count < 10 else f"{count:.0f} {unit}"  # noqa: PLR2004


def parse_rate(text: str) -> float:
    """Return `16/s`, `1000/min` or `30/h` as a number per second; raises ValueError with the cure."""
    found = _RATE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError("must be a rate above zero such as 16/s, 1000/min or 100/h")
    return float(found[1]) * 1_000 / _UNITS_MS[found[2]]


def parse_limit(text: str) -> Limit:
    """Return `10/d` or `2000/h` as a limit; raises ValueError with the cure."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a whole number of messages in a time, such as 10/d, 2000/h or 60/min")
    return Limit(int(found[1]), _UNITS_MS[found[2]])


def parse_live_from(text: str) -> int:
    """Return an RFC 3339 instant as ms since the epoch; raises ValueError with the cure.

    A zone must be written: a route that goes live five and a half hours early has messaged customers.
    """
    try:
        if _RFC_3339.fullmatch(text.strip()):
            return int(datetime.fromisoformat(text.strip().upper()).timestamp() * 1_000)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be an instant with its zone, such as 2026-10-01T00:00:00+05:30")
