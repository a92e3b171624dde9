"""PostgreSQL beside SQLite in one run: `python -m bench.replicas` writes bench/replicas.md.

- the outbox on SQLite, on a PostgreSQL beside it, and on one that is 1 ms away
- two replicas at one PostgreSQL beside one replica, and what each part takes of the processors: all on these cores;
  each replica 1 ms away; each held to a part of a core, as on a small machine of its own

The server is the tests' own (fsync on). Needs PostgreSQL on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import psycopg
import uvloop

from bench.events import build_events
from bench.figures import summarise
from bench.load import Load, send_closed
from bench.machine import describe_machine
from bench.processes import BenchError, Cores, Started, choose_cores, free_port, read_cpu_s
from bench.run import say
from bench.scenarios import WARM_UP, Bench, _judge, _wait_delivered, _warm_up, measure_latency, measure_throughput
from bench.subjects import BENCH, RELAY, FakeProvider, Subject, run_provider, run_subject
from tests.outbox.postgres_server import Server, run_server

_schemas = count(1)


HELD_TO = 0.25  # of a core
_PERIOD_S = 0.008
PARTS = ("the replicas", "the server", "the load and the provider", "the network")


@dataclass(frozen=True, slots=True)
class Shared:
    """Replicas at one server: delivered in all, and what each of PARTS took of the processors' time, 1 is all."""

    per_s: float
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Way:
    """Where the replicas stand."""

    name: str
    is_far: bool = False
    is_held: bool = False


WAYS = (
    Way("all on these cores"),
    Way("each replica 1 ms from the server", is_far=True),
    Way(f"each replica held to {HELD_TO} of a core", is_held=True),
)


def name_subject(name: str, url: str) -> Subject:
    """Return the relay on a schema of its own."""
    return replace(RELAY, name=name, environment={"RELAY_DATABASE_URL": f"{url}?schema=bench_{next(_schemas)}"})


