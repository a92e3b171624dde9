"""Log lines go into a bounded queue that one thread writes out, so that no reader stops those who write."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

MOST_LINES = 10_000
MOST_BYTES = 4 * 1024 * 1024
GATHER_S = 0.005  # lines come in company, and to wake the thread for each costs a third of what making one does
FLUSH_S = 2.0  # at the end of the process, for a reader that has stalled


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
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Take one line."""
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._closed or len(self._waiting) >= MOST_LINES or self._bytes + len(line) > MOST_BYTES:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
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
            ending = self._closed
        if not ending:
            time.sleep(GATHER_S)
        with self._changed:
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
