"""The secrets of a file: one a line, or more with commas between them, each for good or through a day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

_DAY_MS = 86_400_000
_UNTIL = re.compile(r"until=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_CURE = "write the secret alone, or with a blank and until=YEAR-MONTH-DAY behind it"


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret, and when (ms since the epoch) it holds no more; None: never."""

    text: str = field(repr=False)
    ends_at: int | None = None


def read_secrets(text: str) -> tuple[Secret, ...]:
    """Return the secrets that a file's text names; raises ValueError naming a line, never what stands there.

    The day of `until=` is one of UTC, and the secret holds to its end. A line that begins with `#` says nothing.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    return tuple(
        secret
        for number, line in enumerate(lines, 1)
        if not line.lstrip().startswith("#")
        for secret in _read_line(line, number)
    )


def list_active(secrets: Iterable[Secret], now: int) -> tuple[str, ...]:
    """Return the secrets that hold now, each once."""
    return tuple(dict.fromkeys(each.text for each in secrets if each.ends_at is None or now < each.ends_at))


def _read_line(line: str, number: int) -> Iterator[Secret]:
    for part in line.split(","):
        match part.split():
            case []:
                continue
            case [text, *rest] if text.isprintable() and not text.startswith("until=") and len(rest) <= 1:
                yield Secret(text, _read_end(rest[0], number) if rest else None)
            case _:
                raise ValueError(f"line {number}: {_CURE}")


def _read_end(word: str, number: int) -> int:
    found = _UNTIL.fullmatch(word)
    try:
        day = datetime.strptime(found[1] if found else "", "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"line {number}: {_CURE}") from None
    return round(day.timestamp()) * 1000 + _DAY_MS
