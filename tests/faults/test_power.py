"""Power cuts: what the store acknowledged survives whatever a disk may lose of what was not flushed.

A workload runs once under a recorder of its writes and flushes (power/recorder.c); then the power is cut at thousands
of places of that recording, each time with another choice of what survives of the unflushed, and SQLite reads the
result. The seed decides what the workload draws and every cut, but not how its tasks take turns: where a cut finds
something, recording and disk are kept in the test's folder, and `cut_once` does that cut again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from app.outbox.sqlite import file as opening
from app.outbox.sqlite.sidecars import ProcessLock
from tests.counts import read_count
from tests.faults.power.disk import Disk
from tests.faults.power.recording import Record, compile_recorder, record_workload
from tests.faults.power.replaying import Figures, Recording, Site, cut_once, draw_places, replay_cuts
from tests.faults.power.restarting import restart
from tests.faults.power.workload import DATABASE

EVENTS = 300
RAM_DISK = Path("/dev/shm")  # noqa: S108  # thousands of files a minute, each in a folder of the test's own

# (mode, pages of log after which SQLite checkpoints): often, as the store does, and with deletions.
LIVES = (("keep", 40), ("keep", 1_000), ("forget", 15))
CONTROLS = {
    "synchronous=NORMAL": ("NORMAL", "keep"),
    "synchronous=OFF": ("OFF", "keep"),
    "acknowledge first": ("FULL", "early"),
}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one."""
    root = RAM_DISK if os.access(RAM_DISK, os.W_OK) else tmp_path
    folder = Path(tempfile.mkdtemp(prefix="power-", dir=root))
    yield folder
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Laboratory:
    """Records workloads and cuts their power. `kept`: where the evidence goes if a cut finds something."""

    recorder: Path
    scratch: Path
    kept: Path

    def record(
        self, draw: Random, synchronous: str = "FULL", mode: str = "keep", checkpoint: int = 40, first: int = 0
    ) -> Recording:
        """Run a workload from nothing."""
        self.write("data", {})
        return Recording(self._run(draw, first, synchronous, checkpoint, mode))

    def record_after(self, before: Recording, draw: Random, mode: str, checkpoint: int, first: int) -> Recording:
        """Run a workload on what a cut in the second half of another has left."""
        place = draw.randrange(len(before.records) // 2, len(before.records))
        base, promises = cut_once(before, place, str(draw.random()))
        self.write("data", base)
        return Recording(self._run(draw, first, "FULL", checkpoint, mode), base, promises)

    def record_opening(self, base: dict[str, bytes]) -> Recording:
        """Run a short workload on an outbox that was never opened."""
        self.write("data", base)
        return Recording(self._run(Random(0), 0, "FULL", 40, "keep", events=20), base)  # noqa: S311  # no secret

    def cut(self, recording: Recording, cuts: int, draw: Random) -> Figures:
        """Cut the power at random places."""
        places = draw_places(recording, cuts, draw)
        every = min(200, cuts // 2)
        return replay_cuts(recording, places, str(draw.random()), Site(self.scratch / "site"), restart, every)

    def cut_opening(self, recording: Recording, seed: int) -> Figures:
        """Cut the power three times at every place before the first acknowledgement."""
        places = [place for place in range(recording.find_first_promise()) for _ in range(3)]
        return replay_cuts(recording, places, str(seed), Site(self.scratch / "site"), restart, inspect_every=6)

    def run_control(self, name: str, cuts: int, seed: int) -> Figures:
        synchronous, mode = CONTROLS[name]
        draw = Random(seed)  # noqa: S311  # no secret
        return self.cut(self.record(draw, synchronous, mode), cuts, draw)

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)

    def keep_evidence(self, recording: Recording) -> None:
        self.write("base", recording.base)
        shutil.copytree(self.scratch / "base", self.kept / "base")
        shutil.copy(self.scratch / "log", self.kept / "log")

    def _run(
        self, draw: Random, first: int, synchronous: str, checkpoint: int, mode: str, events: int = EVENTS
    ) -> list[Record]:
        arguments = (draw.randrange(2**32), first, events, synchronous, checkpoint, mode)
        return record_workload(self.recorder, self.scratch / "data", self.scratch / "log", *map(str, arguments))


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def laboratory(recorder: Path, tmp_path: Path, scratch: Path) -> Laboratory:
    return Laboratory(recorder, scratch, tmp_path)


def cut_many(laboratory: Laboratory, seed: int, lives: int, cuts: int) -> Figures:
    """Cut the power in `lives` workloads; every second one begins with what a cut of the one before has left.

    Ends with the first life in which a cut found something.
    """
    draw = Random(seed)  # noqa: S311  # no secret
    total = Figures()
    recording = Recording(())
    for life in range(lives):
        mode, checkpoint = LIVES[life % len(LIVES)]
        if life % 2:
            recording = laboratory.record_after(recording, draw, mode, checkpoint, first=EVENTS)
        else:
            recording = laboratory.record(draw, mode=mode, checkpoint=checkpoint)
        total.add(laboratory.cut(recording, cuts, draw))
        if total.lost or total.corrupt:
            laboratory.keep_evidence(recording)
            break
    return total


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_and_nothing_corrupt_after_600_power_cuts(
    laboratory: Laboratory, seed: int
) -> None:
    began = time.monotonic()
    total = cut_many(laboratory, seed, lives=3, cuts=200)
    print(f"figures: power: seed {seed}, {total}, {time.monotonic() - began:.0f} s")  # noqa: T201  # quoted by bench/long-runs.md
    assert (total.lost, total.corrupt) == (0, 0), total.examples
    assert total.cuts == 600
    assert total.inspected == 6


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_nothing_acknowledged_is_lost_and_nothing_corrupt_after_100000_power_cuts(
    laboratory: Laboratory, seed: int
) -> None:
    began = time.monotonic()
    cuts = read_count(100_000) // 10
    total = cut_many(laboratory, seed, lives=10, cuts=cuts)
    seconds = time.monotonic() - began
    controls = {name: laboratory.run_control(name, 1_000, seed) for name in CONTROLS}
    known_bad = "; ".join(f"control {name}: {figures}" for name, figures in controls.items())
    print(f"figures: power: seed {seed}, {total}, {seconds:.0f} s; {known_bad}")  # noqa: T201  # as above
    assert (total.lost, total.corrupt) == (0, 0), total.examples
    assert total.cuts == 10 * cuts
    assert all(figures.lost for figures in controls.values())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("control", CONTROLS)
def test_the_cuts_notice_a_store_that_promises_too_soon(control: str, laboratory: Laboratory, seed: int) -> None:
    """The known-bad controls of the tests above."""
    figures = laboratory.run_control(control, 300, seed)
    print(f"figures: power, control {control}: seed {seed}, {figures}, {dict(figures.kinds)}")  # noqa: T201  # as above
    assert figures.lost > 20
    assert (figures.corrupt > 20) == (control == "synchronous=OFF"), figures.examples


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["keep", "forget"])
def test_a_recording_replayed_without_a_cut_ends_with_the_real_files(
    mode: str, laboratory: Laboratory, seed: int
) -> None:
    """Else the recorder would have missed a write, and a missing write cannot be lost."""
    recording = laboratory.record(Random(seed), mode=mode)  # noqa: S311  # no secret
    disk = Disk()
    for record in recording.records:
        disk.do(record)
    real = {path.name: path.read_bytes() for path in (laboratory.scratch / "data").iterdir()}
    replayed = {name: file.read_whole() for name, file in disk.seen.items()}
    del real[f"{DATABASE}-shm"], replayed[f"{DATABASE}-shm"]  # mapped into memory, and built anew at each start
    assert {name for name in {*real, *replayed} if real.get(name) != replayed.get(name)} == set()
    assert {DATABASE, f"{DATABASE}-wal"} <= {*real}


