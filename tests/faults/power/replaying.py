"""Cutting the power at many points of a recording, and judging what each cut leaves."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.power.disk import Disk, File, Whim
from tests.faults.power.promises import Promises
from tests.faults.power.recording import Record
from tests.faults.power.stored import Stored, StoreReader
from tests.faults.power.workload import ACKS, DATABASE

JOURNAL = f"{DATABASE}-journal"
KEPT = (DATABASE, f"{DATABASE}-wal", JOURNAL, f"{DATABASE}.new", f"{DATABASE}.new-journal")
EXAMPLES = 5

Survivors = dict[str, tuple[File, bytearray]]
Inspect = Callable[[Path, Promises, Stored], list[str]]


@dataclass
class Figures:
    """What many cuts came to. `checked`: acknowledgements looked for, over all cuts; `worst`: lost in one cut."""

    cuts: int = 0
    checked: int = 0
    lost: int = 0  # cuts that lost something acknowledged
    corrupt: int = 0  # cuts that left a file which is damaged or contradicts itself
    inspected: int = 0
    examples: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def note(self, place: str, problems: Sequence[str], lost: Sequence[str], promised: int) -> None:
        self.cuts += 1
        self.checked += promised
        self.corrupt += bool(problems)
        self.lost += bool(lost)
        self.kinds.update(text.split(":")[0] for text in (*problems, *lost))
        if (problems or lost) and len(self.examples) < EXAMPLES:
            self.examples.append(f"{place}: {'; '.join([*problems, *lost])}")

    def add(self, other: Figures) -> None:
        self.cuts += other.cuts
        self.checked += other.checked
        self.lost += other.lost
        self.corrupt += other.corrupt
        self.inspected += other.inspected
        self.kinds.update(other.kinds)
        self.examples = (self.examples + other.examples)[:EXAMPLES]

    def __str__(self) -> str:
        return (
            f"{self.cuts} cuts, {self.checked} acknowledgements checked, {self.lost} cuts lost some, "
            f"{self.corrupt} corrupt, {self.inspected} restarted"
        )


def draw_whim(random: Random) -> Whim:
    """Draw how a cut treats what is unflushed: nothing, most or some of it survives, neatly or not."""
    return Whim(
        kept=random.choice((0.0, 1.0, 0.9, random.random())),
        torn=random.choice((0.0, 0.2, random.random())),
        size_off=random.choice((0.0, 0.0, 0.5)),
        in_order=random.random() < 0.3,
    )


@dataclass
class Site:
    """Where rebuilt files lie. A file that is as it was at the last cut is not written again."""

    folder: Path
    _written: dict[str, tuple[File, int]] = field(default_factory=dict)

    def rebuild(self, survivors: Survivors) -> Path:
        """Write what survived; return the database's path."""
        self.folder.mkdir(exist_ok=True)
        for name in (*KEPT, f"{DATABASE}-shm"):
            path = self.folder / name
            if name not in survivors:
                self._written.pop(name, None)
                path.unlink(missing_ok=True)
                continue
            file, image = survivors[name]
            if self._written.get(name) != (file, file.version) or file.pending:
                path.write_bytes(image)
            # What was not flushed may differ at the next cut, and a rollback journal will change the database.
            changes = file.pending or JOURNAL in survivors
            self._written[name] = (file, -1 if changes else file.version)
        return self.folder / DATABASE


@dataclass(frozen=True)
class Recording:
    """What a workload did, from what was on the disk and had been promised when it began."""

    records: Sequence[Record]
    base: Mapping[str, bytes] = field(default_factory=dict)
    promises: Promises = field(default_factory=Promises)

    def walk(self, places: Sequence[int]) -> Iterator[tuple[int, Disk, Promises]]:
        """Yield the disk and the promises at each place: so many records were done. Places rise, and may repeat."""
        disk, promises = Disk(self.base), deepcopy(self.promises)
        done = 0
        for place in places:
            while done < place:
                record = self.records[done]
                if disk.do(record) == ACKS and record.kind == "W":
                    promises.learn(record.data)
                done += 1
            yield place, disk, promises

    def find_first_promise(self) -> int:
        """Return the place just before the first acknowledgement."""
        disk = Disk(self.base)
        return next(n for n, record in enumerate(self.records) if disk.do(record) == ACKS and record.kind == "W")


def replay_cuts(
    recording: Recording, places: Sequence[int], seed: str, site: Site, inspect: Inspect, inspect_every: int = 200
) -> Figures:
    """Cut the power at each of these places and judge what is left.

    Each cut draws from a seed of its own, so that one can be done again by itself (`cut_once`). `inspect` looks
    at every n-th result more closely, in a folder of its own that it may change.
    """
    reader = StoreReader()
    figures = Figures()
    for place, disk, promises in recording.walk(places):
        drawn = f"{seed}/{figures.cuts}"
        survivors = _cut(disk, drawn)
        database = site.rebuild(survivors)
        stored = reader.read(database) if DATABASE in survivors else Stored()
        lost = [] if stored.problems else promises.list_lost(stored)
        problems = list(stored.problems)
        if figures.cuts % inspect_every == 0 and not problems and not lost:
            figures.inspected += 1
            problems += inspect(copy_files(site.folder), promises, stored)
        figures.note(f"record {place}, seed {drawn}", problems, lost, promises.count)
    return figures


def draw_places(recording: Recording, cuts: int, random: Random) -> list[int]:
    """Return so many places anywhere in the recording, in order."""
    return sorted(random.randrange(1, len(recording.records) + 1) for _ in range(cuts))


def cut_once(recording: Recording, place: int, seed: str) -> tuple[dict[str, bytes], Promises]:
    """Return what one cut leaves on the disk, and what was promised by then."""
    ((_, disk, promises),) = recording.walk([place])
    return {name: bytes(image) for name, (_, image) in _cut(disk, seed).items()}, promises


def _cut(disk: Disk, seed: str) -> Survivors:
    random = Random(seed)  # noqa: S311  # no secret
    return disk.cut(random, draw_whim(random), KEPT)


def copy_files(folder: Path) -> Path:
    """Copy rebuilt files beside themselves."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in KEPT:
        if (folder / name).exists():
            shutil.copyfile(folder / name, copy / name)
    return copy
