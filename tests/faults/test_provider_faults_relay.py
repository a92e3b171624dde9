"""The same 24 faults through a running relay: how each delivery stands afterwards, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.model.delivery import Accepted, Outcome, Rejected, Retryable, Scope, Uncertain
from tests.faults.fault_sending import FaultProcess, open_server
from tests.faults.fault_server import ANSWERS, find_closed_port, open_fault
from tests.faults.fault_table import ROWS, Row

EACH = 20  # messages to each form of a fault
HOOK = "hook-1"

ACCOUNT = """
  {name}:
    type: gallabox
    channel_id: test
    api_key: ${{GALLABOX_API_KEY}}
    api_secret: ${{GALLABOX_API_SECRET}}
    webhook_secret: ${{HOOK}}
    base_url: {url}
    rate: 1000/s
    timeout: {timeout_ms}ms"""
ROUTE = """
  to-{name}:
    event: walletreward_create
    when: account == "{name}"
    provider: {name}
    template: coins_earned
    variables: {{name: user_name, coins: amount}}"""


def write_yaml(accounts: Mapping[str, tuple[str, int]]) -> str:
    """Return a YAML with an account and a route for each name: (URL, timeout in ms)."""
    providers = "".join(ACCOUNT.format(name=name, url=url, timeout_ms=ms) for name, (url, ms) in accounts.items())
    routes = "".join(ROUTE.format(name=name) for name in accounts)
    return f"version: 1\nproviders:{providers}\nroutes:{routes}\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FaultProcess]:
    (tmp_path / "tls").mkdir()
    async with open_server(tmp_path / "tls") as running:
        yield running


async def post_event(relay: Any, account: str, number: int) -> str:
    """Post one event that goes to `account`; return its delivery's id."""
    payload = {"user_name": "Riya", "user_mobile": f"98000000{number:02}", "amount": number, "account": account}
    answer = await relay.post(payload)
    assert answer.status_code == 202, answer.text
    (delivery,) = answer.json()["deliveries"]
    return str(delivery["id"])


async def list_rows(relay: Any, **wanted: str) -> list[dict[str, Any]]:
    answer = await relay.ops("GET", "/deliveries", params={"limit": "500", **wanted})
    rows: list[dict[str, Any]] = answer.json()["deliveries"]
    return rows


async def read_ambiguous(relay: Any) -> dict[str, int]:
    """Return nector_relay_ambiguous_total by provider."""
    text = (await relay.ops("GET", "/metrics")).text
    found = re.findall(r'^nector_relay_ambiguous_total{provider="(.+?)"} (\S+)$', text, re.MULTILINE)
    return {name: int(float(count)) for name, count in found if float(count)}


def name_account(row: Row) -> str:
    return "p-" + re.sub(r"[^a-z0-9]+", "-", row.answer.lower())


def expect_states(outcome: Outcome) -> set[tuple[str, str | None]]:
    """Return how a delivery may stand after such an outcome: (state, reason)."""
    match outcome:
        case Accepted():
            return {("accepted", None)}
        case Uncertain(reason=reason):
            return {("unknown", reason.value)}
        case Rejected(reason=reason, scope=Scope.MESSAGE):
            return {("dead", reason.value)}
        case Rejected(reason=reason):
            return {("held", reason.value)}
        case Retryable(reason=reason):
            return {("pending", reason.value), ("sending", None)}


async def test_24_faults_leave_every_delivery_as_the_table_says(
    open_relay: Callable[..., Any], server: FaultProcess
) -> None:
    rows = {name_account(row): row for row in ROWS}
    yaml = write_yaml({name: (server.urls[row.answer], row.timeout_ms) for name, row in rows.items()})
    ids: dict[str, list[str]] = {}
    async with open_relay(RELAY_CONFIG_YAML=yaml, HOOK=HOOK) as relay:
        for name in rows:  # all of a lane are to be claimed at once, before what happens to one slows the others
            assert (await relay.ops("PUT", f"/holds/provider:{name}")).is_success
        for name in rows:
            ids[name] = [await post_event(relay, name, number) for number in range(EACH)]
        assert await list_rows(relay, state="pending") == []
        for name in sorted(rows, key=lambda name: not rows[name].slow):
            await relay.ops("DELETE", f"/holds/provider:{name}")
            await wait_until_tried(relay, name)
        async with asyncio.timeout(30):
            while await list_rows(relay, state="sending"):
                await asyncio.sleep(0.05)
        counts = await server.count()
        wrong = [text for name, row in rows.items() async for text in find_wrong(relay, row, ids[name], counts)]
        ambiguous = await read_ambiguous(relay)
    uncertain = {name: EACH for name, row in rows.items() if isinstance(row.outcome, Uncertain)}
    print(  # noqa: T201  # the figures that bench/long-runs.md quotes
        f"figures: provider faults through the relay: {len(rows) * EACH} deliveries, {len(wrong)} wrong, "
        f"{sum(ambiguous.values())} counted as ambiguous of {sum(uncertain.values())}"
    )
    assert wrong == []
    assert ambiguous == uncertain


