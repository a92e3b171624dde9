"""One process an outbox: a lock file that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from app.errors import StoreBroken, StoreInUse


class ProcessLock:
    """An exclusive flock on `path`, taken on construction. Raises StoreInUse, naming the holder's pid; StoreBroken."""

    def __init__(self, path: Path) -> None:
        """Take the lock; the file stays behind for ever, since removing it would let two in."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreBroken(f"{path}: cannot be written ({error.strerror}); check its folder and mount") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreInUse(
                f"the outbox is in use by process {holder} (lock {path.name}); stop that one first"
            ) from None
        with suppress(OSError):  # on a full disk the lock holds without a name on it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let another process in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
