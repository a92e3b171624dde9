"""The recorder: what is kept of events, and that no customer is in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from app.errors import StoreFull
from app.model.event import Event
from app.outbox.retention import record_event
from app.outbox.values import Recording
from app.relay.recorder import BURST, MOST_TOPICS, Recorder

NOW = 1_790_000_000_000


class Kept:
    """A store that is only given events to keep."""

    def __init__(self) -> None:
        self.rows: list[Recording] = []
        self.fails = False

    async def write(self, job: partial[None]) -> None:
        assert job.func is record_event
        if self.fails:
            raise StoreFull("full")
        self.rows.append(job.keywords["recording"])


def make_recorder(kept: Kept, secrets: Sequence[str] = ("s",)) -> Recorder:
    outbox: Any = kept
    return Recorder(outbox, secrets)


def make_event(topic: str = "coupon_create", at: int = NOW, **payload: Any) -> Event:
    return Event("e", "nector", topic, None, b"", payload, at)


async def test_a_burst_is_kept_up_to_a_limit_and_later_events_again() -> None:
    kept = Kept()
    recorder = make_recorder(kept)
    for _ in range(BURST + 30):
        recorder.note(make_event())
    await recorder.settle()
    assert len(kept.rows) == BURST
    recorder.note(make_event("another"))
    recorder.note(make_event(at=NOW + 5_000))
    await recorder.settle()
    assert [row.topic for row in kept.rows[BURST:]] == ["another", "coupon_create"]


@pytest.mark.parametrize(
    ("body", "kept"), [(b'{"user_tier": "Gold", "amount": 5}', ["amount", "user_tier"]), (b"[", [])]
)
async def test_an_event_whose_payload_was_let_go_is_read_once_more(body: bytes, kept: Sequence[str]) -> None:
    store = Kept()
    recorder = make_recorder(store)
    recorder.note(Event("e", "nector", "coupon_create", None, body, {}, NOW))
    await recorder.settle()
    assert sorted(json.loads(store.rows[0].payload)) == kept


async def test_invented_topics_take_no_more_memory_than_real_ones() -> None:
    kept = Kept()
    recorder = make_recorder(kept)
    for number in range(MOST_TOPICS + 50):
        recorder.note(make_event(f"topic-{number}"))
    await recorder.settle()
    assert len(kept.rows) == MOST_TOPICS


async def test_a_store_that_cannot_keep_it_is_no_trouble() -> None:
    kept = Kept()
    kept.fails = True
    recorder = make_recorder(kept)
    recorder.note(make_event())
    await recorder.settle()
    assert kept.rows == []


async def test_the_same_secrets_give_the_same_fakes_after_a_restart() -> None:
    payloads = []
    for secrets in (["s"], ["s"], ["t"]):
        kept = Kept()
        recorder = make_recorder(kept, secrets)
        recorder.note(make_event(value="ACME-7Q2P"))
        await recorder.settle()
        payloads.append(kept.rows[0].payload)
    assert payloads[0] == payloads[1] != payloads[2]


CUSTOMER = {"user_name": "Canaryname", "user_mobile": "9800000042", "value": "CANARY-7Q2P", "amount": "100"}


async def test_a_running_relay_shows_what_came_and_no_customer(relay: Any) -> None:
    await relay.post(CUSTOMER)
    await relay.post({**CUSTOMER, "amount": "5"}, topic="coupon_create")
    async with asyncio.timeout(40):
        while len((answer := await relay.ops("GET", "/examples")).json()["examples"]) < 2:
            await asyncio.sleep(0.01)
    assert "Canaryname" not in answer.text
    assert "CANARY" not in answer.text
    rows = answer.json()["examples"]
    assert [row["topic"] for row in rows] == ["coupon_create", "walletreward_create"]
    assert rows[0]["event"].keys() == CUSTOMER.keys()
    assert rows[0]["event"]["amount"] == "5"
    only = (await relay.ops("GET", "/examples", params={"topic": "walletreward_create"})).json()["examples"]
    assert only == rows[1:]


async def test_a_repeated_webhook_is_noted_once(relay: Any) -> None:
    for _ in range(3):
        await relay.post(CUSTOMER, delivery_id="the-same")
    await relay.relay._recorder.settle()
    assert len((await relay.ops("GET", "/examples")).json()["examples"]) == 1


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
async def test_without_the_token_nobody_sees_them(relay: Any, headers: dict[str, str]) -> None:
    assert (await relay.client.get("/examples", headers=headers)).status_code == 401


async def test_the_stateless_mode_has_none(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_DATABASE_URL="none") as relay:
        assert (await relay.ops("GET", "/examples")).status_code == 404
