"""What happened, in order: a hash of all of it, and the last lines for whoever has to find out why."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

KEPT = 120


class Trace:
    """Takes lines; `seconds` reads the virtual clock."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._sum = hashlib.blake2b(digest_size=12)
        self.last: deque[str] = deque(maxlen=KEPT)

    def add(self, what: str) -> None:
        """Note that something happened now."""
        line = f"{self._seconds():.3f} {what}"
        self._sum.update(line.encode())
        self.last.append(line)

    @property
    def digest(self) -> str:
        """Return the hash of every line so far."""
        return self._sum.hexdigest()


class TraceLog:
    """The relay's log, written into the trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def debug(self, event: str, **fields: Any) -> None:
        self._write(event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        self._write(event, fields)

    def _write(self, event: str, fields: dict[str, Any]) -> None:
        told = [str(fields[name]) for name in ("delivery_id", "event_id", "state", "reason", "scope") if name in fields]
        self._trace.add(" ".join(["log", event, *told]))
