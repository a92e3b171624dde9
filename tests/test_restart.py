"""What a start makes of what the last process left open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.clock import read_clock
from app.model.delivery import Delivery, State
from app.model.event import Event
from app.model.message import Message
from tests.outbox.methods import SqliteOutbox


@pytest.fixture
async def left_open(environment: dict[str, str]) -> None:
    """An outbox in which two attempts at Gallabox and none at BiteSpeed were open when the process died."""
    store = SqliteOutbox(Path(environment["RELAY_DATABASE_URL"].removeprefix("sqlite:///")))
    now = read_clock()
    for number in range(2):
        event = Event(f"e-{number}", "nector", "walletreward_create", f"d-{number}", b"{}", {}, now)
        recipient = f"+91980000000{number}"
        message = Message(recipient, "coins_earned", "Riya")
        delivery = Delivery(
            f"dlv-{number}", event.id, "coins-earned", "gallabox", "coins_earned", recipient, message,
            State.PENDING, None, now, now, now + 3_600_000,
        )  # fmt: skip
        await store.add_event(event, [delivery])
    assert len(await store.claim_due("gallabox", now, 5, 60_000)) == 2
    await store.close()


@pytest.mark.usefixtures("left_open")
async def test_what_was_open_when_the_process_died_is_unknown_and_counted_by_its_provider(
    open_relay: Callable[..., Any],
) -> None:
    async with open_relay() as relay:
        states = [row["state"] for row in (await relay.ops("GET", "/deliveries")).json()["deliveries"]]
        assert states == ["unknown", "unknown"]
        assert 'nector_relay_ambiguous_total{provider="gallabox"} 2.0' in (await relay.ops("GET", "/metrics")).text
    async with open_relay() as relay:
        assert 'nector_relay_ambiguous_total{provider="gallabox"} 2.0' in (await relay.ops("GET", "/metrics")).text
