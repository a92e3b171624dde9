"""More webhooks than the outbox can commit: past the queue's limit each is answered 503 at once, none is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

LIMIT = 200
EVENT = {"user_name": "Riya", "user_mobile": "9800000001", "amount": 100}


@asynccontextmanager
async def stall_disk(relay: Any, limit: int) -> AsyncIterator[Any]:
    """Let the writer hang in a commit, as on a disk that does not answer; yields the writer."""
    writer, entered, go_on = relay.outbox._writer, threading.Event(), threading.Event()
    writer._queue_limit = limit

    def hang(_: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait(30)

    hanging = asyncio.create_task(writer.run_alone(hang))
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield writer
    finally:
        go_on.set()
        await hanging


async def fill_queue(relay: Any, writer: Any, depth: int) -> list[asyncio.Task[Any]]:
    """Post webhooks that wait, until the queue is so deep (the lanes and the sweeper wait in it, too)."""
    waiting: list[asyncio.Task[Any]] = []
    async with asyncio.timeout(20):
        while (missing := depth - len(writer._waiting)) > 0:
            before = len(writer._waiting)
            waiting += [asyncio.create_task(relay.post(EVENT)) for _ in range((missing + 1) // 2)]
            while len(writer._waiting) < before + (missing + 1) // 2:
                await asyncio.sleep(0.005)
    return waiting


async def test_past_the_limit_a_webhook_is_refused_at_once_and_none_before_it_is_lost(
    open_relay: Callable[..., Any],
) -> None:
    took, deepest = [], 0
    async with open_relay() as relay:
        async with stall_disk(relay, LIMIT) as writer:
            waiting = await fill_queue(relay, writer, LIMIT)
            for _ in range(100):
                began = time.monotonic()
                answer = await relay.post(EVENT)
                took.append(time.monotonic() - began)
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                deepest = max(deepest, len(writer._waiting))
            assert (await relay.client.get("/healthz")).status_code == 200
        answers = [(await each).status_code for each in waiting]
        assert answers == [202] * len(answers)
        assert len(answers) > LIMIT // 2
        assert (await relay.post(EVENT)).status_code == 202, "and it goes on"
    print(  # noqa: T201  # bench/long-runs.md quotes it
        f"figures: refused past a queue of {LIMIT}: p50={statistics.median(took) * 1000:.1f} ms "
        f"worst={max(took) * 1000:.1f} ms, queue never above {deepest}"
    )
    assert deepest <= LIMIT + 10  # the lanes' and the sweeper's own


async def test_a_queue_without_a_limit_lets_webhooks_wait_for_the_disk(open_relay: Callable[..., Any]) -> None:
    """The known-bad control."""
    async with open_relay() as relay, stall_disk(relay, 10**9) as writer:
        await fill_queue(relay, writer, LIMIT)
        late = asyncio.create_task(relay.post(EVENT))
        assert await asyncio.wait({late}, timeout=1) == (set(), {late})