@pytest.fixture
def restored(laboratory: Laboratory) -> dict[str, bytes]:
    """A copy of an outbox as a backup makes it: not in WAL mode."""
    with closing(ProcessLock(laboratory.scratch / DATABASE)) as lock:
        opening.open_writing(laboratory.scratch / DATABASE, lock).close()
    db = sqlite3.connect(laboratory.scratch / DATABASE, isolation_level=None)
    db.execute("VACUUM INTO ?", (str(laboratory.scratch / "copy.db"),))
    db.close()
    return {DATABASE: (laboratory.scratch / "copy.db").read_bytes()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("start", ["the first", "of a backup"])
def test_a_power_cut_in_the_middle_of_a_start_leaves_what_the_next_start_opens(
    start: str, laboratory: Laboratory, restored: dict[str, bytes], seed: int
) -> None:
    figures = laboratory.cut_opening(laboratory.record_opening({} if start == "the first" else restored), seed)
    print(f"figures: power, start {start}: seed {seed}, {figures}")  # noqa: T201  # as above
    assert (figures.lost, figures.corrupt) == (0, 0), figures.examples
    assert figures.inspected > 20


@pytest.mark.timeout(300)
def test_the_cuts_notice_a_start_that_cannot_undo_the_one_before(
    laboratory: Laboratory, restored: dict[str, bytes], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control of the test above."""
    monkeypatch.setattr(opening, "_roll_back", lambda _: None)
    assert laboratory.cut_opening(laboratory.record_opening(restored), seed).corrupt
