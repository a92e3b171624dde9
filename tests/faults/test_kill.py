"""kill -9 in the middle of 500 events: what was acknowledged is sent once, or is `unknown`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

EVENTS = 500
SENDERS = 32
ACCOUNTS = 5  # one number gets a message every 6 s per account: five accounts and a hundred numbers make 500
CONCURRENCY = 8
KILL_AFTER = 250

ACCOUNT = """
  gallabox{n}:
    type: gallabox
    channel_id: test
    api_key: ${{GALLABOX_API_KEY}}
    api_secret: ${{GALLABOX_API_SECRET}}
    base_url: ${{GALLABOX_BASE_URL}}
    rate: 200/s
    concurrency: {concurrency}"""
ROUTE = """
  coins-{n}:
    event: walletreward_create
    when: account == {n}
    provider: gallabox{n}
    template: {template}
    variables: {variables}"""


@dataclass
class Ledger:
    """What the senders were told: delivery ids by event number."""

    acknowledged: dict[int, str] = field(default_factory=dict)

    async def post(self, client: httpx2.AsyncClient, url: str, number: int) -> None:
        """Post one event until it is answered or the relay is gone."""
        payload = {"user_name": "Riya", "user_mobile": f"98000000{number % 100:02}", "amount": number}
        body = json.dumps({**payload, "account": number // 100}).encode()
        answer = await client.post(f"{url}/webhooks/nector", content=body, headers=sign_event(body, f"kill-{number}"))
        assert answer.status_code in {200, 202}, answer.text
        (delivery,) = answer.json()["deliveries"]
        assert self.acknowledged.setdefault(number, delivery["id"]) == delivery["id"]


def sign_event(body: bytes, delivery_id: str) -> dict[str, str]:
    del body
    return {
        "content-type": "application/json",
        "x-nector-topic": "walletreward_create",
        "x-nector-delivery-id": delivery_id,
    }


@pytest.fixture
def kill_environment(environment: Mapping[str, str]) -> dict[str, str]:
    accounts = "".join(ACCOUNT.format(n=n, concurrency=CONCURRENCY) for n in range(ACCOUNTS))
    routes = "".join(
        ROUTE.format(n=n, template=TEMPLATE, variables=json.dumps(dict(VARIABLES))) for n in range(ACCOUNTS)
    )
    yaml = f"version: 1\nproviders:{accounts}\nroutes:{routes}\n"
    return {**environment, "RELAY_CONFIG_YAML": yaml, "RELAY_INSECURE_NO_AUTH": "true", "RELAY_NECTOR_SECRETS": ""}


TEMPLATE = "coins_earned"
VARIABLES = (("name", "user_name"), ("coins", "amount"))


async def post_all(ledger: Ledger, url: str, numbers: list[int], stop_at: int, on_stop: Callable[[], Any]) -> None:
    """Post with many senders; once `stop_at` are acknowledged, call `on_stop` once and let the others fail."""
    waiting = list(reversed(numbers))
    stopped = asyncio.Event()

    async def sender(client: httpx2.AsyncClient) -> None:
        while waiting and not stopped.is_set():
            try:
                await ledger.post(client, url, waiting.pop())
            except httpx2.TransportError:
                assert stopped.is_set()
                return
            if len(ledger.acknowledged) >= stop_at and not stopped.is_set():
                stopped.set()
                await on_stop()

    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        await asyncio.gather(*(sender(client) for _ in range(SENDERS)))


async def states(url: str, token: str) -> dict[str, str]:
    """Return every delivery's state by id."""
    found: dict[str, str] = {}
    cursor: str | None = None
    async with httpx2.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {token}"}) as client:
        while True:
            query = {"limit": "500", **({"cursor": cursor} if cursor else {})}
            page = (await client.get(f"{url}/deliveries", params=query)).json()
            found.update({row["id"]: row["state"] for row in page["deliveries"]})
            cursor = page["next_cursor"]
            if cursor is None:
                return found


async def run_kill(
    start_relay: Callable[..., Any],
    environment: Mapping[str, str],
    sandbox: Any,
    first: str | None = None,
    second: str | None = None,
    **slow: Any,
) -> tuple[Ledger, dict[str, str], dict[str, int]]:
    """Kill in the middle, restart, send the rest as Nector would; return who was told what, states and counts.

    `first` and `second`: what is broken in the relay before and after the kill. `slow`: why the provider has
    requests open at the kill.
    """
    await sandbox.set_fault("gallabox", **(slow or {"latency_ms": 100}))
    ledger = Ledger()
    token = environment["RELAY_ADMIN_TOKEN"]
    async with start_relay(environment, first) as relay:
        await post_all(ledger, relay.url, list(range(EVENTS)), KILL_AFTER, relay.kill)
    await sandbox.clear_faults()
    async with start_relay(environment, second) as relay:
        rest = [number for number in range(EVENTS) if number not in ledger.acknowledged]
        await post_all(ledger, relay.url, rest, EVENTS + 1, relay.kill)
        async with asyncio.timeout(60):
            while {"pending", "sending"} & set((found := await states(relay.url, token)).values()):
                await asyncio.sleep(0.1)
    return ledger, found, (await sandbox.counts())["deliveries"]


@pytest.mark.timeout(180)
async def test_what_was_acknowledged_before_a_kill_is_sent_exactly_once_or_is_unknown(
    start_relay: Callable[..., Any], kill_environment: Mapping[str, str], sandbox: Any
) -> None:
    ledger, found, sent = await run_kill(start_relay, kill_environment, sandbox)
    assert len(ledger.acknowledged) == EVENTS
    lost = [id_ for id_ in ledger.acknowledged.values() if id_ not in found]
    wrong = {id_: (found[id_], sent.get(id_, 0)) for id_ in found if not _is_right(found[id_], sent.get(id_, 0))}
    unknown = [id_ for id_, state in found.items() if state == "unknown"]
    print(f"kill -9: {EVENTS} acknowledged, {len(lost)} lost, {len(wrong)} wrong, {len(unknown)} unknown")  # noqa: T201  # the figure that a release note quotes
    assert not lost
    assert not wrong
    assert len(unknown) <= ACCOUNTS * CONCURRENCY


@pytest.mark.timeout(180)
async def test_the_kill_test_notices_a_relay_that_resends_what_was_in_flight(
    start_relay: Callable[..., Any], kill_environment: Mapping[str, str], sandbox: Any
) -> None:
    """The known-bad control of the test above, for doubling."""
    # Accepted and never answered: whatever is open at the kill has surely been sent.
    slow = {"fault": "hang"}
    _, _, sent = await run_kill(start_relay, kill_environment, sandbox, second="resend_open", **slow)
    assert max(sent.values()) > 1


@pytest.mark.timeout(180)
async def test_the_kill_test_notices_a_relay_that_acknowledges_first(
    start_relay: Callable[..., Any], kill_environment: Mapping[str, str], sandbox: Any
) -> None:
    """The known-bad control of the test above, for losing."""
    ledger, found, _ = await run_kill(start_relay, kill_environment, sandbox, first="acknowledge_first")
    assert [id_ for id_ in ledger.acknowledged.values() if id_ not in found]


def _is_right(state: str, times: int) -> bool:
    return times <= 1 if state == "unknown" else (state, times) == ("accepted", 1)


def test_the_bundled_templates_still_hold_the_one_used_here() -> None:
    text = (Path(__file__).parents[2] / "config/templates.yaml").read_text()
    assert f"  {TEMPLATE}:" in text
