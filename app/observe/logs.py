"""Each step is told in one wide line, with ids always, recipients masked and bodies never.

Our own code masks what it knows to be a number (values.phone.mask_phone); the processor here is the net
beneath: whatever still looks like a phone number in any line, uvicorn's and httpx2's own included, is
struck out. Lines go into a bounded queue that one thread writes out, so that no reader stops those who write.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Literal, TextIO, TypeAlias

from app.errors import find_place
from app.values.text import write_json

Line: TypeAlias = dict[str, Any]
Write: TypeAlias = Callable[..., object]
"""Takes (level, event, /, **line)."""

_LONGEST = 256
LINE_MS = 60_000
MOST_LINES = 10_000
MOST_BYTES = 4 * 1024 * 1024
GATHER_S = 0.05  # lines come in company, and to wake the thread for one costs more than making it
FLUSH_S = 2.0  # at the end of the process, for a reader that has stalled
# Ids hold digits, too: a run that touches a letter or a hyphen is part of an id, not a number.
# With a + in front, or in India's two halves, a number may be written with gaps.
# The first sign stands first, since by that a search passes over the others: half the cost.
_PHONE = re.compile(
    r"[+0-9](?<![0-9A-Za-z-].)"
    r"(?:(?<=\+)[0-9](?:[ ().-]{0,2}[0-9]){7,14}|(?<=[0-9])(?:[0-9]{9,14}|[0-9]{4} [0-9]{5}))(?![0-9A-Za-z-])"
)
# What no number is without: ten digits, two halves of five, or a plus sign with eight behind it. Seen in a tenth of the
# time, and nearly every line has none.
_NOUGHTS = bytes.maketrans(b"123456789", b"000000000")
_AFTER_PLUS = re.compile(rb"\+0(?:[ ().-]{0,2}0){7}")
_TOO_LONG = re.compile(rb'"[^"]{257}')
_LEVELS = ("debug", "info", "warning", "error", "critical")
_COLOURS = {"warning": 33, "error": 31, "critical": 31}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class LineLimit:
    """Lets one line of each kind through in a while, by default a minute, so that the log stays short."""

    def __init__(self, every_ms: int = LINE_MS) -> None:
        self._every_ms = every_ms
        self._told: dict[Hashable, tuple[int, int]] = {}

    def count(self, kind: Hashable, now: int) -> int | None:
        """Count one; return how many were not told since the last line if this one is to be told."""
        at, untold = self._told.get(kind, (now - self._every_ms, 0))
        is_told = now - at >= self._every_ms
        self._told[kind] = (now, 0) if is_told else (at, untold + 1)
        return untold if is_told else None


class Log:
    """Takes the relay's own lines: what happened, then what it happened to. Below `level` (logging's number) none."""

    def __init__(self, write: Write, level: int = logging.DEBUG) -> None:
        self.debug, self.info, self.warning, self.error, self.critical = (
            partial(write, name) if logging.getLevelNamesMapping()[name.upper()] >= level else _ignore
            for name in _LEVELS
        )


def _ignore(_event: str, /, **_line: Any) -> None:
    """Take no line."""


def redact(line: Line) -> Line:
    """Strike phone numbers and control characters out of a line's texts, and cap their length."""
    return {key: _redact_value(value) for key, value in line.items()}


