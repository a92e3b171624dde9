"""A disk that may lose power: what is flushed stays; of what is not, anything may or may not be there.

The model is as hostile as SQLite's own assumptions allow (https://www.sqlite.org/atomiccommit.html, section 2;
https://www.sqlite.org/psow.html): unflushed writes survive in any choice, whole or sector by sector, and where a sector
was being written it may hold garbage, but never beyond the write; a file's size may run ahead of its data or lag
behind. Names (creations, renames, removals) survive in order, as journaling file systems keep them, up to any point
after the last flush of the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.faults.power.recording import Record

SECTOR = 512
FOLDER = "."


@dataclass(frozen=True, slots=True)
class Change:
    """A write of `data` at `offset`, or, where `data` is None, a truncation to `offset`."""

    number: int
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Whim:
    """How one cut treats what is unflushed. `kept`: the odds of a change; `torn`: of one that is kept only in part.

    `in_order`: everything up to some change survives and nothing after it.
    """

    kept: float
    torn: float
    size_off: float
    in_order: bool


@dataclass(eq=False, slots=True)
class File:
    """Flushed bytes and the changes since; `version` moves with the flushed bytes."""

    flushed: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    version: int = 0

    def flush(self, up_to: int) -> None:
        """Settle every change up to this number."""
        done = [change for change in self.pending if change.number <= up_to]
        if done:
            self.pending = self.pending[len(done) :]
            self.version += 1
            for change in done:
                apply_change(self.flushed, change)

    def read_whole(self) -> bytes:
        """Return what the living process sees."""
        image = bytearray(self.flushed)
        for change in self.pending:
            apply_change(image, change)
        return bytes(image)

    def survive(self, random: Random, whim: Whim) -> bytearray:
        """Return what a cut leaves of the file. Not to be changed: it may be the flushed bytes themselves."""
        if not self.pending:
            return self.flushed
        image = bytearray(self.flushed)
        if whim.in_order:
            last = random.randrange(len(self.pending) + 1)
            for change in self.pending[:last]:
                apply_change(image, change)
            if last < len(self.pending):
                tear_change(image, self.pending[last], random)
        else:
            for change in self.pending:
                if random.random() < whim.kept:
                    tear = random.random() < whim.torn
                    tear_change(image, change, random) if tear else apply_change(image, change)
        if random.random() < whim.size_off:
            resize(image, random.choice(self._list_sizes()))
        return image

    def _list_sizes(self) -> list[int]:
        """Every size the file had since it was last flushed: the size may be older or newer than the data."""
        sizes = [len(self.flushed)]
        for change in self.pending:
            sizes.append(change.offset if change.data is None else max(sizes[-1], change.offset + len(change.data)))
        return sizes


def resize(image: bytearray, size: int) -> None:
    """Cut, or fill with zeros."""
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))


def apply_change(image: bytearray, change: Change) -> None:
    """Do all of a change."""
    if change.data is None:
        resize(image, change.offset)
    else:
        if change.offset > len(image):
            resize(image, change.offset)
        image[change.offset : change.offset + len(change.data)] = change.data


def tear_change(image: bytearray, change: Change, random: Random) -> None:
    """Do a change in part: of a write each sector or not, or with garbage in it; a truncation not at all."""
    if change.data is None:
        return
    end = change.offset + len(change.data)
    at = change.offset
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        drawn = random.random()
        if drawn < 0.5:
            part = change.data[at - change.offset : until - change.offset]
            apply_change(image, Change(change.number, at, part))
        elif drawn < 0.55:
            apply_change(image, Change(change.number, at, random.randbytes(until - at)))
        at = until


@dataclass(frozen=True, slots=True)
class Naming:
    """A change of the folder: `name` now means `file` (None: nothing any more)."""

    number: int
    name: str
    file: File | None


class Disk:
    """A folder on a disk, moved on record by record. `seen` is how the living process finds it."""

    def __init__(self, content: Mapping[str, bytes] | None = None) -> None:
        """Start with files that are wholly flushed."""
        self.seen = {name: File(bytearray(data)) for name, data in (content or {}).items()}
        self._flushed_names = dict(self.seen)
        self._pending_names: list[Naming] = []
        self._open: dict[int, tuple[str, File]] = {}
        self._flushing: dict[int, int] = {}
        self._count = 0

    def do(self, record: Record) -> str | None:
        """Do what was recorded; return the name of the file that it was done to."""
        self._count += 1
        if record.kind == "U":
            self._rename(record.data.decode(), None)
        elif record.kind == "R":
            name, new_name = record.data.decode().split("\0")
            self._rename(name, new_name)
        elif record.kind == "O":
            self._open_file(record)
        else:
            name, file = self._open[record.fd]
            self._do_to_file(record, name, file)
            return name
        return None

    def cut(self, random: Random, whim: Whim, names: Iterable[str]) -> dict[str, tuple[File, bytearray]]:
        """Return what a power cut now leaves of these names: the file that each means, and its bytes."""
        found = dict(self._flushed_names)
        last = random.choice([0, *(naming.number for naming in self._pending_names)])  # a renaming is one step
        for naming in self._pending_names:
            if naming.number <= last:
                _apply_naming(found, naming)
        return {name: (found[name], found[name].survive(random, whim)) for name in names if name in found}

    def _open_file(self, record: Record) -> None:
        name = record.data.decode()
        if name != FOLDER and name not in self.seen:
            self._name(name, File())
        file = File() if name == FOLDER else self.seen[name]
        self._open[record.fd] = (name, file)
        if record.offset:
            file.pending.append(Change(self._count, 0, None))

    def _do_to_file(self, record: Record, name: str, file: File) -> None:
        if record.kind == "W":
            file.pending.append(Change(self._count, record.offset, record.data))
        elif record.kind == "T":
            file.pending.append(Change(self._count, record.offset, None))
        elif record.kind == "B":
            self._flushing[record.fd] = self._count
        elif record.kind == "E" and name == FOLDER:
            self._flush_names(self._flushing.pop(record.fd))
        elif record.kind == "E":
            file.flush(self._flushing.pop(record.fd))
        elif record.kind == "C":
            del self._open[record.fd]

    def _rename(self, name: str, new_name: str | None) -> None:
        file = self.seen[name]
        self._name(name, None)
        if new_name is not None:
            self._name(new_name, file)

    def _name(self, name: str, file: File | None) -> None:
        naming = Naming(self._count, name, file)
        _apply_naming(self.seen, naming)
        self._pending_names.append(naming)

    def _flush_names(self, up_to: int) -> None:
        done = [naming for naming in self._pending_names if naming.number <= up_to]
        self._pending_names = self._pending_names[len(done) :]
        for naming in done:
            _apply_naming(self._flushed_names, naming)


def _apply_naming(names: dict[str, File], naming: Naming) -> None:
    if naming.file is None:
        names.pop(naming.name, None)
    else:
        names[naming.name] = naming.file
