"""`make bench`: this relay and the naive one side by side.

Writes bench/results.md and prints it; exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bench.machine import VOLATILE, describe_machine, read_file_system
from bench.processes import BenchError, choose_cores, stay_on
from bench.report import Rounds, judge_goals, write_report
from bench.scenarios import (
    Bench,
    measure_ceiling,
    measure_cold_start,
    measure_idle,
    measure_latency,
    measure_queued,
    measure_throughput,
    shorten,
)
from bench.subjects import BENCH, NAIVE, RELAY, Subject

SCENARIOS = ("throughput", "latency", "idle", "queued", "start")
T = TypeVar("T")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure this relay beside a naive one.")
    parser.add_argument("--quick", action="store_true", help="two rounds and smaller ones; results.md is left alone")
    parser.add_argument(
        "--only", choices=SCENARIOS, action="append", help="only this scenario; results.md is left alone"
    )
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix) / "bench-tmp", help="a folder on a real disk")
    parser.add_argument("--output", type=Path, help="where to write the page")
    return parser.parse_args()


def run_all(bench: Bench, wanted: list[str], *, quick: bool) -> tuple[Rounds, Rounds]:
    """Return the relay's and the naive one's rounds, always one beside the other."""
    relay, naive = Rounds(), Rounds()
    rounds = 2 if quick else 5
    if "start" in wanted:
        naive.start_s, relay.start_s = _measure_starts(bench, 3 if quick else 9)
    if "idle" in wanted:
        naive.idle, relay.idle = _alternate("idle", 2 if quick else 3, lambda subject: measure_idle(bench, subject))
    if "throughput" in wanted:
        both = _alternate("throughput", rounds, lambda subject: measure_throughput(bench, subject))
        naive.throughput, relay.throughput = both
    if "latency" in wanted:
        naive.latency, relay.latency = _alternate("latency", rounds, lambda subject: measure_latency(bench, subject))
    if "queued" in wanted:
        say(f"queued: posting {bench.queued:,} events while the provider refuses")
        relay.queued = measure_queued(bench, RELAY)
    return relay, naive


def _measure_starts(bench: Bench, rounds: int) -> tuple[list[float], list[float]]:
    """One start of each first, unmeasured: byte code and the outbox's file are there on any later start."""
    with TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        for subject in (NAIVE, RELAY):
            measure_cold_start(bench, subject, folder)
        return _alternate("start", rounds, lambda subject: measure_cold_start(bench, subject, folder))


def _alternate(name: str, rounds: int, measure: Callable[[Subject], T]) -> tuple[list[T], list[T]]:
    """Return the naive one's figures and the relay's, taken in turns: a machine's mood changes within minutes."""
    naive: list[T] = []
    relay: list[T] = []
    for number in range(1, rounds + 1):
        say(f"{name}: round {number} of {rounds}")
        naive.append(measure(NAIVE))
        relay.append(measure(RELAY))
    return naive, relay


def say(line: str) -> None:
    """Tell whoever waits what is being measured."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def run_bench(given: argparse.Namespace) -> int:
    """Return the exit code."""
    if sys.platform != "linux":
        raise BenchError("the bench reads /proc and pins processes to cores, so it needs Linux")
    given.folder.mkdir(parents=True, exist_ok=True)
    if (file_system := read_file_system(given.folder)) in VOLATILE:
        raise BenchError(f"--folder is on {file_system}, where fsync does nothing; name a folder on a real disk")
    cores = choose_cores()
    facts = describe_machine(given.folder)
    stay_on(cores.peers)
    bench = Bench(given.folder, cores, events=3000, seconds=10, queued=100_000)
    bench = shorten(bench) if given.quick else bench
    ceiling = measure_ceiling(bench)
    relay, naive = run_all(bench, given.only or list(SCENARIOS), quick=given.quick)
    page = write_report(facts, ceiling, relay, naive)
    print(page)
    output = given.output or (None if given.quick or given.only else BENCH / "results.md")
    if output is not None:
        output.write_text(page, encoding="utf-8")
    return 0 if all(goal.met for goal in judge_goals(relay, naive)) else 1


def main() -> None:
    try:
        sys.exit(run_bench(read_arguments()))
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
