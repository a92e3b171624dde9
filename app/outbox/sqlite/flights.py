"""The flight recorder: a mapped file that tells, after a kill, which open attempts surely never left.

An attempt is committed before its request may leave, so whoever finds one open knows only that it may have left. The
mapped pages outlive the process and not the machine: what stands in no slot, written before the first byte, never left.
Whatever is odd (another boot, a torn slot, a file older or newer than the outbox) is a reason to believe none of it:
then every open attempt may have left, as without a recorder.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from collections import deque
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from app.outbox.store import Flights, NoFlights

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


class MappedFlights:
    """A `Flights` in a mapped file. `left`: the bytes that the process before has left there."""

    def __init__(self, mapped: mmap.mmap, boot_id: bytes, left: bytes) -> None:
        self.run = secrets.randbits(62) or 1
        self._map = mapped
        self._boot_id = boot_id
        self._left = left
        self._free = deque(range(SLOTS))  # the one that landed first is taken first: the last ones tell most
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
        if (delivery_id, attempt) in self._taken:
            return
        if not self._free:  # what this run leaves behind tells nothing any more
            self._map[: _HEAD.size] = _HEAD.pack(_MAGIC, self._boot_id, _NO_RUN)
            return
        place = self._taken[delivery_id, attempt] = self._free.popleft()
        self._put(place, delivery_id, attempt, _FLYING)

    def land(self, delivery_id: str, attempt: int) -> None:
        """See Flights."""
        place = self._taken.pop((delivery_id, attempt), None)
        if place is not None:
            self._put(place, delivery_id, attempt, _LANDED)
            self._free.append(place)

    def _put(self, place: int, delivery_id: str, attempt: int, standing: int) -> None:
        slot = _SLOT.pack(delivery_id.encode(), attempt, standing)
        at = _HEAD.size + place * _SLOT_BYTES
        self._map[at : at + _SLOT_BYTES] = slot + _SUM.pack(crc32(slot))


def open_flights(outbox: Path, boot_id: Path = BOOT_ID) -> Flights:
    """Return the recorder beside an outbox; one that tells nothing where the system or the disk has no room for it."""
    place = outbox.with_name(f"{outbox.name}.flights")
    try:
        booted = boot_id.read_bytes().strip()
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return NoFlights()
    try:
        left = os.read(descriptor, _SIZE + 1)
        os.ftruncate(descriptor, _SIZE)
        os.posix_fallocate(descriptor, 0, _SIZE)  # a write to a mapped page for which there is no room is a crash
        return MappedFlights(mmap.mmap(descriptor, _SIZE), booted, left)
    except OSError:
        with suppress(OSError):
            place.unlink()
        return NoFlights()
    finally:
        os.close(descriptor)
