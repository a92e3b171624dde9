"""What a lane does with every kind of answer: real SQLite, real sockets, the sandbox as the oracle."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


def coins(number: int) -> dict[str, str]:
    return {**COINS, "user_mobile": f"98000000{number:02}"}


async def post(relay: Any, payload: Any = COINS) -> str:
    (delivery,) = (await relay.post(payload)).json()["deliveries"]
    return str(delivery["id"])


async def send_count(sandbox: Any) -> int:
    counts = await sandbox.counts()
    return sum(counts["deliveries"].values())


async def test_an_event_becomes_one_accepted_message(relay: Any, sandbox: Any) -> None:
    id_ = await post(relay)
    await relay.wait_for(id_, "accepted")
    (message,) = await sandbox.messages()
    assert message["delivery_id"] == id_
    assert message["recipient"].endswith("919800000001")
    assert "Riya" in message["text"]
    assert await send_count(sandbox) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 500},
        {"fault": "status", "status": 503, "retry_after": 1},
        {"fault": "status", "status": 429, "retry_after": 1},
    ],
)
async def test_what_was_surely_not_sent_is_tried_again(relay: Any, sandbox: Any, fault: dict[str, Any]) -> None:
    await sandbox.set_fault("gallabox", **fault, times=1)
    id_ = await post(relay)
    delivery = await relay.wait_for(id_, "accepted")
    assert delivery["attempts"] == 2
    assert await send_count(sandbox) == 1


async def test_a_provider_that_cannot_be_reached_is_tried_again(open_relay: Callable[..., Any]) -> None:
    async with open_relay(GALLABOX_BASE_URL="http://127.0.0.1:9") as relay:
        id_ = await post(relay)
        delivery = await relay.wait_for(id_, "pending")
        async with asyncio.timeout(40):
            while not (delivery := await relay.delivery(id_))["attempt_list"] or delivery["state"] != "pending":
                await asyncio.sleep(0.02)
        assert delivery["reason"] == "connect_failed"
        assert delivery["next_attempt_at"] > delivery["created_at"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fault": "reset_after"}, "connection_lost"),
        ({"fault": "half_answer"}, "connection_lost"),
        ({"fault": "html"}, "answer_unreadable"),
        ({"fault": "status", "status": 504}, "gateway_failed"),
    ],
)
async def test_what_may_have_arrived_is_unknown_and_not_sent_again(
    relay: Any, sandbox: Any, fault: dict[str, Any], reason: str
) -> None:
    await sandbox.set_fault("gallabox", **fault)
    id_ = await post(relay)
    delivery = await relay.wait_for(id_, "unknown")
    assert delivery["reason"] == reason
    await sandbox.clear_faults()
    await post(relay, coins(2))
    assert (await relay.delivery(id_))["attempts"] == 1


async def test_a_provider_that_hangs_after_accepting_gets_one_request(
    open_relay: Callable[..., Any], environment: dict[str, str], sandbox: Any
) -> None:
    yaml = Path(environment["RELAY_CONFIG"]).read_text().replace("rate: 16/s", "rate: 16/s\n    timeout: 1s", 1)
    assert "timeout: 1s" in yaml
    await sandbox.set_fault("gallabox", fault="hang")
    async with open_relay(RELAY_CONFIG_YAML=yaml) as relay:
        id_ = await post(relay)
        delivery = await relay.wait_for(id_, "unknown")
        assert delivery["reason"] == "timed_out"
        assert await send_count(sandbox) == 1


async def test_an_unknown_delivery_of_a_resend_route_is_sent_again_after_its_settling_time(
    open_relay: Callable[..., Any], sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.relay.dispatcher.SWEEP_EVERY_S", 0.05)
    await sandbox.set_fault("gallabox", fault="status", status=504, times=1)
    yaml = one_route("on_unknown: resend")
    async with open_relay(RELAY_CONFIG_YAML=yaml, RELAY_SETTLE_AFTER="1s") as relay:
        delivery = await relay.wait_for(await post(relay), "accepted")
        assert [step["value"] for step in delivery["timeline"]] == [
            "pending", "sending", "unknown", "pending", "sending", "accepted",
        ]  # fmt: skip


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refused_message_is_dead_and_the_next_one_goes(relay: Any, sandbox: Any, status: int) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=status, times=1)
    delivery = await relay.wait_for(await post(relay), "dead")
    assert delivery["attempts"] == 1
    await relay.wait_for(await post(relay, coins(2)), "accepted")


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "credentials_refused"), (403, "credentials_refused"), (402, "balance_empty")]
)
async def test_refused_credentials_hold_the_lane_and_lose_nothing(
    relay: Any, sandbox: Any, status: int, reason: str
) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=status, times=1)
    first = await post(relay)
    await relay.wait_for(first, "held")
    (hold,) = (await relay.ops("GET", "/holds")).json()["holds"]
    assert (hold["scope"], hold["reason"]) == ("provider:gallabox", reason)
    second = await post(relay, coins(2))
    assert (await relay.delivery(second))["state"] == "held"
    await relay.ops("DELETE", "/holds/provider:gallabox")
    for id_ in (first, second):
        await relay.wait_for(id_, "accepted")
    assert await send_count(sandbox) == 2


async def test_a_refused_template_holds_its_routes_and_no_other(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="refuse", code=132001, times=1)
    id_ = await post(relay)
    await relay.wait_for(id_, "held")
    (hold,) = (await relay.ops("GET", "/holds")).json()["holds"]
    assert hold["scope"].startswith("template:gallabox/")
    other = await relay.post({**coins(2), "user_tier": "Gold"}, topic="viptier_create")
    await relay.wait_for(other.json()["deliveries"][0]["id"], "accepted")
    assert (await relay.delivery(id_))["state"] == "held"


async def test_a_message_that_was_damaged_on_disk_is_never_sent(
    relay: Any, sandbox: Any, environment: dict[str, str]
) -> None:
    await relay.ops("PUT", "/holds/provider:gallabox")
    id_ = await post(relay)
    file = environment["RELAY_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(file, timeout=5) as db:
        db.execute(
            "UPDATE deliveries SET message = CAST(replace(message, 'Riya', 'Maya') AS BLOB) WHERE id = ?", (id_,)
        )
    db.close()
    await relay.ops("DELETE", "/holds/provider:gallabox")
    delivery = await relay.wait_for(id_, "dead")
    assert delivery["reason"] == "message_damaged"
    assert await send_count(sandbox) == 0


def one_route(more: str, provider: str = "", topic: str = "walletreward_create") -> str:
    return f"""
