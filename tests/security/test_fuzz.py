"""A hundred thousand requests from a grammar, and a million in the long tier: nothing breaks, and nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.api.connections import Connection
from app.api.strangers import Gate
from tests.security.fuzzing import BrokenRule, Fuzzer, Harness, build_harness, run_fuzz
from tests.security.strangers import find_app

SEED = 16
MANY, FEW = 100_000, 3_000
# What the grammar has to reach, or it fuzzes nothing.
REACHED = {"200", "202", "204", "400", "401", "403", "404", "405", "408", "413", "414", "415", "422", "431", "503"}
# Python's blocks; what is bounded (addresses that failed, lines that were counted) is full after the first quarter.
KEPT_BLOCKS = 40_000


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
async def harness(printed: io.StringIO, open_relay: Callable[..., Any]) -> AsyncIterator[Harness]:
    """A relay's application behind the protocol; only errors are logged, to `printed`."""
    del printed
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with open_relay(RELAY_LOG_LEVEL="error") as relay:
        yield build_harness(relay, find_app(relay))
    assert unhandled == []


def count_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


async def fuzz_and_judge(harness: Harness, printed: io.StringIO, seed: int, count: int) -> None:
    """Raise BrokenRule or AssertionError if one of so many requests breaks the rules."""
    blocks: list[int] = []

    def note(done: int) -> None:
        if done in (count // 4, count // 2, count):
            blocks.append(count_blocks())

    await run_fuzz(harness, seed, count, note)
    assert printed.getvalue() == ""  # no line at error level, so no traceback
    assert blocks[2] - blocks[0] < KEPT_BLOCKS, blocks
    assert harness.gate._open == set()
    assert list(harness.gate._unfinished) == [""]


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_requests_of_a_grammar_break_nothing(harness: Harness, printed: io.StringIO) -> None:
    await fuzz_and_judge(harness, printed, SEED, MANY)
    assert set(harness.statuses) >= REACHED
    assert harness.statuses["202"] > MANY / 20


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_a_million_requests_of_a_grammar_break_nothing(harness: Harness, printed: io.StringIO) -> None:
    for seed in range(10):
        await fuzz_and_judge(harness, printed, seed, MANY)


def test_a_seed_draws_the_same_requests_again() -> None:
    drawing = [Fuzzer(seed) for seed in (1, 1, 2)]
    one, again, other = ([each.make_request() for _ in range(50)] for each in drawing)
    assert one == again != other


# -- controls: each rule is seen to be broken --------------------------------------------------------


async def test_control_a_failure_deep_in_the_reading_of_a_body_is_found(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_badly(payload: dict[str, Any]) -> Any:
        json.dumps(payload).encode()
        return payload["customer"]["country"]["items"]  # as a hasty rule would

    monkeypatch.setattr("app.sources.nector.find_person", read_badly)
    with pytest.raises(BrokenRule, match=f"seed {SEED}, requests .*: 500: b'"):
        await run_fuzz(harness, SEED, FEW)


async def test_control_a_request_that_is_never_answered_is_found(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "sweep", lambda *_: None)
    monkeypatch.setattr("tests.security.fuzzing.asyncio.wait", forget_all)
    with pytest.raises(BrokenRule, match=r"never answered|neither answered nor closed"):
        await run_fuzz(harness, SEED, FEW)


async def forget_all(tasks: set[asyncio.Task[None]], **_: Any) -> tuple[set[Any], set[Any]]:
    """Stand in for 40 s in which nothing happens."""
    waiting = set(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return set(), waiting


async def test_control_connections_that_are_kept_are_found(
    harness: Harness, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    lose = Connection.connection_lost

    def keep(connection: Connection, error: Exception | None) -> None:
        kept.append((connection, [bytes(1)] * 20, *map(str, range(20))))
        lose(connection, error)

    monkeypatch.setattr(Connection, "connection_lost", keep)
    with pytest.raises(AssertionError, match=r"\[\d+, \d+, \d+\]"):
        await fuzz_and_judge(harness, printed, SEED, FEW)


async def test_control_a_line_at_error_level_is_found(
    harness: Harness, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = harness.app.state.relay.shared
    monkeypatch.setattr("app.relay.intake.topic_label", lambda _: shared.log.error("canary") or "other")
    with pytest.raises(AssertionError):
        await fuzz_and_judge(harness, printed, SEED, FEW)