async def wait_until_tried(relay: Any, account: str) -> None:
    async with asyncio.timeout(30):
        while not all(row["attempts"] for row in await list_rows(relay, provider=account)):
            await asyncio.sleep(0.02)


async def find_wrong(
    relay: Any, row: Row, ids: list[str], counts: Mapping[str, tuple[int, Mapping[str, int]]]
) -> AsyncIterator[str]:
    """Yield what is not as the table says of a row's deliveries."""
    for id_ in ids:
        found, seen = await relay.delivery(id_), counts[row.answer][1].get(id_, 0)
        first = found["attempt_list"][0]
        reason = None if isinstance(row.outcome, Accepted) else row.outcome.reason.value
        kind = type(row.outcome).__name__.lower()
        if (first["outcome"], first["reason"], first["tries"]) != (kind, reason, row.tries):
            yield f"{row.answer}: {first}"
        if (found["state"], found["reason"]) not in expect_states(row.outcome):
            yield f"{row.answer}: {found['state']} {found['reason']}"
        # What the provider answered with "later" is asked again; everything else was asked exactly so often.
        again = isinstance(row.outcome, Retryable) and row.requests
        if not (seen >= row.requests if again else seen == row.requests):
            yield f"{row.answer}: the provider saw {id_} {seen} times"


def sign_receipt(delivery_id: str, status: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"localMessageId": delivery_id, "whatsapp": {"status": status}}).encode()
    signature = base64.b64encode(hmac.new(HOOK.encode(), body, hashlib.sha256).digest()).decode()
    return body, {"x-gallabox-signature": signature, "x-event-name": "Message.WA.Status.Received"}


async def test_accepted_and_never_answered_is_one_message_and_settled_by_its_receipt(
    open_relay: Callable[..., Any],
) -> None:
    """T1 of docs/decisions/2026-11-23-the-fault-model.md."""
    port = find_closed_port()
    async with open_fault(ANSWERS["accept and hang"]) as silent:
        accounts = {"silent": (f"http://127.0.0.1:{silent.port}", 2_000), "away": (f"http://127.0.0.1:{port}", 20_000)}
        async with open_relay(RELAY_CONFIG_YAML=write_yaml(accounts), HOOK=HOOK) as relay:
            settled, left, away = [
                await post_event(relay, name, n) for n, name in enumerate(("silent", "silent", "away"))
            ]
            for id_ in (settled, left):
                assert (await relay.wait_for(id_, "unknown"))["reason"] == "timed_out"
            assert {row["id"] for row in await list_rows(relay, state="unknown")} == {settled, left}
            assert await read_ambiguous(relay) == {"silent": 2}
            while (await relay.delivery(away))["attempts"] == 0:
                await asyncio.sleep(0.02)
            async with open_fault(ANSWERS["taken"], port=port) as back:
                await relay.wait_for(away, "accepted", seconds=40)
                assert back.count_by_id() == {away: 1}
            assert (await relay.delivery(away))["attempt_list"][0]["reason"] == "connect_failed"

            body, headers = sign_receipt(settled, "delivered")
            assert (await relay.client.post("/webhooks/silent", content=body, headers=headers)).status_code == 200
            shown = await relay.delivery(settled)
            assert (shown["state"], shown["reason"], shown["receipt"]) == ("accepted", None, "delivered")
            assert {row["id"] for row in await list_rows(relay, state="unknown")} == {left}
        assert silent.count_by_id() == Counter({settled: 1, left: 1})


async def test_control_the_relay_that_takes_a_timeout_for_not_sent_writes_twice(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control of the test above."""
    monkeypatch.setattr("app.providers.client.Uncertain", Retryable)
    async with open_fault(ANSWERS["accept and hang"]) as silent:
        yaml = write_yaml({"silent": (f"http://127.0.0.1:{silent.port}", 1_000)})
        async with open_relay(RELAY_CONFIG_YAML=yaml, HOOK=HOOK) as relay:
            id_ = await post_event(relay, "silent", 0)
            async with asyncio.timeout(40):
                while silent.count_by_id()[id_] < 2:
                    await asyncio.sleep(0.02)
            assert await list_rows(relay, state="unknown") == []
