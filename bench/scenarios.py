"""What is measured, one function a scenario: each starts what it needs anew and returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from bench.events import build_events, build_message, build_receipts, name_in_order, phone_of
from bench.figures import percentile
from bench.load import Load, send_closed, send_open
from bench.processes import BenchError, Cores, Memory, Started, Written, read_cpu_s, read_memory, read_written
from bench.subjects import FakeProvider, Subject, run_provider, run_subject

UNKNOWN = Written()
WARM_UP = 300
RATE_PER_S = 100.0
PROVIDER_DELAY_MS = 50
IDLE_S = 3.0
STALLED_S = 20.0  # so long without one more delivery: the rest will not come
SETTLE_S = 0.3  # time for a second send, if there is one, to show, and for the last outcome to be recorded


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things run and how long."""

    folder: Path
    cores: Cores
    events: int
    seconds: int
    queued: int
    tls: bool = False  # to the provider
    name_id: Callable[[int], str] = name_in_order  # of an event


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the accepted events; `lost` and `twice` must be 0."""

    lost: int
    twice: int
    not_accepted: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """`per_s`: accepted and delivered, from the first event to the last delivery. Times in ms and µs."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    memory: Memory
    delivered: Delivered
    written: Written = UNKNOWN


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the instant an event was due: to its answer, and to its arrival at the provider."""

    accept_p50_ms: float
    accept_p99_ms: float
    arrival_p50_ms: float
    arrival_p99_ms: float
    cpu_us: float
    delivered: Delivered
    written: Written = UNKNOWN


@dataclass(frozen=True, slots=True)
class Idle:
    """After 3 s without work; `cpu_ms_per_s` over the last two of them."""

    memory: Memory
    cpu_ms_per_s: float


@dataclass(frozen=True, slots=True)
class Queued:
    """With the provider answering 503: how many wait, how fast they came in, what they hold."""

    accepted: int
    accepted_per_s: float
    memory: Memory
    requests: int


@contextmanager
def _new_folder(bench: Bench) -> Iterator[Path]:
    with TemporaryDirectory(dir=bench.folder) as name:
        yield Path(name)


def measure_ceiling(bench: Bench) -> float:
    """Return how many events/s the load generator and the fake provider manage with no relay between them."""
    with _new_folder(bench) as folder, run_provider(folder, bench.cores) as provider:
        count = 10_000
        load = uvloop.run(send_closed(provider.port, map(build_message, range(count))))
        return count / (time.monotonic() - load.started_at)


def measure_throughput(bench: Bench, subject: Subject) -> Throughput:
    """Post as fast as 50 connections are answered."""
    with _pair(bench, subject) as (provider, started):
        _warm_up(provider, started)
        pid = started.process.pid
        cpu_before, before = read_cpu_s(pid), read_written(pid)
        load = uvloop.run(send_closed(started.port, build_events(WARM_UP, bench.events, bench.name_id)))
        figures = _wait_delivered(provider, WARM_UP + load.accepted)
        cpu_s = read_cpu_s(pid) - cpu_before
        return Throughput(
            per_s=load.accepted / (figures["last_at"] - load.started_at),
            cpu_us=cpu_s / bench.events * 1e6,
            p50_ms=percentile(load.waited_s, 0.5) * 1000,
            p99_ms=percentile(load.waited_s, 0.99) * 1000,
            memory=read_memory(pid),
            delivered=_judge(load, figures),
            written=read_written(pid).since(before, bench.events),
        )


def measure_receipts(bench: Bench, subject: Subject) -> Throughput:
    """Deliver, then post three receipts of each message as fast as 50 connections are answered."""
    with _pair(bench, subject) as (provider, started):
        _warm_up(provider, started)
        uvloop.run(send_closed(started.port, build_events(WARM_UP, bench.events)))
        figures = _wait_delivered(provider, WARM_UP + bench.events)
        receipts, pid = build_receipts(provider.list_messages()), started.process.pid
        cpu_before, before = read_cpu_s(pid), read_written(pid)
        load = uvloop.run(send_closed(started.port, receipts))
        took_s = time.monotonic() - load.started_at
        return Throughput(
            per_s=load.accepted / took_s,
            cpu_us=(read_cpu_s(pid) - cpu_before) / len(receipts) * 1e6,
            p50_ms=percentile(load.waited_s, 0.5) * 1000,
            p99_ms=percentile(load.waited_s, 0.99) * 1000,
            memory=read_memory(pid),
            delivered=Delivered(0, figures["twice"], len(receipts) - load.accepted),
            written=read_written(pid).since(before, len(receipts)),
        )


def measure_latency(bench: Bench, subject: Subject) -> Latency:
    """Post 100 events a second, whatever the answers, with a provider that takes 50 ms."""
    with _pair(bench, subject, delay_ms=PROVIDER_DELAY_MS) as (provider, started):
        _warm_up(provider, started)
        pid, count = started.process.pid, int(RATE_PER_S) * bench.seconds
        cpu_before, before = read_cpu_s(pid), read_written(pid)
        load = uvloop.run(send_open(started.port, list(build_events(WARM_UP, count)), RATE_PER_S))
        figures = _wait_delivered(provider, WARM_UP + load.accepted)
        cpu_s = read_cpu_s(pid) - cpu_before
        delays = _list_delays(load, provider.arrivals())
        return Latency(
            accept_p50_ms=percentile(load.waited_s, 0.5) * 1000,
            accept_p99_ms=percentile(load.waited_s, 0.99) * 1000,
            arrival_p50_ms=percentile(delays, 0.5) * 1000,
            arrival_p99_ms=percentile(delays, 0.99) * 1000,
            cpu_us=cpu_s / count * 1e6,
            delivered=_judge(load, figures),
            written=read_written(pid).since(before, count),
        )


def measure_idle(bench: Bench, subject: Subject) -> Idle:
    """Start, wait 3 s, look."""
    with _pair(bench, subject) as (_, started):
        pid = started.process.pid
        time.sleep(IDLE_S / 3)
        cpu_before = read_cpu_s(pid)
        time.sleep(IDLE_S * 2 / 3)
        return Idle(read_memory(pid), (read_cpu_s(pid) - cpu_before) / (IDLE_S * 2 / 3) * 1000)


def measure_queued(bench: Bench, subject: Subject) -> Queued:
    """Post while the provider answers every message with 503."""
    with _pair(bench, subject, mode="refuse") as (provider, started):
        load = uvloop.run(send_closed(started.port, build_events(0, bench.queued)))
        took_s = time.monotonic() - load.started_at
        time.sleep(IDLE_S)
        memory = read_memory(started.process.pid)
        return Queued(load.accepted, load.accepted / took_s, memory, provider.count()["requests"])


def measure_cold_start(bench: Bench, subject: Subject, folder: Path) -> float:
    """Return the seconds from the start of the process to its first 200 on /healthz; `folder` is used again."""
    with run_subject(
        subject, "http://127.0.0.1:9", folder, bench.cores
    ) as started:  # nothing is sent, so no provider is needed
        return started.ready_s


@contextmanager
def _pair(
    bench: Bench, subject: Subject, delay_ms: int = 0, mode: str = "accept"
) -> Iterator[tuple[FakeProvider, Started]]:
    with (
        _new_folder(bench) as folder,
        run_provider(folder, bench.cores, delay_ms=delay_ms, mode=mode, tls=bench.tls) as provider,
        run_subject(subject, provider.url, folder, bench.cores, tls=bench.tls) as started,
    ):
        yield provider, started


def _warm_up(provider: FakeProvider, started: Started) -> None:
    load = uvloop.run(send_closed(started.port, build_events(0, WARM_UP)))
    if load.accepted < WARM_UP:
        raise BenchError(f"the warm-up was answered with {dict(load.statuses)} instead of 2xx")
    _wait_delivered(provider, WARM_UP)


def _wait_delivered(provider: FakeProvider, wanted: int) -> Mapping[str, Any]:
    """Return the provider's figures once it has all, or once nothing more comes."""
    figures, moved_at = provider.count(), time.monotonic()
    while figures["recipients"] < wanted and time.monotonic() - moved_at < STALLED_S:
        time.sleep(0.05)
        before, figures = figures, provider.count()
        if figures["recipients"] > before["recipients"]:
            moved_at = time.monotonic()
    time.sleep(SETTLE_S)
    return provider.count()


def _judge(load: Load, figures: Mapping[str, Any]) -> Delivered:
    return Delivered(
        lost=max(WARM_UP + load.accepted - figures["recipients"], 0),
        twice=figures["twice"],
        not_accepted=len(load.waited_s) - load.accepted,
    )


def _list_delays(load: Load, arrivals: Mapping[str, float]) -> list[float]:
    pairs = ((due_at, arrivals.get(phone_of(WARM_UP + number))) for number, due_at in load.sent_at.items())
    return [arrived_at - due_at for due_at, arrived_at in pairs if arrived_at is not None]


def shorten(bench: Bench) -> Bench:
    """Return the bench of --quick."""
    return replace(bench, events=1500, seconds=5, queued=20_000)
