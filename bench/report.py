"""The figures as a page: a table with medians and spreads, and whether each goal is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.figures import compare, summarise
from bench.scenarios import Idle, Latency, Queued, Throughput

GOAL_QUEUED = 100_000
LEAST_SPEED, P99_LIMIT_MS, IDLE_LIMIT_MB, QUEUED_LIMIT_MB, START_LIMIT_RATIO = 3.2, 5, 75, 110, 1.15


@dataclass(slots=True)
class Rounds:
    """The rounds of one subject."""

    throughput: list[Throughput] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    queued: Queued | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of the project and whether it is met."""

    text: str
    met: bool


Row = tuple[str, Callable[[Any], float], int]
_THROUGHPUT: Sequence[Row] = (
    ("delivered/s, 50 connections, provider 0 ms", lambda figures: figures.per_s, 0),
    ("processor µs an event, same run", lambda figures: figures.cpu_us, 0),
    ("accept p50 ms, same run (saturated)", lambda figures: figures.p50_ms, 1),
    ("accept p99 ms, same run (saturated)", lambda figures: figures.p99_ms, 1),
    ("RSS after it, MB", lambda figures: figures.memory.resident_mb, 1),
)
_LATENCY: Sequence[Row] = (
    ("accept p50 ms, 100/s, provider 50 ms", lambda figures: figures.accept_p50_ms, 2),
    ("accept p99 ms, same run", lambda figures: figures.accept_p99_ms, 2),
    ("event to provider p50 ms, same run", lambda figures: figures.arrival_p50_ms, 2),
    ("event to provider p99 ms, same run", lambda figures: figures.arrival_p99_ms, 2),
    ("processor µs an event, same run", lambda figures: figures.cpu_us, 0),
)
_IDLE: Sequence[Row] = (
    ("RSS idle, MB", lambda figures: figures.memory.resident_mb, 1),
    ("processor ms a second, idle", lambda figures: figures.cpu_ms_per_s, 1),
)
_START: Sequence[Row] = (("cold start, s", float, 3),)


def judge_goals(relay: Rounds, naive: Rounds) -> list[Goal]:
    """Return the goals whose scenario was run."""
    return [*_judge_speed(relay, naive), *_judge_memory(relay), *_judge_start(relay, naive), *_judge_loss(relay)]


def _judge_speed(relay: Rounds, naive: Rounds) -> Iterator[Goal]:
    if relay.throughput:
        ratio = compare([each.per_s for each in relay.throughput], [each.per_s for each in naive.throughput])
        text = f"at least {LEAST_SPEED} times as fast as the naive relay end to end: {ratio.show(2)} times"
        yield Goal(text, ratio.median >= LEAST_SPEED)
    if relay.latency:
        p99 = summarise([each.accept_p99_ms for each in relay.latency])
        text = f"accept p99 at 100/s at most {P99_LIMIT_MS} ms: {p99.show(2)} ms"
        yield Goal(text, p99.median <= P99_LIMIT_MS)


def _judge_memory(relay: Rounds) -> Iterator[Goal]:
    if relay.idle:
        idle = summarise([each.memory.resident_mb for each in relay.idle])
        yield Goal(f"RSS idle at most {IDLE_LIMIT_MB} MB: {idle.show(1)} MB", idle.median <= IDLE_LIMIT_MB)
    if relay.queued is not None and relay.queued.accepted >= GOAL_QUEUED:
        memory = relay.queued.memory
        held = f"{memory.resident_mb:.1f} MB, at most {memory.peak_mb:.1f} MB on the way"
        text = f"RSS with {GOAL_QUEUED:,} queued at most {QUEUED_LIMIT_MB} MB: {held}"
        yield Goal(text, memory.resident_mb <= QUEUED_LIMIT_MB)


def _judge_start(relay: Rounds, naive: Rounds) -> Iterator[Goal]:
    if relay.start_s:
        ratio = compare(relay.start_s, naive.start_s)
        text = f"cold start at most {START_LIMIT_RATIO} times the naive relay's: {ratio.show(2)} times"
        yield Goal(text, ratio.median <= START_LIMIT_RATIO)


def _judge_loss(relay: Rounds) -> Iterator[Goal]:
    rounds = [*(each.delivered for each in relay.throughput), *(each.delivered for each in relay.latency)]
    if rounds:
        lost, twice = sum(each.lost for each in rounds), sum(each.twice for each in rounds)
        yield Goal(
            f"nothing lost, nothing sent twice: {lost} lost, {twice} twice in {len(rounds)} rounds", lost == twice == 0
        )


def write_report(facts: Mapping[str, str], ceiling: float, relay: Rounds, naive: Rounds) -> str:
    """Return the page as Markdown."""
    lines = ["# Results", "", "Written by `make bench`; what is measured and how: [README.md](README.md).", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += [f"- load generator and fake provider alone: {ceiling:,.0f} events/s", ""]
    lines += ["Medians [lowest..highest] of the rounds; ratios are taken round by round.", ""]
    lines += ["| | relay | naive | relay ÷ naive |", "|---|---|---|---|", *_list_rows(relay, naive), ""]
    lines += _describe_queued(relay.queued)
    lines += ["## Goals", ""]
    lines += [f"- {'met' if goal.met else '**missed**'}: {goal.text}" for goal in judge_goals(relay, naive)]
    return "\n".join([*lines, ""])


def _list_rows(relay: Rounds, naive: Rounds) -> Iterator[str]:
    tables: Sequence[tuple[Sequence[Row], Sequence[Any], Sequence[Any]]] = (
        (_THROUGHPUT, relay.throughput, naive.throughput),
        (_LATENCY, relay.latency, naive.latency),
        (_IDLE, relay.idle, naive.idle),
        (_START, relay.start_s, naive.start_s),
    )
    for rows, ours, theirs in tables:
        for name, read, digits in rows if ours else ():
            yield _show_row(name, [read(each) for each in ours], [read(each) for each in theirs], digits)


def _show_row(name: str, ours: Sequence[float], theirs: Sequence[float], digits: int) -> str:
    ratio = compare(ours, theirs).show(2) if all(theirs) else ""
    return f"| {name} | {summarise(ours).show(digits)} | {summarise(theirs).show(digits)} | {ratio} |"


def _describe_queued(queued: Queued | None) -> list[str]:
    if queued is None:
        return []
    memory = queued.memory
    text = (
        f"Provider answering 503: {queued.accepted:,} events accepted at {queued.accepted_per_s:,.0f}/s and queued "
        f"({queued.requests:,} requests were tried meanwhile); RSS then {memory.resident_mb:.1f} MB, at most "
        f"{memory.peak_mb:.1f} MB on the way. The naive relay queues nothing: it answers 500."
    )
    return [text, ""]
