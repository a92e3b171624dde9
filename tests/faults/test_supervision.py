"""A part that dies ends the process and says what and where; one that is stuck makes the process unhealthy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2
import pytest

SCRIPT = "dying_relay.py"
NUMBER = "9800000013"  # what the exceptions' texts hold


@pytest.fixture
def supervised(kill_environment: Callable[..., dict[str, str]]) -> dict[str, str]:
    return kill_environment(("hold",), RELAY_SHUTDOWN_GRACE="1s")


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        yield client


@pytest.mark.parametrize(
    ("fault", "task", "error", "code"),
    [
        ("claim_raises", "lane gallabox0", "LookupError", 70),
        ("sweep_raises", "sweeper", "LookupError", 70),
        ("watch_raises", "config watch", "LookupError", 70),
        ("store_breaks", "lane gallabox0", "StoreBroken", 74),
    ],
)
async def test_a_part_that_dies_ends_the_process_and_the_log_says_which_and_where(
    start_relay: Callable[..., Any], supervised: Mapping[str, str], fault: str, task: str, error: str, code: int
) -> None:
    async with start_relay(supervised, fault, script=SCRIPT, wait=False) as relay:
        assert await relay.end() == code
        # Another part may meet the broken store before this one does.
        line = next(line for line in relay.lines("task.died") if line["task"] == task)
        assert (line["level"], line["error_type"]) == ("critical", error)
        assert line["error_at"].partition(":")[0] in {SCRIPT, "batch.py", "lane.py"}  # each caller gets its own
        assert len(relay.lines("relay.stopped")) == 1  # in order, even so
        assert NUMBER not in relay.log.read_text()
        assert "Traceback" not in relay.log.read_text()


async def test_the_supervision_test_notices_a_relay_that_nobody_watches(
    start_relay: Callable[..., Any], supervised: Mapping[str, str]
) -> None:
    """The known-bad control: its lane and its sweeper are dead, and it goes on taking events."""
    async with start_relay(supervised, "unwatched+claim_raises+sweep_raises", script=SCRIPT) as relay:
        with pytest.raises(TimeoutError):
            await relay.end(2)
        assert relay.lines("task.died") == []


async def health_of(http: httpx2.AsyncClient, url: str) -> int:
    return (await http.get(f"{url}/healthz")).status_code


async def test_a_lane_that_is_stuck_makes_the_process_unhealthy_and_sigterm_still_ends_it(
    start_relay: Callable[..., Any], supervised: Mapping[str, str], http: httpx2.AsyncClient
) -> None:
    async with start_relay(supervised, "short_limits+claim_blocks", script=SCRIPT) as relay:
        assert await health_of(http, relay.url) == 200
        async with asyncio.timeout(40):
            while await health_of(http, relay.url) != 503:
                await asyncio.sleep(0.05)
        assert (await http.get(f"{relay.url}/readyz")).status_code == 200  # events can still be taken
        assert await relay.stop() == 0


async def test_a_lane_that_only_waits_is_healthy_all_the_time(
    start_relay: Callable[..., Any], supervised: Mapping[str, str], http: httpx2.AsyncClient
) -> None:
    """The control of the test above: the same limits, and no fault."""
    async with start_relay(supervised, "short_limits", script=SCRIPT) as relay:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            assert await health_of(http, relay.url) == 200
            await asyncio.sleep(0.1)
        assert await relay.stop() == 0
