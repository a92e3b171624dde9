"""What the figures were taken on: the machine, its disk, the versions, the commit."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from bench.figures import percentile
from bench.subjects import BENCH

PACKAGES = ("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools", "httpx2", "httpcore2")
# Their fsync writes nothing that outlives the machine, so figures from them say nothing.
VOLATILE = frozenset({"tmpfs", "ramfs"})
PROBES = 300


def describe_machine(folder: Path) -> dict[str, str]:
    """Return facts by their names, in the order to show them."""
    return {
        "commit": _read_commit(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "processor": f"{_read_processor()}, {os.cpu_count()} cores, {len(os.sched_getaffinity(0))} of them ours",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "disk": f"{read_file_system(folder)}; {_probe_disk(folder)}",
        "load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def read_file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, such as ext4."""
    best, found = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        mount = Path(fields[4])
        if folder.resolve().is_relative_to(mount) and len(mount.parts) >= best:
            best, found = len(mount.parts), fields[fields.index("-") + 1]
    return found


def _probe_disk(folder: Path) -> str:
    """Return what a small durable write costs here: it bounds what any durable relay can do."""
    took = []
    path = folder / "probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(PROBES):
            began = time.monotonic()
            file.write(b"\0" * 4096)
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    path.unlink()
    return (
        f"4 KiB write + fdatasync p50 {percentile(took, 0.5) * 1000:.2f} ms, p99 {percentile(took, 0.99) * 1000:.2f} ms"
    )


def _read_processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _read_commit() -> str:
    try:
        commit = _ask_git("rev-parse", "--short", "HEAD")
        changed = _ask_git("status", "--porcelain", "--", "app")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with uncommitted changes" if changed else commit


def _ask_git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=BENCH, capture_output=True, text=True, check=True)
    return done.stdout.strip()
