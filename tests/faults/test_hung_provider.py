"""One provider hangs with a long queue behind it: the other's customers notice nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

QUEUED = 500
PROMPT = 40
PATIENT_S = 60.0  # as long as a busy machine may need; what hangs does so for longer

YAML = """
version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: ${GALLABOX_CHANNEL_ID}
    api_key: ${GALLABOX_API_KEY}
    api_secret: ${GALLABOX_API_SECRET}
    base_url: ${GALLABOX_BASE_URL}
    rate: 50/s
  bitespeed:
    type: bitespeed
    base_url: ${BITESPEED_BASE_URL}
    channel_id: ${BITESPEED_CHANNEL_ID}
    user_id: ${BITESPEED_USER_ID}
    timeout: 2m
    rate: 50/s
routes:
  coins:
    event: walletreward_create
    provider: gallabox
    template: coins_earned
    variables: {name: user_name, coins: amount}
  coupon:
    event: coupon_create
    provider: bitespeed
    template: tpl_4711
    variables: [user_name, value, value]
    buttons: [{index: 0, copy_code: value}]
"""


async def post(relay: Any, topic: str, number: int) -> str:
    payload = {"user_name": "Riya", "user_mobile": f"98000000{number % 100:02}", "amount": number, "value": str(number)}
    (delivery,) = (await relay.post(payload, topic)).json()["deliveries"]
    return str(delivery["id"])


async def time_deliveries(relay: Any, topic: str, wait_s: float) -> list[float]:
    """Return how long each of PROMPT deliveries took to be accepted; `wait_s` where one was not by then."""

    async def one(number: int) -> float:
        await asyncio.sleep(number * 0.03)
        posted_at = time.monotonic()
        id_ = await post(relay, topic, number)
        try:
            await relay.wait_for(id_, "accepted", seconds=wait_s)
        except TimeoutError:
            return wait_s
        return time.monotonic() - posted_at

    return sorted(await asyncio.gather(*(one(number) for number in range(PROMPT))))


@pytest.mark.parametrize(
    ("topic", "limit_s", "late"), [("walletreward_create", PATIENT_S, 0), ("coupon_create", 1.0, PROMPT)]
)
async def test_a_provider_that_hangs_with_a_long_queue_does_not_delay_the_others_deliveries(
    open_relay: Callable[..., Any], sandbox: Any, topic: str, limit_s: float, late: int
) -> None:
    """The second row is the known-bad control: deliveries that do share the lane of what hangs."""
    await sandbox.set_fault("bitespeed", fault="hang")
    async with open_relay(RELAY_CONFIG_YAML=YAML, RELAY_SHUTDOWN_GRACE="1s", RELAY_LOG_LEVEL="error") as relay:
        queued = [await post(relay, "coupon_create", number) for number in range(QUEUED)]
        took = await time_deliveries(relay, topic, limit_s)
        print(  # noqa: T201  # the figures that bench/long-runs.md quotes
            f"figures: {QUEUED} queued at a provider that hangs, {topic}: p50={took[len(took) // 2] * 1000:.0f} ms "
            f"p95={took[int(len(took) * 0.95)] * 1000:.0f} ms longest={took[-1] * 1000:.0f} ms"
        )
        assert sum(seconds >= limit_s for seconds in took) == late
        # All the while the other hung: whoever waited for it would be waiting still.
        assert [(await relay.delivery(id_))["state"] for id_ in (queued[0], queued[-1])] == ["sending", "pending"]
