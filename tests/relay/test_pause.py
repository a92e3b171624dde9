"""After a pause the sweep waits once more: leases ran out meanwhile, but the answers lie in the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.clock import read_clock
from tests.faults.fault_server import Server, open_fault, plain

HOUR_MS = 3_600_000
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


class Waits:
    """The sweeper's waits, which end when the test says so."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._last: asyncio.Future[None] | None = None

    async def sleep(self, _seconds: float) -> None:
        ended = asyncio.get_running_loop().create_future()
        self._begun.put_nowait(ended)
        await ended

    async def reach_next(self) -> None:
        """End the last one; return when the sweeper waits again."""
        if self._last is not None:
            self._last.set_result(None)
        self._last = await self._begun.get()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    found = Waits()
    monkeypatch.setattr("app.relay.dispatcher.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": found.sleep}))
    return found


@pytest.mark.parametrize(
    ("notices", "steps"),
    [
        pytest.param(True, ["pending", "sending", "accepted"], id="the relay"),
        pytest.param(False, ["pending", "sending", "unknown"], id="control: it sweeps at once"),
    ],
)
async def test_what_was_answered_while_the_process_stood_still_is_recorded_before_leases_are_judged(
    open_relay: Callable[..., Any], waits: Waits, monkeypatch: pytest.MonkeyPatch, *, notices: bool, steps: list[str]
) -> None:
    if not notices:
        monkeypatch.setattr("app.relay.dispatcher.STOOD_STILL_MS", 2 * HOUR_MS)
    resumed = asyncio.Event()

    async def answer_late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await resumed.wait()
        writer.write(plain())
        await writer.drain()

    async with (
        open_fault(answer_late) as provider,
        open_relay(GALLABOX_BASE_URL=f"http://127.0.0.1:{provider.port}") as relay,
    ):
        await waits.reach_next()
        (delivery,) = (await relay.post(COINS)).json()["deliveries"]
        await provider.arrived.wait()
        monkeypatch.setattr(relay.clock, "_read", lambda: read_clock() + HOUR_MS)
        await waits.reach_next()
        if notices:
            resumed.set()
            await relay.wait_for(delivery["id"], "accepted")
            await waits.reach_next()  # it has swept
        told = await relay.delivery(delivery["id"])
        resumed.set()
    assert [step["value"] for step in told["timeline"]] == steps
