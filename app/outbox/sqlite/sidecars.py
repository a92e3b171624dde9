"""The outbox's file past SQLite: the lock of its process, and bytes of no row overwritten.

And the files beside it: room kept for a full disk, and the flights of requests.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import sqlite3
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from app.errors import StoreBroken, StoreError, StoreInUse
from app.outbox.store import Flights

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SLOTS = 1_024  # more sends than any relay has open: the sum of `concurrency`
_MAGIC = b"flights1"
_HEAD = struct.Struct("<8s36sq")  # magic, boot id, run
_SLOT = struct.Struct("<40sIB")  # delivery's id, attempt, standing
_SUM = struct.Struct("<I")  # of the slot before it
_SLOT_BYTES = _SLOT.size + _SUM.size
_SIZE = _HEAD.size + SLOTS * _SLOT_BYTES
_FLYING, _LANDED = 1, 2
_NO_RUN = 0


class MappedFlights(Flights):
    """A `Flights` in a mapped file. `left`: the bytes that the process before has left there."""

    def __init__(self, mapped: mmap.mmap, boot_id: bytes, left: bytes) -> None:
        self.run = secrets.randbits(62) or 1
        self._map = mapped
        self._boot_id = boot_id
        self._left = left
        # The one that landed first is taken first: the last ones tell most.
        self._free = deque(range(_HEAD.size, _SIZE, _SLOT_BYTES))
        self._taken: dict[tuple[str, int], int] = {}

    def list_left(self, run: int) -> tuple[set[tuple[str, int]], set[tuple[str, int]]] | None:
        """See Flights."""
        if len(self._left) != _SIZE or _HEAD.unpack_from(self._left) != (_MAGIC, self._boot_id, run):
            return None
        by_standing: dict[int, set[tuple[str, int]]] = {_FLYING: set(), _LANDED: set()}
        for at in range(_HEAD.size, _SIZE, _SLOT_BYTES):
            slot = self._left[at : at + _SLOT_BYTES]
            if not any(slot):
                continue
            id_, number, standing = _SLOT.unpack_from(slot)
            if _SUM.unpack_from(slot, _SLOT.size) != (crc32(slot[: _SLOT.size]),) or standing not in by_standing:
                return None
            by_standing[standing].add((id_.rstrip(b"\0").decode(), number))
        return by_standing[_FLYING], by_standing[_LANDED]

    def begin(self) -> None:
        """See Flights."""
        self._left = b""
        self._map[:] = _HEAD.pack(_MAGIC, self._boot_id, self.run).ljust(_SIZE, b"\0")

    def take_off(self, delivery_id: str, attempt: int) -> None:
        """See Flights."""
        key = (delivery_id, attempt)
        if key in self._taken:
            return
        if not self._free:  # what this run leaves behind tells nothing any more
            self._map[: _HEAD.size] = _HEAD.pack(_MAGIC, self._boot_id, _NO_RUN)
            return
        at = self._taken[key] = self._free.popleft()
        self._put(at, delivery_id, attempt, _FLYING)

    def land(self, delivery_id: str, attempt: int) -> None:
        """See Flights."""
        at = self._taken.pop((delivery_id, attempt), None)
        if at is not None:
            self._put(at, delivery_id, attempt, _LANDED)
            self._free.append(at)

    def _put(self, at: int, delivery_id: str, attempt: int, standing: int) -> None:
        slot = _SLOT.pack(delivery_id.encode(), attempt, standing)
        self._map[at : at + _SLOT_BYTES] = slot + _SUM.pack(crc32(slot))


def open_flights(outbox: Path, boot_id: Path = BOOT_ID) -> Flights:
    """Return the recorder beside an outbox; one that tells nothing where the system or the disk has no room for it."""
    place = outbox.with_name(f"{outbox.name}.flights")
    try:
        booted = boot_id.read_bytes().strip()
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return Flights()
    try:
        left = os.read(descriptor, _SIZE + 1)
        os.ftruncate(descriptor, _SIZE)
        os.posix_fallocate(descriptor, 0, _SIZE)  # a write to a mapped page for which there is no room is a crash
        return MappedFlights(mmap.mmap(descriptor, _SIZE), booted, left)
    except OSError:
        with suppress(OSError):
            place.unlink()
        return Flights()
    finally:
        os.close(descriptor)


class ProcessLock:
    """Keeps other relays from the database at `path`, by its name and, once it is there, by its inode.

    The name guards the creation, says who holds it, and keeps out an earlier release, which knows no other lock.
    POSIX drops SQLite's locks when any descriptor of the database is closed in its process, so the one opened here
    outlives SQLite's, and nobody else opens the file (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path) -> None:
        """Lock the name, whose file stays for ever: removing it would let two in. Raises StoreInUse, StoreBroken."""
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

    def read(self, count: int, at: int = 0) -> bytes:
        """Return some bytes of the database, the first ones if nothing else is said."""
        return os.pread(self._descriptors[-1], count, at)

    def write(self, data: bytes, at: int) -> None:
        """Write some bytes of the database past SQLite: only where it never reads."""
        os.pwrite(self._descriptors[-1], data, at)

    def flush(self) -> None:
        """Flush the database to the disk."""
        os.fsync(self._descriptors[-1])

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