@contextlib.contextmanager
def run_distance(server: Server) -> Iterator[tuple[str, int]]:
    """Yield the server's URL from 1 ms away, and the id of the process that is the network."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.distance", str(port), str(server.port)], cwd=BENCH.parent)
    try:
        url = server.url.replace(f":{server.port}/", f":{port}/")
        for _ in range(200):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(url).close()
                break
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def hold_back(pid: int) -> Iterator[None]:
    """Let a process run for a part of the time only, a few ms at once, until the block ends."""
    ended = threading.Event()

    def hold() -> None:
        while not ended.wait(_PERIOD_S * HELD_TO):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(_PERIOD_S * (1 - HELD_TO))
            os.kill(pid, signal.SIGCONT)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join()


def measure_shared(bench: Bench, server: Server, replicas: int, way: Way) -> Shared:
    """Post to so many replicas as fast as 50 connections each are answered."""
    free = replace(bench, cores=Cores(None, None))
    schema = name_subject("shared", "").environment["RELAY_DATABASE_URL"]
    with contextlib.ExitStack() as opened:
        provider: FakeProvider = opened.enter_context(run_provider(bench.folder, free.cores))
        started: list[Started] = []
        networks: list[int] = []
        for number in range(replicas):
            folder = bench.folder / f"replica-{number}"
            folder.mkdir(exist_ok=True)
            url = server.url
            if way.is_far:
                url, network = opened.enter_context(run_distance(server))
                networks.append(network)
            subject = Subject("shared", RELAY.command, {"RELAY_DATABASE_URL": url + schema})
            started.append(opened.enter_context(run_subject(subject, provider.url, folder, free.cores)))
        _warm_up(provider, started[0])
        if way.is_held:
            for each in started:
                opened.enter_context(hold_back(each.process.pid))
        share = bench.events // replicas
        events = [list(build_events(WARM_UP + number * share, share)) for number in range(replicas)]
        pids = [each.process.pid for each in started]

        def read_all() -> Sequence[float]:
            ours, theirs = sum(map(read_cpu_s, pids)), read_server_cpu_s(server)
            return ours, theirs, time.process_time() + read_cpu_s(provider.pid), sum(map(read_cpu_s, networks))

        before = read_all()
        loads = uvloop.run(_post_all([each.port for each in started], events))
        figures = _wait_delivered(provider, WARM_UP + sum(load.accepted for load in loads))
        after = read_all()
        for load in loads:
            _judge(load, figures)
        took_s = figures["last_at"] - min(load.started_at for load in loads)
        cores = len(os.sched_getaffinity(0))
        shares = [(now - was) / took_s / cores for now, was in zip(after, before, strict=True)]
        return Shared(sum(load.accepted for load in loads) / took_s, shares)


async def _post_all(ports: Sequence[int], events: Sequence[Sequence[bytes]]) -> list[Load]:
    posting = [send_closed(port, own) for port, own in zip(ports, events, strict=True)]
    return list(await asyncio.gather(*posting))


def read_server_cpu_s(server: Server) -> float:
    """Return the processor time of a server with all its children, those that ended included."""
    return 0.0 if server.process is None else read_cpu_s(server.process.pid)


def measure_all(bench: Bench, rounds: int) -> Mapping[str, list[str]]:
    """Return the page's rows by part."""
    rows: dict[str, list[str]] = {"throughput": [], "100/s": [], "replicas": []}
    with run_server() as server, run_distance(server) as (far, _):
        places = {"SQLite": "", "PostgreSQL": server.url, "PostgreSQL, 1 ms away": far}
        for name, url in places.items():
            subjects = [name_subject(name, url) if url else RELAY for _ in range(rounds)]
            say(f"{name}: as fast as it goes")
            fast = [measure_throughput(bench, each) for each in subjects]
            per_s = summarise([one.per_s for one in fast]).show(0)
            cpu = summarise([one.cpu_us for one in fast]).show(0)
            lost = sum(one.delivered.lost + one.delivered.twice for one in fast)
            rows["throughput"].append(f"| {name} | {per_s} | {cpu} | {lost} |")
            say(f"{name}: 100/s")
            subjects = [name_subject(name, url) if url else RELAY for _ in range(rounds)]
            slow = [measure_latency(bench, each) for each in subjects]
            p50 = summarise([one.accept_p50_ms for one in slow]).show(2)
            p99 = summarise([one.accept_p99_ms for one in slow]).show(2)
            rows["100/s"].append(f"| {name} | {p50} | {p99} |")
        for way in WAYS:
            ones, twos = [], []
            for number in range(rounds):
                say(f"replicas, {way.name}: round {number + 1} of {rounds}")
                ones.append(measure_shared(bench, server, 1, way))
                twos.append(measure_shared(bench, server, 2, way))
            ratio = summarise([two.per_s / one.per_s for one, two in zip(ones, twos, strict=True)]).show(2)
            for name, found in (("one", ones), ("two", twos)):
                per_s = summarise([each.per_s for each in found]).show(0)
                shares = [summarise([each.shares[part] * 100 for each in found]).show(0) for part in range(len(PARTS))]
                row = [way.name, name, per_s, *shares, ratio if name == "two" else "1"]
                rows["replicas"].append(f"| {' | '.join(row)} |")
    return rows


def write_page(facts: Mapping[str, str], rows: Mapping[str, list[str]]) -> str:
    """Return the page as Markdown."""
    heads = {
        "throughput": (
            "As fast as 50 connections are answered",
            "| outbox | delivered/s | relay's CPU µs an event | lost or twice |",
        ),
        "100/s": ("100 events a second, a provider that takes 50 ms", "| outbox | accept p50 ms | accept p99 ms |"),
        "replicas": (
            "Replicas at one server, and what each part takes of both cores, %",
            f"| where | replicas | delivered/s | {' | '.join(PARTS)} | ÷ one |",
        ),
    }
    lines = ["# PostgreSQL beside SQLite", "", "Written by `python -m bench.replicas`; see [README.md](README.md).", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    for part, (title, head) in heads.items():
        lines += ["", f"## {title}", "", head, "|" + "---|" * (head.count("|") - 1), *rows[part]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replicas", description="Measure PostgreSQL beside SQLite.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix) / "bench-tmp", help="a folder on a real disk")
    parser.add_argument("--output", type=Path, default=BENCH / "replicas.md")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.folder, choose_cores(), asked.events, asked.seconds, queued=0)
    try:
        rows = measure_all(bench, asked.rounds)
    except BenchError as error:
        raise SystemExit(str(error)) from None
    facts = describe_machine(asked.folder)
    asked.output.write_text(write_page(facts, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
