"""Dates in a shop's own form: `dd/MM/yyyy`, by the letters with which dates are written, too."""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

# From https://babel.pocoo.org/en/latest/dates.html#date-fields what Python reads; its names of months are English.
_DIRECTIVES = {
    **dict.fromkeys(("d", "dd"), "%d"),
    **dict.fromkeys(("M", "MM"), "%m"),
    "MMM": "%b",
    "MMMM": "%B",
    "y": "%Y",
    "yyyy": "%Y",
    "yy": "%y",
    "a": "%p",
    "EEE": "%a",
    "EEEE": "%A",
    **dict.fromkeys(("H", "HH"), "%H"),
    **dict.fromkeys(("h", "hh"), "%I"),
    **dict.fromkeys(("m", "mm"), "%M"),
    **dict.fromkeys(("s", "ss"), "%S"),
}
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