def _redact_value(value: Any) -> Any:
    match value:
        case str():
            return _CONTROL.sub(" ", _PHONE.sub("[number]", value))[:_LONGEST]
        case dict():
            return {_redact_value(key): _redact_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact_value(item) for item in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return _redact_value(str(value))


def configure_logs(
    level: str, style: Literal["json", "console"], read_traceparent: Callable[[], str] | None = None
) -> Log:
    """Send our lines and the libraries' to stdout in one form; return the log to pass on.

    `read_traceparent` says in which trace a line is written, "" for none; its id is then in the line.
    """
    for before in _list_streams():
        before.close()
    take, stream = _open_stream(sys.stdout)
    has_colours = sys.stdout is not None and sys.stdout.isatty()
    show = _write_json if style == "json" else partial(_write_for_person, has_colours=has_colours)

    def write(level: str, event: str, /, **line: Any) -> None:
        """Write a line; whatever is wrong with it reaches nobody who logs."""
        try:
            # https://www.w3.org/TR/trace-context/#traceparent-header-field-values
            if read_traceparent and (traceparent := read_traceparent()):
                line["trace_id"] = traceparent.split("-")[1]
            take(show(level, event, line))
        except Exception:  # noqa: BLE001  # a value that cannot be shown, a stream that is closed
            _drop_line()

    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(write, stream)]
    root.setLevel(max(number, logging.WARNING))  # below that, libraries print requests and their bodies
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(max(number, logging.INFO))  # it tells of its start and its end
    log = Log(write, number)
    if stream is not None:
        stream.tell_dropped = lambda lines: log.warning("log.dropped", lines=lines)
    return log


class _LibraryHandler(logging.Handler):
    """Writes what libraries log in our form.

    Of a text of many lines the first is kept: asyncio goes on with that of the exception that it met.
    """

    def __init__(self, write: Write, stream: LogStream | None) -> None:
        super().__init__()
        self._write = write
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            event = record.getMessage().partition("\n")[0].strip()
        except Exception:  # noqa: BLE001  # a value that cannot be shown
            _drop_line()
            return
        self._write(record.levelname.lower(), event, **({"exc_info": record.exc_info} if record.exc_info else {}))


def count_dropped() -> int:
    """Return how many lines this process has lost."""
    return sum(stream.dropped for stream in _list_streams())


def _list_streams() -> list[LogStream]:
    return [each.stream for each in logging.getLogger().handlers if isinstance(each, _LibraryHandler) and each.stream]


def _open_stream(stdout: TextIO | None) -> tuple[Callable[[bytes], object], LogStream | None]:
    """Return what keeps nobody waiting; a stream in memory, as a test may have in place of stdout, never does."""
    try:
        descriptor = -1 if stdout is None else stdout.fileno()  # None: closed before we started; all is dropped then
    except OSError:
        return lambda line: stdout and stdout.write(line.decode()), None
    stream = LogStream(descriptor)
    atexit.register(stream.close)
    return stream.write, stream


def _drop_line() -> None:
    for stream in _list_streams():
        stream.drop()


def write_plain(level: str, event: str, line: Line) -> bytes | None:
    """Return a line as `redact` would leave it; None where that has something to do about it.

    Most lines hold short texts of plain ASCII and nothing that looks like a number: a few looks at the whole line say
    so, where `redact` looks at each value (75 µs a line, and this takes 5).
    """
    if "exc_info" in line:
        return None
    try:
        text = write_json({"at": _read_time(), "level": level, "event": event, **line}).encode()
    except (TypeError, RecursionError):  # no JSON, before each value has become a text
        return None
    if b"\\" in text or _TOO_LONG.search(text):
        return None
    return None if _may_hold_number(text) and _PHONE.search(text.decode()) else text + b"\n"


def _may_hold_number(text: bytes) -> bool:
    shape = text.translate(_NOUGHTS)
    return b"0000000000" in shape or b"00000 00000" in shape or _AFTER_PLUS.search(shape) is not None


