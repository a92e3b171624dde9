"""kill -9 between the commit and the send, with real processes: the send still belongs to its webhook's trace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import pytest

from tests.conftest import TOKEN, sign
from tests.tracing.collector import Collector, run_collector

ACCESS = {"authorization": f"Bearer {TOKEN}"}
BODY = json.dumps({"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}).encode()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with run_collector() as found:
        yield found


@pytest.fixture
def traced(environment: Mapping[str, str], collector: Collector) -> dict[str, str]:
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "20"}


async def call(relay: Any, method: str, path: str, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, base_url=relay.url) as client:
        return await client.request(method, path, **options)


async def test_a_send_after_a_kill_belongs_to_its_webhooks_trace(
    start_relay: Callable[..., Any], traced: dict[str, str], collector: Collector, sandbox: Any
) -> None:
    async with start_relay(traced) as relay:
        await call(relay, "PUT", "/holds/provider:gallabox", headers=ACCESS)
        headers = sign(BODY, "walletreward_create")
        assert (await call(relay, "POST", "/webhooks/nector", content=BODY, headers=headers)).status_code == 202
        await asyncio.to_thread(collector.wait_for, "outbox.commit")
        await relay.kill()
    async with start_relay(traced) as relay:
        await call(relay, "DELETE", "/holds/provider:gallabox", headers=ACCESS)
        await asyncio.to_thread(collector.wait_for, "delivery.attempt")
        assert await relay.stop() == 0
    names = ("POST /webhooks/nector", "outbox.commit", "delivery.attempt", "POST gallabox")
    (server,), (commit,), (attempt,), (request,) = map(collector.spans, names)
    assert {commit.trace_id, attempt.trace_id, request.trace_id} == {server.trace_id}
    assert [attempt.parent_id, request.parent_id] == [server.id, attempt.id]
    assert server.resource["service.instance.id"] != attempt.resource["service.instance.id"]
    assert len(await sandbox.messages()) == 1


async def test_a_hanging_collector_leaves_a_sigterm_in_time(
    start_relay: Callable[..., Any], traced: dict[str, str], collector: Collector
) -> None:
    collector.mood = "hang"
    async with start_relay(traced) as relay:
        headers = sign(BODY, "walletreward_create")
        assert (await call(relay, "POST", "/webhooks/nector", content=BODY, headers=headers)).status_code == 202
        relay.tell()
        assert await relay.end() == 0
        assert relay.lines("tracing.cut")  # the SDK alone would wait for 10 s, and there would be nothing to cut
        assert relay.lines("relay.stopped")
