"""One process an outbox: locks that the kernel releases when their holder dies, and a watch over the file."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from app.errors import StoreBroken, StoreInUse


class ProcessLock:
    """Keeps other relays from the database at `path`, by its name and, once it is there, by its inode.

    The name guards the creation, says who holds it, and keeps out an earlier release, which knows no other lock.
    POSIX drops SQLite's locks when any descriptor of the database is closed in its process, so the one opened here
    outlives SQLite's, and nobody else opens the file (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path) -> None:
        """Lock the name; the file for it stays for ever, since removing it would let two in.

        Raises StoreInUse, naming the holder's pid; StoreBroken.
        """
        named = path.with_name(f"{path.name}.lock")
        try:
            descriptor = os.open(named, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreBroken(f"{named}: cannot be written ({error.strerror}); check its folder and mount") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreInUse(
                f"the outbox is in use by process {holder} (lock {named.name}); stop that one first"
            ) from None
        with suppress(OSError):  # on a full disk the lock holds without a name on it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        self._path = path
        self._descriptors = [descriptor]

    def hold_file(self) -> None:
        """Lock the database itself, before SQLite opens it. Raises StoreInUse, StoreBroken."""
        try:
            opened = os.open(self._path, os.O_RDWR)
        except OSError as error:
            raise StoreBroken(f"cannot be read and written ({error.strerror}); check its owner and mode") from error
        # Not one of the first three, should they be free: what a library says on stderr would go into the outbox.
        self._descriptors.append(fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3))
        os.close(opened)
        try:
            fcntl.flock(self._descriptors[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreInUse(f"{self._path}: another process uses this outbox; stop that one first") from None
        self._held = os.fstat(self._descriptors[-1])
        if (fault := self._find_fault()) is not None:
            raise StoreBroken(fault)

    def read_start(self, count: int) -> bytes:
        """Return the first bytes of the database."""
        return os.pread(self._descriptors[-1], count, 0)

    def watch(self) -> None:
        """Raise StoreBroken unless the name still leads to the database that is held, and no other name does."""
        if (fault := self._find_fault()) is not None:
            raise StoreBroken(f"{self._path}: {fault}")

    def _find_fault(self) -> str | None:
        try:
            found = self._path.stat()
        except OSError as error:
            return f"was there and is gone ({error.strerror}); put it back, or restore a backup"
        if not os.path.samestat(found, self._held):
            return "is another file than the one in use; it was replaced while the relay ran"
        if found.st_nlink > 1:
            return f"has {found.st_nlink} names (hard links), which SQLite does not bear; remove the others"
        return None

    def close(self) -> None:
        """Let another process in."""
        while self._descriptors:
            os.close(self._descriptors.pop())