version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: ${{GALLABOX_CHANNEL_ID}}
    api_key: ${{GALLABOX_API_KEY}}
    api_secret: ${{GALLABOX_API_SECRET}}
    base_url: ${{GALLABOX_BASE_URL}}
    {provider or "rate: 50/s"}
routes:
  coins:
    event: {topic}
    provider: gallabox
    template: coins_earned
    variables: {{name: user_name, coins: amount}}
    {more}
"""


async def test_a_message_past_its_deadline_is_expired_and_not_sent(
    open_relay: Callable[..., Any], sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.relay.dispatcher.SWEEP_EVERY_S", 0.05)
    async with open_relay(RELAY_CONFIG_YAML=one_route("valid_for: 1s")) as relay:
        await relay.ops("PUT", "/holds/provider:gallabox")
        delivery = await relay.wait_for(await post(relay), "expired")
        assert delivery["reason"] == "deadline_passed"
        await relay.ops("DELETE", "/holds/provider:gallabox")
        await relay.wait_for(await post(relay, coins(2)), "accepted", "expired")
        assert await send_count(sandbox) <= 1


async def test_what_was_true_until_yesterday_is_expired_at_once(open_relay: Callable[..., Any], sandbox: Any) -> None:
    async with open_relay(RELAY_CONFIG_YAML=one_route("valid_until: expire")) as relay:
        answer = await relay.post({**COINS, "expire": "2020-01-01"})
        assert answer.json()["deliveries"][0]["state"] == "expired"
        assert await send_count(sandbox) == 0


async def test_a_shadow_route_records_and_sends_nothing(open_relay: Callable[..., Any], sandbox: Any) -> None:
    async with open_relay(RELAY_CONFIG_YAML=one_route("mode: shadow")) as relay:
        answer = await relay.post(COINS)
        assert answer.json()["deliveries"][0]["state"] == "shadow"
        assert await send_count(sandbox) == 0


async def test_a_repeat_by_dedup_by_is_suppressed(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_CONFIG_YAML=one_route("dedup_by: amount")) as relay:
        first = await relay.post(COINS)
        await relay.wait_for(first.json()["deliveries"][0]["id"], "accepted")
        second = await relay.post(COINS)
        assert second.status_code == 202
        (delivery,) = second.json()["deliveries"]
        assert delivery["state"] == "suppressed"
        assert (await relay.delivery(delivery["id"]))["reason"] == "duplicate"
        assert (await relay.post({**COINS, "amount": "200"})).json()["deliveries"][0]["state"] == "pending"


async def test_one_recipient_gets_no_second_message_within_six_seconds(relay: Any) -> None:
    first, second = await post(relay), await post(relay)
    await relay.wait_for(first, "accepted")
    started = time.monotonic()
    assert (await relay.delivery(second))["state"] == "pending"
    await relay.wait_for(second, "accepted")
    assert time.monotonic() - started > 3


async def test_a_lane_keeps_to_its_rate(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_CONFIG_YAML=one_route("", "rate: 5/s")) as relay:
        ids = [await post(relay, coins(number)) for number in range(10)]
        started = time.monotonic()
        for id_ in ids:
            await relay.wait_for(id_, "accepted")
        assert time.monotonic() - started > 1.0  # ten at five a second, the first one free


async def test_a_slow_provider_does_not_delay_the_other_one(open_relay: Callable[..., Any], sandbox: Any) -> None:
    await sandbox.set_fault("bitespeed", fault="hang")
    coupon = {
        "user_name": "Riya", "user_mobile": "9800000001", "value": "ACME-7Q2P", "fiat_value": 200,
        "expire": "2099-12-31T18:29:59Z",
    }  # fmt: skip
    async with open_relay(RELAY_SHUTDOWN_GRACE="1s") as relay:
        (slow,) = (await relay.post(coupon, topic="coupon_create")).json()["deliveries"]
        await relay.wait_for(slow["id"], "sending")
        await relay.wait_for(await post(relay, coins(2)), "accepted")
        assert (await relay.delivery(slow["id"]))["state"] == "sending"


async def test_sends_that_are_open_at_shutdown_are_finished(open_relay: Callable[..., Any], sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", latency_ms=300)
    async with open_relay() as relay:
        id_ = await post(relay)
        await relay.wait_for(id_, "sending")
    async with open_relay() as relay:
        assert (await relay.delivery(id_))["state"] == "accepted"
    assert await send_count(sandbox) == 1


async def test_sends_that_outlast_the_grace_period_are_unknown(open_relay: Callable[..., Any], sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="hang")
    async with open_relay(RELAY_SHUTDOWN_GRACE="1s") as relay:
        id_ = await post(relay)
        await relay.wait_for(id_, "sending")
    await sandbox.clear_faults()
    async with open_relay() as relay:
        delivery = await relay.delivery(id_)
        assert (delivery["state"], delivery["reason"]) == ("unknown", "process_died")
    assert await send_count(sandbox) == 1


async def test_a_failing_provider_is_asked_gently(open_relay: Callable[..., Any], sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=500)
    async with open_relay(RELAY_CONFIG_YAML=one_route("")) as relay:
        for number in range(60):
            await post(relay, coins(number))
        # At 50/s sixty would be asked in little more than a second; after five failures in a row nothing is for 30 s.
        seen, before = 0, -1
        while seen == 0 or seen != before:
            before = seen
            await asyncio.sleep(1)
            seen = (await sandbox.counts())["seen"].get("gallabox", 0)
        assert seen < 50


async def test_what_waits_is_sent_once_the_relay_is_back(open_relay: Callable[..., Any], sandbox: Any) -> None:
    async with open_relay() as relay:
        await relay.ops("PUT", "/holds/provider:gallabox")
        id_ = await post(relay)
    async with open_relay() as relay:
        assert (await relay.delivery(id_))["state"] == "held"
        await relay.ops("DELETE", "/holds/provider:gallabox")
        await relay.wait_for(id_, "accepted")
    assert await send_count(sandbox) == 1
