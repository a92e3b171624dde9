"""SIGSTOP while a provider answers, SIGCONT when every time-out is long due: what lies in the sockets counts."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.fault_server import Server, open_fault, plain

EVENTS = 3
TIMEOUT_S = 2


async def post_all(url: str) -> None:
    async def post(number: int) -> int:
        payload = {"user_name": "Riya", "user_mobile": f"980000000{number}", "amount": number, "account": 0}
        headers = {"x-nector-topic": "walletreward_create", "x-nector-delivery-id": f"pause-{number}"}
        return (await client.post(f"{url}/webhooks/nector", json=payload, headers=headers)).status_code

    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        assert await asyncio.gather(*(post(number) for number in range(EVENTS))) == [202] * EVENTS


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(None, {"accepted"}, id="the relay"),
        pytest.param("judge_at_once", {"accepted", "unknown"}, id="control: a time-out is judged when it is due"),
    ],
)
async def test_after_a_pause_no_answer_that_lay_in_a_socket_is_taken_for_a_time_out(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_tools: Any,
    outbox_path: Path,
    fault: str | None,
    expected: set[str],
) -> None:
    stopped, answered = asyncio.Event(), Counter[str]()

    async def answer_late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await stopped.wait()
        writer.write(plain())
        await writer.drain()
        answered["all"] += 1

    async with open_fault(answer_late) as provider:
        environment = kill_environment(("hold",), GALLABOX_BASE_URL=f"http://127.0.0.1:{provider.port}")
        yaml = environment["RELAY_CONFIG_YAML"]
        environment["RELAY_CONFIG_YAML"] = yaml.replace("rate: 200/s", f"rate: 200/s\n    timeout: {TIMEOUT_S}s")
        async with start_relay(environment, fault) as relay:
            posting = asyncio.create_task(post_all(relay.url))
            # The first one is enough: what has not left by then does so after the pause, and is answered at once.
            await provider.arrived.wait()
            relay.tell(signal.SIGSTOP)
            stopped.set()
            while answered["all"] < len(provider.requests):
                await asyncio.sleep(0.01)
            await asyncio.sleep(TIMEOUT_S + 0.1)
            relay.tell(signal.SIGCONT)
            await posting
            async with asyncio.timeout(60):
                while not has_ended(rows := outbox_tools.read_rows(outbox_path)):
                    await asyncio.sleep(0.02)
            assert await relay.stop() == 0
        seen = provider.count_by_id()
    states = {row.state for row in rows.values()}
    assert states <= expected
    assert ("unknown" in states) == (fault is not None)
    assert seen == dict.fromkeys(rows, 1)


def has_ended(rows: Any) -> bool:
    return len(rows) == EVENTS and all(row.state in {"accepted", "unknown"} for row in rows.values())
