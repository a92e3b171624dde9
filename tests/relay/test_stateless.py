"""The stateless mode: the source is answered once the provider has the message, or is told to try again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


@pytest.fixture
async def stateless(open_relay: Callable[..., Any]) -> AsyncIterator[Any]:
    async with open_relay(RELAY_DATABASE_URL="none") as relay:
        yield relay


async def sent(sandbox: Any) -> int:
    return sum((await sandbox.counts())["deliveries"].values())


async def test_an_accepted_message_is_200(stateless: Any, sandbox: Any) -> None:
    answer = await stateless.post(COINS)
    assert answer.status_code == 200
    assert answer.json()["status"] == "accepted"
    assert [row["state"] for row in answer.json()["deliveries"]] == ["accepted"]
    assert await sent(sandbox) == 1


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"fault": "status", "status": 503}, 503),
        ({"fault": "status", "status": 429}, 503),
        ({"fault": "status", "status": 500}, 503),
        ({"fault": "status", "status": 401}, 503),
        ({"fault": "status", "status": 504}, 502),
        ({"fault": "reset_after"}, 502),
        ({"fault": "html"}, 502),
    ],
)
async def test_what_was_not_accepted_is_said_to_the_source(
    stateless: Any, sandbox: Any, fault: dict[str, Any], status: int
) -> None:
    await sandbox.set_fault("gallabox", **fault)
    answer = await stateless.post(COINS)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) > 0


async def test_an_unreachable_provider_is_503(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_DATABASE_URL="none", GALLABOX_BASE_URL="http://127.0.0.1:9") as relay:
        assert (await relay.post(COINS)).status_code == 503


async def test_a_provider_that_hangs_is_502_before_the_source_gives_up(
    stateless: Any, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.relay.stateless.LONGEST_S", 0.2)
    await sandbox.set_fault("gallabox", fault="hang")
    async with asyncio.timeout(12):
        assert (await stateless.post(COINS)).status_code == 502


async def test_the_sources_retry_is_sent_where_the_first_was_surely_not(stateless: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=503, times=1)
    answers = [(await stateless.post(COINS, delivery_id="again")).status_code for _ in range(2)]
    assert answers == [503, 200]
    assert await sent(sandbox) == 1


async def test_a_retry_of_what_was_accepted_is_not_sent_again(stateless: Any, sandbox: Any) -> None:
    for _ in range(3):
        assert (await stateless.post(COINS, delivery_id="same")).status_code == 200
    assert await sent(sandbox) == 1


async def test_parallel_copies_are_sent_once(stateless: Any, sandbox: Any) -> None:
    answers = await asyncio.gather(*(stateless.post(COINS, delivery_id="copy") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert await sent(sandbox) == 1


HOLDING = """
version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: c
    api_key: ${{GALLABOX_API_KEY}}
    api_secret: ${{GALLABOX_API_SECRET}}
    base_url: ${{GALLABOX_BASE_URL}}
routes:
  coins:
    event: walletreward_create
    provider: gallabox
    template: coins_earned
    variables: {{name: user_name, coins: amount}}
    on_unknown: {policy}
"""


@pytest.mark.parametrize(("policy", "answers", "times"), [("hold", [502, 200], 1), ("resend", [502, 200], 2)])
async def test_only_a_route_that_says_resend_sends_what_is_unknown_again(
    open_relay: Callable[..., Any], sandbox: Any, policy: str, answers: list[int], times: int
) -> None:
    await sandbox.set_fault("gallabox", fault="reset_after", times=1)
    async with open_relay(RELAY_DATABASE_URL="none", RELAY_CONFIG_YAML=HOLDING.format(policy=policy)) as relay:
        seen = [await relay.post(COINS, delivery_id="unsure") for _ in range(2)]
    assert [answer.status_code for answer in seen] == answers
    assert [answer.json()["deliveries"][0]["state"] for answer in seen if answer.status_code == 200] == [
        "unknown" if policy == "hold" else "accepted"
    ]
    assert await sent(sandbox) == times


@pytest.mark.parametrize("payload", [{**COINS, "user_mobile": "12"}, {**COINS, "amount": ""}])
async def test_a_message_that_can_never_be_sent_is_not_asked_for_again(stateless: Any, payload: Any) -> None:
    answer = await stateless.post(payload)
    assert (answer.status_code, answer.json()["deliveries"][0]["state"]) == (200, "dead")


async def test_an_unrouted_event_is_202(stateless: Any) -> None:
    answer = await stateless.post(COINS, topic="lead_create")
    assert (answer.status_code, answer.json()["status"]) == (202, "unrouted")


async def test_there_is_no_list_of_deliveries_but_there_are_metrics(stateless: Any) -> None:
    await stateless.post(COINS)
    assert (await stateless.ops("GET", "/deliveries")).status_code == 404
    assert (
        'nector_relay_attempts_total{outcome="accepted",provider="gallabox",reason=""} 1.0'
        in (await stateless.ops("GET", "/metrics")).text
    )
    assert (await stateless.client.get("/readyz")).status_code == 200
