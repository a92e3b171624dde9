"""A file that keeps some space on the disk, to be given up when there is none left for outcomes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 1024 * 1024


class Reserve:
    """A file of 1 MiB that can be given up once and is taken again when there is space.

    On a full disk SQLite can neither insert, update nor delete; without this, sends that were under way could not be
    recorded as done and would be sent again after a restart.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        """Keep `size` bytes at `path`; nothing is written before `restore`."""
        self._path = path
        self._size = size
        self.whole = False

    def restore(self) -> bool:
        """Take the space; False if the disk has none."""
        try:
            if not self._path.exists() or self._path.stat().st_size < self._size:
                self._fill()
        except OSError:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)  # a part of it would only take the space away
            self.whole = False
            return False
        self.whole = True
        return True

    def release(self) -> bool:
        """Give the space up; False if it was given up before."""
        if not self.whole:
            return False
        self.whole = False
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return True

    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = memoryview(os.urandom(self._size))  # not zeros: a compressing file system would keep no space
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
