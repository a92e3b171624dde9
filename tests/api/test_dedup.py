"""One message however often an event is posted: at once, a thousand times, after a wipe, after a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.outbox.retention import wipe_payloads

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
COUPON = {
    "user_name": "Riya",
    "user_mobile": "9800000001",
    "value": "ACME-7Q2P",
    "fiat_value": 200,
    "expire": "2099-12-31T18:29:59Z",
}
COPIES = 50
CAPTURED = 1_000
DAY = 86_400_000


async def settle(relay: Any) -> None:
    """Wait until nothing is on its way any more."""
    async with asyncio.timeout(20):
        while True:
            rows = (await relay.ops("GET", "/deliveries", params={"limit": 500})).json()["deliveries"]
            if not {row["state"] for row in rows} & {"pending", "sending"}:
                return
            await asyncio.sleep(0.02)


async def post_captured(relay: Any, times: int) -> list[Any]:
    """Post the identical request so many times, some at once."""
    answers: list[Any] = []
    while len(answers) < times:
        copies = [relay.post(COINS, delivery_id="captured") for _ in range(min(COPIES, times - len(answers)))]
        answers += await asyncio.gather(*copies)
    return answers


async def test_fifty_parallel_copies_of_one_delivery_id_are_one_message(relay: Any, sandbox: Any) -> None:
    answers = await post_captured(relay, COPIES)
    assert Counter((answer.status_code, answer.json()["status"]) for answer in answers) == {
        (202, "accepted"): 1,
        (200, "duplicate"): COPIES - 1,
    }
    assert len({(answer.json()["event_id"], answer.json()["deliveries"][0]["id"]) for answer in answers}) == 1
    await settle(relay)
    assert len(await sandbox.messages()) == 1


async def test_fifty_parallel_events_of_one_dedup_by_are_one_message(relay: Any, sandbox: Any) -> None:
    answers = await asyncio.gather(*[relay.post(COUPON, "coupon_create") for _ in range(COPIES)])
    states = Counter(row["state"] for answer in answers for row in answer.json()["deliveries"])
    assert states == {"pending": 1, "suppressed": COPIES - 1}
    await settle(relay)
    assert len(await sandbox.messages()) == 1


async def test_without_its_key_a_coupon_would_be_sent_fifty_times(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad control of the test above."""
    monkeypatch.setattr("app.message.render.compute_dedup_key", lambda *_: None)
    answers = await asyncio.gather(*[relay.post(COUPON, "coupon_create") for _ in range(COPIES)])
    states = Counter(row["state"] for answer in answers for row in answer.json()["deliveries"])
    assert states == {"pending": COPIES}


async def test_a_replayed_capture_sends_nothing_also_after_a_wipe_and_a_restart(open_relay: Any, sandbox: Any) -> None:
    async with open_relay() as relay:
        (first,) = await post_captured(relay, 1)
        expected = {"event_id": first.json()["event_id"], "id": first.json()["deliveries"][0]["id"]}
        await settle(relay)
        statuses = Counter(answer.status_code for answer in await post_captured(relay, CAPTURED))
        await wipe_payloads(relay.outbox, relay.clock() + DAY)
        wiped = await relay.delivery(expected["id"])
        assert (wiped["message"], wiped["recipient"]) == (None, "")
        statuses += Counter(answer.status_code for answer in await post_captured(relay, COPIES))
    async with open_relay() as relay:
        later = await post_captured(relay, COPIES)
        statuses += Counter(answer.status_code for answer in later)
        await settle(relay)
        assert statuses == {200: CAPTURED + 2 * COPIES}
        for answer in later:
            assert answer.json()["event_id"] == expected["event_id"]
            assert answer.json()["deliveries"] == [
                {"id": expected["id"], "route": "coins-earned", "provider": "gallabox", "state": "accepted"}
            ]
        assert len((await relay.ops("GET", "/deliveries")).json()["deliveries"]) == 1
    assert len(await sandbox.messages()) == 1


async def test_one_delivery_id_with_two_topics_is_two_events(relay: Any, sandbox: Any) -> None:
    answers = [await relay.post(COINS, delivery_id="7"), await relay.post(COUPON, "coupon_create", delivery_id="7")]
    assert [answer.status_code for answer in answers] == [202, 202]
    again = await relay.post(COUPON, "coupon_create", delivery_id="7")
    assert (again.status_code, again.json()["event_id"]) == (200, answers[1].json()["event_id"])
    await settle(relay)
    assert len(await sandbox.messages()) == 2
