"""SIGSTOP while a provider answers, SIGCONT when the time-out is long due: what lies in the socket counts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.fault_server import Server, open_fault, plain

TIMEOUT_S = 2


async def post_event(url: str) -> str:
    payload = {"user_name": "Riya", "user_mobile": "9800000001", "amount": 100, "account": 0}
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        headers = {"x-nector-topic": "walletreward_create", "x-nector-delivery-id": "pause-1"}
        answer = await client.post(f"{url}/webhooks/nector", json=payload, headers=headers)
    (delivery,) = answer.json()["deliveries"]
    return str(delivery["id"])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(None, "accepted", id="the relay"),
        pytest.param("judge_at_once", "unknown", id="control: a time-out is judged when it is due"),
    ],
)
async def test_after_a_pause_an_answer_that_lay_in_a_socket_is_not_taken_for_a_time_out(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_tools: Any,
    outbox_path: Path,
    fault: str | None,
    expected: str,
) -> None:
    stopped, answered = asyncio.Event(), asyncio.Event()

    async def answer_late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await stopped.wait()
        writer.write(plain())
        await writer.drain()
        answered.set()

    async with open_fault(answer_late) as provider:
        environment = kill_environment(("hold",), GALLABOX_BASE_URL=f"http://127.0.0.1:{provider.port}")
        yaml = environment["RELAY_CONFIG_YAML"]
        environment["RELAY_CONFIG_YAML"] = yaml.replace("rate: 200/s", f"rate: 200/s\n    timeout: {TIMEOUT_S}s")
        async with start_relay(environment, fault) as relay:
            posting = asyncio.create_task(post_event(relay.url))
            await provider.arrived.wait()
            relay.tell(signal.SIGSTOP)
            stopped.set()
            await answered.wait()
            await asyncio.sleep(TIMEOUT_S + 0.1)
            relay.tell(signal.SIGCONT)
            id_ = await posting
            async with asyncio.timeout(60):
                while outbox_tools.read_rows(outbox_path)[id_].state not in {"accepted", "unknown"}:
                    await asyncio.sleep(0.02)
            assert await relay.stop() == 0
        assert provider.count_by_id() == {id_: 1}
    assert outbox_tools.read_rows(outbox_path)[id_].state == expected
