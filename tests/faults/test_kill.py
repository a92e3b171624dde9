"""kill -9 at random instants, again and again: what was acknowledged is sent once, or is `unknown`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.counts import read_count

CONCURRENCY = 8
POLICIES = ("hold", "resend", "hold", "resend")  # an account each
CHECK_EVERY = 10  # kills between two looks at the whole file
PHASES = (("starting", 0.2), ("loaded", 0.65), ("draining", 0.15))
# What the provider does in a round: answers late, answers at once, or takes the message and drips its answer.
WEATHER: tuple[Mapping[str, Any], ...] = (
    {"latency_ms": 100},
    {"latency_ms": 0},
    {"fault": "drip", "drip_ms": 150},
    {"fault": "drip", "drip_ms": 400, "probability": 0.5},
)


@pytest.fixture
def run_kills(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    open_crowd: Callable[..., Any],
    outbox_tools: Any,
    outbox_path: Path,
    sandbox: Any,
    seed: int,
) -> Callable[..., Any]:
    """Return a function that kills so many times, lets the last relay drain, prints the figures and judges."""

    async def run(
        kills: int,
        fault: str | None = None,
        phases: tuple[tuple[str, float], ...] = PHASES,
        weather: tuple[Mapping[str, Any], ...] = WEATHER,
    ) -> Any:
        began, draw = time.monotonic(), random.Random(seed)  # noqa: S311  # no secret
        environment = kill_environment(
            POLICIES, concurrency=CONCURRENCY, RELAY_SETTLE_AFTER="1s", RELAY_LOG_LEVEL="warning"
        )
        port = outbox_tools.find_port()
        crowd = open_crowd(f"http://127.0.0.1:{port}", draw, len(POLICIES))
        async with crowd.run():
            for n in range(1, kills + 1):
                await sandbox.set_fault("gallabox", **draw.choice(weather))
                (phase,) = draw.choices([name for name, _ in phases], [weight for _, weight in phases])
                async with start_relay(environment, fault, port=port, wait=False) as relay:
                    await kill_at(relay, crowd, phase, draw)
                if n % CHECK_EVERY == 0 and outbox_path.exists():
                    outbox_tools.check_integrity(outbox_path)
                if n % 100 == 0:
                    print(f"{n} kills, {len(crowd.acknowledged)} acknowledged, {time.monotonic() - began:.0f} s")  # noqa: T201
            crowd.ending.set()
            await sandbox.clear_faults()
            # What the control does at the start, it has done by now; the last relay is whole.
            async with start_relay(environment, None if fault == "acknowledge_first" else fault, port=port) as relay:
                await drain(relay, outbox_tools, outbox_path, crowd)
                assert await relay.stop() == 0
        outbox_tools.check_integrity(outbox_path)
        counts = await sandbox.counts()
        sent = counts["deliveries"]
        # A provider that answers late reads late: whoever was killed meanwhile came, and nobody can say for whom.
        unread = sum(counts["seen"].values()) - sum(counts["accepted"].values())
        assert fault or not crowd.forgotten
        verdict = outbox_tools.judge(outbox_tools.read_rows(outbox_path), crowd.acknowledged, sent)
        verdict = replace(verdict, unseen=max(verdict.unseen - unread, 0))
        print(  # noqa: T201  # the figures that bench/long-runs.md quotes
            f"figures: kill -9 {fault or ''} kills={kills} acknowledged={len(crowd.acknowledged)} {verdict} "
            f"seed={seed} seconds={time.monotonic() - began:.0f}"
        )
        return verdict

    return run


async def kill_at(relay: Any, crowd: Any, phase: str, draw: random.Random) -> None:
    """Kill a relay that was just started, at an instant of this phase."""
    if phase == "starting":
        await asyncio.sleep(draw.uniform(0, 0.7))
    else:
        await crowd.wait_for_answer(relay)
        await asyncio.sleep(draw.uniform(0, 0.9))
        if phase == "draining":
            relay.tell()
            await asyncio.sleep(draw.uniform(0, 0.4))
    if relay.process.returncode is None:  # a drain may have ended
        await relay.kill()


async def drain(relay: Any, outbox_tools: Any, outbox_path: Path, crowd: Any) -> None:
    """Wait until every sender has its answer and nothing is left to do but for a person."""
    async with asyncio.timeout(90):
        while True:
            assert relay.process.returncode is None, relay.log.read_text()[-2000:]
            rows = outbox_tools.read_rows(outbox_path).values()
            busy = any(row.state in {"pending", "sending"} or (row.state == "unknown" and row.due) for row in rows)
            if not busy and len(crowd.acknowledged) == crowd.begun:
                return
            await asyncio.sleep(0.2)


async def check_kills(run_kills: Callable[..., Any], kills: int) -> None:
    verdict = await run_kills(kills)
    assert not verdict.lost
    assert not verdict.doubled
    assert not verdict.open
    assert 0 < verdict.deaths <= kills * len(POLICIES) * CONCURRENCY  # no death of an attempt would prove nothing
    assert verdict.unknown <= verdict.deaths
    assert not verdict.unseen  # a person is asked only about what may have arrived


@pytest.mark.timeout(400)
async def test_what_was_acknowledged_before_any_of_20_kills_is_sent_exactly_once_or_is_unknown(
    run_kills: Callable[..., Any],
) -> None:
    await check_kills(run_kills, 20)


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_what_was_acknowledged_before_any_of_1000_kills_is_sent_exactly_once_or_is_unknown(
    run_kills: Callable[..., Any],
) -> None:
    await check_kills(run_kills, read_count(1000))


# -- the known-bad controls: the same run notices a relay with one guarantee taken out ---------------

CONTROL_KILLS = 6  # on a busy machine a kill may come before anything was sent
UNDER_LOAD = (("loaded", 1.0),)
TAKEN_AND_SLOW = ({"fault": "drip", "drip_ms": 2_000},)  # whatever is open at the kill has surely been sent


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["resend_open", "commit_after_send"])
async def test_the_kill_test_notices_a_relay_that_sends_again_what_was_in_flight(
    run_kills: Callable[..., Any], fault: str
) -> None:
    verdict = await run_kills(CONTROL_KILLS, fault, UNDER_LOAD, TAKEN_AND_SLOW)
    assert verdict.doubled


@pytest.mark.timeout(180)
async def test_the_kill_test_notices_a_relay_that_acknowledges_first(run_kills: Callable[..., Any]) -> None:
    verdict = await run_kills(CONTROL_KILLS, "acknowledge_first", UNDER_LOAD)
    assert verdict.lost


AT_ONCE = ({"latency_ms": 0},)


@pytest.mark.timeout(180)
async def test_what_had_not_left_when_the_process_was_killed_is_sent_and_nobody_is_asked(
    run_kills: Callable[..., Any],
) -> None:
    verdict = await run_kills(CONTROL_KILLS, "connect_late", UNDER_LOAD, AT_ONCE)
    assert verdict.deaths
    assert not verdict.lost
    assert not verdict.doubled
    assert not verdict.unseen


@pytest.mark.timeout(180)
async def test_the_kill_test_notices_a_relay_that_keeps_no_record_of_what_left(run_kills: Callable[..., Any]) -> None:
    verdict = await run_kills(CONTROL_KILLS, "fly_blind", UNDER_LOAD, AT_ONCE)
    assert verdict.unseen


def test_the_bundled_templates_still_hold_the_one_used_here() -> None:
    text = (Path(__file__).parents[2] / "config/templates.yaml").read_text()
    assert "  coins_earned:" in text