def _read_time() -> str:
    second, ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{_show_second(second)}.{ns // 1000:06}Z"


@lru_cache(maxsize=1)
def _show_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _write_json(level: str, event: str, line: Line) -> bytes:
    return write_plain(level, event, line) or write_json(_redact_whole(level, event, line)).encode() + b"\n"


def _write_for_person(level: str, event: str, line: Line, *, has_colours: bool) -> bytes:
    whole = _redact_whole(level, event, line)
    at, _, event = (whole.pop(name) for name in ("at", "level", "event"))
    shown = f"\x1b[{_COLOURS.get(level, 32)}m{level:8}\x1b[0m" if has_colours else f"{level:8}"
    told = "".join(f" {key}={value!r}" for key, value in whole.items())
    return f"{at} [{shown}] {event:30}{told}\n".encode("utf-8", "backslashreplace")


def _redact_whole(level: str, event: str, line: Line) -> Line:
    """Return a line with what people read first: when, how bad, what."""
    return redact({"at": _read_time(), "level": level, "event": event, **_name_exception(line)})


def _name_exception(line: Line) -> Line:
    """Replace a traceback by the exception's type and place: its text or its locals may hold a customer's data."""
    info: Any = line.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        line["error_type"] = type(error).__name__
        if place := find_place(error):
            line["error_at"] = place
    return line


class LogStream:
    """A stream that neither waits nor fails. A line without room or without a reader is dropped and counted.

    `tell_dropped` is told how many lines were lost, once a write has succeeded again.
    """

    def __init__(self, descriptor: int, tell_dropped: Callable[[int], object] = lambda _lines: None) -> None:
        """Start the thread."""
        self._descriptor = descriptor
        self.tell_dropped = tell_dropped
        self._waiting: list[bytes] = []
        self._bytes = 0  # of what waits and of what is being written
        self._closed = False
        self.dropped = 0
        self._told = 0
        # Reentrant, as its default is: the garbage collector may find something to log in the middle of `write`.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Take one line."""
        with self._lock:
            if self._closed or len(self._waiting) >= MOST_LINES or self._bytes + len(line) > MOST_BYTES:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            if len(self._waiting) == 1:  # for any further it is awake
                self._changed.notify()

    def drop(self) -> None:
        """Count a line that could not be made."""
        with self._changed:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for 2 s at most; what comes later is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(FLUSH_S)

    def _work(self) -> None:
        while batch := self._take():
            lost = _write_out(self._descriptor, b"".join(batch))
            with self._changed:
                self._bytes -= sum(map(len, batch))
                self.dropped += lost
                untold, self._told = self.dropped - self._told, self._told if lost else self.dropped
            if untold and not lost:
                self.tell_dropped(untold)

    def _take(self) -> list[bytes]:
        """Wait for lines and take all that wait by then; none at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._closed:
                self._changed.wait(GATHER_S)
            batch, self._waiting = self._waiting, []
        return batch


def _write_out(descriptor: int, lines: bytes) -> int:
    """Write, however long the reader takes; return how many lines were lost, for whatever reason."""
    left = memoryview(lines)
    try:
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # another process has made the shared pipe non-blocking
                select.select((), (descriptor,), ())
    except OSError:  # the reader is gone (EPIPE), or the disk is full
        return bytes(left).count(b"\n")
    return 0


# -- when it is told ------------------------------------------------------------------------------

# The outbox begins its next commit eight turns of the loop after the last: from then on nobody waits for the loop.
TURNS = 10
AT_ONCE = 100  # then whatever else waits for the loop has its turn


class Reports:
    """Takes calls that tell of something, and makes them some turns of the loop later, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def add(self, tell: Callable[..., object], *given: Any) -> None:
        """Take a call. What it shows as an instant must be given to it."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._wait, TURNS)
        self._waiting.append((tell, given))

    def tell(self, most: int | None = None) -> None:
        """Make the calls that wait, or so many of them."""
        for _ in range(len(self._waiting) if most is None else min(most, len(self._waiting))):
            tell, given = self._waiting.popleft()
            tell(*given)

    def _wait(self, turns: int) -> None:
        """Go on after so many turns; the rest of what waits has its own turn, whatever became of the first."""
        try:
            if not turns:
                self.tell(AT_ONCE)
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._wait, max(turns - 1, 0))


class PromptReports(Reports):
    """Makes each call at once: for who traces, whose lines name the step that is under way."""

    def add(self, tell: Callable[..., object], *given: Any) -> None:
        """Make a call."""
        tell(*given)
