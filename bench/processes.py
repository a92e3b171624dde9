"""Starting a process on one core, asking Linux what it uses, and ending it by its id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
LOOK_EVERY_S = 0.002
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


class BenchError(Exception):
    """Why there can be no figures."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the subject runs, and where the load generator and the fake provider do."""

    subject: int | None  # None: any
    peers: int | None


def choose_cores() -> Cores:
    """Return the first two cores that we may use; the same one twice where there is no second."""
    cores = sorted(os.sched_getaffinity(0))
    return Cores(cores[0], cores[min(1, len(cores) - 1)])


@dataclass(frozen=True, slots=True)
class Started:
    """A process that answers on `port`; `ready_s` is how long it took to."""

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def run_process(
    command: Sequence[str],
    port: int,
    core: int | None,
    folder: Path,
    environment: Mapping[str, str],
    health: str = "/healthz",
) -> Iterator[Started]:
    """Run a server until the block ends. Raises BenchError if it does not answer 200 on `health` in time."""
    log = folder / f"{port}.log"
    with log.open("wb") as output, _on_core(core):
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, port, health, log, Path(command[0]).name)
        yield Started(process, port, time.monotonic() - began)
    finally:
        _stop(process)


def stay_on(core: int | None) -> None:
    """Run on this core alone from now on; None: on any that we may use."""
    os.sched_setaffinity(0, _ALLOWED if core is None else {core})


@contextlib.contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Let children born in this block inherit the core, every thread of theirs included."""
    before = os.sched_getaffinity(0)
    stay_on(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, health: str, log: Path, name: str) -> None:
    began = time.monotonic()
    while not _answers(port, health):
        if process.poll() is not None or time.monotonic() - began > START_LIMIT_S:
            told = log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{name} did not start (exit code {process.poll()}):\n{told}")
        time.sleep(LOOK_EVERY_S)


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes) that a process and its children hold, and the most they ever held."""

    resident_mb: float
    peak_mb: float


def read_memory(pid: int) -> Memory:
    """Return VmRSS and VmHWM, added up over the children."""
    texts = [Path(f"/proc/{each}/status").read_text() for each in _family(pid)]
    return Memory(*(sum(_read_kib(text, name) for text in texts) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")))


def read_cpu_s(pid: int) -> float:
    """Return the seconds of processor time used so far, user and system, children included."""
    ticks = 0
    for each in _family(pid):
        # The name in parentheses may hold blanks; utime, stime and those of children waited for are 14 to 17.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Written:
    """Of each event: KB that were sent to a disk, and write calls of any kind, those to sockets included."""

    kb: float = 0.0
    calls: float = 0.0

    def since(self, before: Written, events: int) -> Written:
        """Return what came after `before`, an event."""
        return Written((self.kb - before.kb) / events, (self.calls - before.calls) / events)


def read_written(pid: int) -> Written:
    """Return what a process and its children have written so far."""
    texts = [Path(f"/proc/{each}/io").read_text() for each in _family(pid)]
    counts = [dict(line.split(": ") for line in text.splitlines()) for text in texts]
    return Written(sum(int(one["write_bytes"]) for one in counts) / 1000, sum(int(one["syscw"]) for one in counts))


def _family(pid: int) -> list[int]:
    found = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in tasks.read_text().split():
            found += _family(int(child))
    return found


def _read_kib(status: str, name: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
