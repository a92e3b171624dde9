"""Files that a person names are read in bounds: a pipe, a device or a huge file holds nobody up. Some hold secrets."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, SecretStr

SILENCE_MS = 5_000  # of a pipe
_MIB = 1_048_576
_DAY_MS = 86_400_000
_UNTIL = re.compile(r"until=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_CURE = "write the secret alone, or with a blank and until=YEAR-MONTH-DAY behind it"


def read_bytes(path: Path, longest: int, *, cut: bool = False) -> bytes:
    """Return what a file holds; raises OSError, also where that is longer than `longest`.

    `cut`: where it is longer, return a byte more than `longest` instead. A pipe is read, too, as long as something
    comes from it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        read = bytearray()
        while len(read) <= longest:
            if not poll.poll(SILENCE_MS):
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came from it in {SILENCE_MS // 1000} s")
            part = os.read(descriptor, longest + 1 - len(read))
            if not part:
                break
            read += part
    finally:
        os.close(descriptor)
    if len(read) > longest and not cut:
        raise OSError(errno.EFBIG, f"it is longer than {longest / _MIB:g} MiB")
    return bytes(read)


def stamp_file(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced (a mounted ConfigMap swaps a link: inode)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


# -- secrets ----------------------------------------------------------------------------------------


def find_quoted(settings: BaseModel) -> list[str]:
    """Return the secrets that begin or end with a quote or a blank: they fit nothing.

    `docker --env-file` keeps quotes, an editor of Windows leaves a carriage return.
    """
    values = [(name, each) for name, value in settings for each in (value if isinstance(value, tuple) else (value,))]
    secrets = [(name, value.get_secret_value()) for name, value in values if isinstance(value, SecretStr)]
    return [name for name, secret in secrets if re.search(r"""^["'\s]|["'\s]$""", secret)]


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