# -- gaps --------------------------------------------------------------------------------------------

# `secure_delete` overwrites what is deleted. But where SQLite puts a page together anew, because its rows have grown
# and some go to its neighbours, there stay between the list of its cells and the first of them whatever lay there
# before: copies of rows that live on elsewhere, and that nobody overwrites when those are wiped (`rebuildPage` in its
# btree.c). So that is done here: nobody ever reads there (https://www.sqlite.org/fileformat2.html#b_tree_pages).
PAGES = 256  # a step, so that no commit waits long
LOG_WAIT_MS = 100
_START = struct.Struct(">BxxHH")  # a page's kind, how many cells it has, and where the first of them begins
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}  # of the four kinds of pages with cells: how long
# Other pages begin with the number of a page, whose first byte is none of these up to here (at 4 KiB, 137 GB).
_MOST_PAGES = 2 << 24
FORGET_PAGES = "PRAGMA shrink_memory"  # else the connection would write what it remembers of them, the next time
_MAY_STAY = "what was wiped may stay readable in the outbox's file"
_OTHER_SHAPE = "it is not built as the relay builds it; stop the relay, and run PRAGMA auto_vacuum = NONE; VACUUM on it"
_SHAPE = ("page_size", "page_count", "auto_vacuum")


def find_gaps(pages: bytes, size: int) -> Iterator[tuple[int, int]]:
    """Yield where in some pages there is something between the list of the cells and the first of them."""
    for at in range(0, len(pages), size):
        kind, cells, first = _START.unpack_from(pages, at)
        if kind in _HEADERS:
            begin, end = at + _HEADERS[kind] + 2 * cells, at + (first or 65_536)
            if begin < end <= at + size and pages[begin:end] != bytes(end - begin):
                yield begin, end


def clear_gaps(db: sqlite3.Connection, lock: ProcessLock, log: Path, first: int) -> int | None:
    """Write the log back, then overwrite the gaps of some pages; return the page to go on with.

    0: that was the last of them. None: somebody goes on reading the log; ask again. `db` writes the file, and may have
    no transaction open. `first`: 0 to begin, which writes the log back in any case. Raises StoreError.
    """
    if not first:
        return 1 if _empty_log(db) else None  # the first page has no row of ours
    size, count, moves_pages = (db.execute(f"PRAGMA {each}").fetchone()[0] for each in _SHAPE)
    after = min(first + PAGES, count)
    if moves_pages or count > _MOST_PAGES:
        raise StoreError(f"{_MAY_STAY}: {_OTHER_SHAPE}")
    try:
        if any(find_gaps(lock.read(size * (after - first), size * first), size)) and not (
            _empty_log(db) and _overwrite(db, lock, log, (first, after), size)
        ):
            return None
        if after == count:
            lock.flush()
    except OSError as error:
        raise StoreError(f"{_MAY_STAY}: {error.strerror}; check its disk, the next wipe tries again") from error
    return after if after < count else 0


def _overwrite(db: sqlite3.Connection, lock: ProcessLock, log: Path, span: tuple[int, int], size: int) -> bool:
    """Overwrite the gaps of these pages; False if somebody has written meanwhile."""
    first, after = span
    db.execute("BEGIN IMMEDIATE")
    try:
        if log.stat().st_size:  # what is in there may be written back over ours at any time
            return False
        for begin, end in find_gaps(lock.read(size * (after - first), size * first), size):
            lock.write(bytes(end - begin), size * first + begin)
    finally:
        db.execute("ROLLBACK")
        db.execute(FORGET_PAGES).fetchall()
    return True


def _empty_log(db: sqlite3.Connection) -> bool:
    (usual_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    wait_for_lock(db, LOG_WAIT_MS)
    try:
        (is_busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        wait_for_lock(db, usual_ms)
    return not is_busy


def wait_for_lock(db: sqlite3.Connection, timeout_ms: int) -> None:
    """Let this connection wait so long for another's lock."""
    db.execute(f"PRAGMA busy_timeout = {timeout_ms}").fetchall()
