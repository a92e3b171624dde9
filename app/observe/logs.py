"""Each step is told in one wide line, with ids always, recipients masked and bodies never.

Our own code masks what it knows to be a number (values.phone.mask_phone); the processor here is the net
beneath: whatever still looks like a phone number in any line, uvicorn's and httpx2's own included, is
struck out. Lines go into a bounded queue that one thread writes out, so that no reader stops those who write.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

from app.errors import find_place
from app.values.text import write_json

# structlog imports rich, where it is there, for tracebacks that we never print: 7 % of the processor time of a start
# and 3 MB, and there is no way to import structlog without that. Told that there is none, it does without.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # how Python itself marks a module that must not be imported
try:
    import structlog
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

EventDict = structlog.typing.EventDict
Log = structlog.typing.FilteringBoundLogger

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
_TOO_LONG = re.compile(r'"[^"]{257}')
_QUICK = ("debug", "info", "warning", "error")
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


def redact(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Strike phone numbers and control characters out of a line's texts, and cap their length."""
    return {key: value if key == "_record" else _redact_value(value) for key, value in line.items()}


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
    """Send our lines and the libraries' to stdout in one form; return the logger to pass on.

    `read_traceparent` says in which trace a line is written, "" for none; its id is then in the line.
    """
    shared: list[structlog.typing.Processor] = [
        *([_name_trace(read_traceparent)] if read_traceparent else ()),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _name_exception,
        _put_first,
        redact,
    ]
    colours = sys.stdout is not None and sys.stdout.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="at", sort_keys=False)
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    for before in _list_streams():
        before.close()
    stream = _open_stream(sys.stdout)
    handler = logging.StreamHandler(stream)
    logging.raiseExceptions = False  # what a library cannot say is not worth a traceback on stderr
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))  # below that, libraries print requests and their bodies
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(max(number, logging.INFO))  # it tells of its start and its end
    plain = stream if style == "json" and read_traceparent is None else None
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=_make_logger(structlog.make_filtering_bound_logger(number), plain),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger().bind()  # what is bound already need not be for each line
    return log


def count_dropped() -> int:
    """Return how many lines this process has lost."""
    return sum(stream.dropped for stream in _list_streams())


def _list_streams() -> list[LogStream]:
    streams = (getattr(handler, "stream", None) for handler in logging.getLogger().handlers)
    return [stream for stream in streams if isinstance(stream, LogStream)]


def _open_stream(stdout: TextIO | None) -> TextIO:
    """Return what keeps nobody waiting; a stream in memory, as a test may have in place of stdout, never does."""
    try:
        descriptor = -1 if stdout is None else stdout.fileno()  # None: closed before we started; all is dropped then
    except OSError:
        return cast("TextIO", stdout)
    stream = LogStream(descriptor, _tell_dropped)
    atexit.register(stream.close)
    return cast("TextIO", stream)  # of a stream loggers use what it has


def _tell_dropped(lines: int) -> None:
    log: Log = structlog.get_logger()
    log.warning("log.dropped", lines=lines)


def _make_logger(logger: type[Log], stream: TextIO | None) -> type[Log]:
    """Return a logger whose lines, whatever is wrong with them, reach nobody who logs.

    `stream`: takes a plain line as JSON, without the way through structlog's layers and processors.
    """

    def proxy(self: Any, method: str, event: str | None = None, *args: Any, **line: Any) -> Any:
        try:
            return logger._proxy_to_logger(self, method, event, *args, **line)  # type: ignore[attr-defined]  # noqa: SLF001  # as structlog documents for wrapper classes
        except Exception:  # noqa: BLE001  # a value that cannot be shown, a stream that is closed
            _drop_line()

    def make_quick(method: str, write: Callable[[str], object]) -> Callable[..., Any]:
        usual = getattr(logger, method)

        def tell(self: Any, event: str, *args: Any, **line: Any) -> Any:
            text = None if args else write_plain(method, event, line)
            if text is None:
                return usual(self, event, *args, **line)
            try:
                return write(text + "\n")
            except Exception:  # noqa: BLE001  # a stream that is closed
                _drop_line()

        return tell

    names = [name for name in _QUICK if getattr(logger, name).__name__ == name]  # the others do nothing
    quick = {} if stream is None else {name: make_quick(name, stream.write) for name in names}
    return type("KeepingLogger", (logger,), {"_proxy_to_logger": proxy, **quick})


def _drop_line() -> None:
    for stream in _list_streams():
        stream.drop()


def write_plain(level: str, event: str | None, line: EventDict) -> str | None:
    """Return a line as the processors would write it; None where they have something to do about it.

    Most lines hold short texts of plain ASCII and nothing that looks like a number: a few looks at the whole line say
    so, where the processors look at each value (75 µs a line, and this takes 5).
    """
    if "exc_info" in line or event is None:
        return None
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    try:
        text = write_json({"at": at, "level": level, "event": event, **line})
    except (TypeError, RecursionError):  # no JSON, before each value has become a text
        return None
    if "\\" in text or _TOO_LONG.search(text):
        return None
    return None if _may_hold_number(text) and _PHONE.search(text) else text


def _may_hold_number(text: str) -> bool:
    shape = text.encode().translate(_NOUGHTS)
    return b"0000000000" in shape or b"00000 00000" in shape or _AFTER_PLUS.search(shape) is not None


def _name_trace(read_traceparent: Callable[[], str]) -> structlog.typing.Processor:
    def name(_logger: object, _method: str, line: EventDict) -> EventDict:
        # https://www.w3.org/TR/trace-context/#traceparent-header-field-values
        traceparent = read_traceparent()
        return {**line, "trace_id": traceparent.split("-")[1]} if traceparent else line

    return name


def _put_first(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Begin with what people read first: when, how bad, what. Of what a library says the first line is kept.

    asyncio goes on with the text of the exception that it met.
    """
    head = {key: line.pop(key) for key in ("at", "level", "event") if key in line}
    if "_record" in line:
        head["event"] = str(head["event"]).partition("\n")[0].strip()
    return {**head, **line}


def _name_exception(_logger: object, _method: str, line: EventDict) -> EventDict:
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
    """A text stream that neither waits nor fails. A line without room or without a reader is dropped and counted."""

    def __init__(self, descriptor: int, tell_dropped: Callable[[int], None] = lambda _lines: None) -> None:
        """Start the thread. `tell_dropped` is told how many lines were lost, once a write has succeeded again."""
        self._descriptor = descriptor
        self._tell_dropped = tell_dropped
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

    def write(self, text: str) -> None:
        """Take one line."""
        line = text.encode("utf-8", "backslashreplace")
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

    def flush(self) -> None:
        """Do nothing: loggers call this after each line, and the thread needs no telling."""

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
                self._tell_dropped(untold)

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
