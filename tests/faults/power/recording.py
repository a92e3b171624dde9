"""Running a workload under the recorder, and reading what it recorded."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.compiling import compile_shim

FLUSH_US = 250  # about an NVMe disk; long enough that concurrent writes share a commit
_HEADER = struct.Struct("<ciqI")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that was done: (O)pen, (C)lose, (W)rite, (T)runcate, flush (B)egun, (E)nded or (F)ailed, (U)nlink,
    (R)ename. `offset`: of a write; the size of a truncation; 1 for an opening that emptied the file.
    """

    kind: str
    fd: int
    offset: int
    data: bytes


def compile_recorder(folder: Path) -> Path:
    """Compile recorder.c into `folder` and return the library."""
    return compile_shim(_HERE / "recorder.c", folder)


def record_workload(library: Path, folder: Path, log: Path, *arguments: str) -> list[Record]:
    """Run the workload on the outbox in `folder` until its end and return everything that it did there."""
    log.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWER_FOLDER": str(folder.resolve()),
        "POWER_LOG": str(log),
        "POWER_FLUSH_US": str(FLUSH_US),
    }
    command = [sys.executable, "-m", "tests.faults.power.workload", str(folder.resolve()), *arguments]
    subprocess.run(command, check=True, env=environment, cwd=_HERE.parents[2], timeout=300)
    return list(read_log(log))


def read_log(log: Path) -> Iterator[Record]:
    """Yield the records of a log in order."""
    data = log.read_bytes()
    at = 0
    while at < len(data):
        kind, fd, offset, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        yield Record(kind.decode(), fd, offset, data[at : at + length])
        at += length
