"""`/metrics` of a running relay: its counts are the store's, its labels bounded, and nothing makes it fail."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from app.errors import StoreError
from tests.outbox.methods import break_store

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


async def scrape(relay: Any) -> dict[str, float]:
    """Return every sample by its name and labels, as they are written."""
    answer = await relay.ops("GET", "/metrics")
    assert answer.status_code == 200
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def pick(samples: dict[str, float], name: str) -> dict[str, float]:
    """Return the samples of one metric that are not 0, by their labels' values in the order of their names."""
    found = {key: value for key, value in samples.items() if key.startswith(f"{name}{{") and value}
    return {" ".join(re.findall(r'"([^"]*)"', key)): value for key, value in found.items()}


def number(index: int) -> dict[str, str]:
    return {**COINS, "user_mobile": f"98000000{index:02}"}


async def test_the_counts_are_those_of_the_timelines(relay: Any, sandbox: Any) -> None:
    async def post(index: int, *states: str) -> str:
        id_ = str((await relay.post(number(index))).json()["deliveries"][0]["id"])
        await relay.wait_for(id_, *states)
        return id_

    await post(1, "accepted")
    await relay.post({"user_mobile": "123", "amount": 1, "user_name": "Riya"})  # dead at once
    await sandbox.set_fault("gallabox", fault="reset_after")
    unknown = await post(2, "unknown")
    await sandbox.set_fault("gallabox", fault="status", status=400)
    await post(3, "dead")
    await sandbox.clear_faults()
    assert (await relay.ops("POST", f"/deliveries/{unknown}/retry")).is_success
    await relay.wait_for(unknown, "accepted")
    rows = (await relay.ops("GET", "/deliveries")).json()["deliveries"]
    expected: Counter[str] = Counter()
    for row in rows:
        timeline = (await relay.delivery(row["id"]))["timeline"]
        states = [each["value"] for each in timeline if each["kind"] == "state" and each["value"] != "sending"]
        expected.update(f"{row['provider']} {row['route']} {state}" for state in states)
    samples = await scrape(relay)
    assert pick(samples, "nector_relay_deliveries_total") == expected
    standing = Counter(f"{row['provider']} {row['state']}" for row in rows)
    assert pick(samples, "nector_relay_outbox_deliveries") == standing
    assert pick(samples, "nector_relay_ambiguous_total") == {"gallabox": 1}
    assert pick(samples, "nector_relay_events_total") == {"accepted walletreward_create": 4}
    assert samples["nector_relay_event_to_accepted_seconds_count"] == 2
    assert samples['nector_relay_send_seconds_count{provider="gallabox"}'] == 4
    assert samples["nector_relay_accept_seconds_count"] == 4


async def test_a_thousand_strangers_make_no_new_series(relay: Any) -> None:
    await relay.post(COINS, topic="strange")
    await relay.client.post("/webhooks/nector", content=b"{}")
    before = set(await scrape(relay))
    for index in range(1_000):
        await relay.post({"x": index}, topic=f"topic_{index}")
        if index % 10 == 0:  # the rest of what a stranger may choose
            await relay.client.post(f"/webhooks/provider-{index}", content=b"{}")
            await relay.client.post("/webhooks/nector", content=b"{}", headers={"x-nector-topic": f"t-{index}"})
            await relay.post(f"[{index}".encode(), topic=f"t-{index}")
            await relay.client.post(
                "/webhooks/gallabox", json={"status": f"s-{index}"}, headers={"x-event-name": f"e-{index}"}
            )
            await relay.ops("PUT", f"/holds/route:r-{index}")
            await relay.ops("GET", f"/deliveries?route=r-{index}&provider=p-{index}")
    samples = await scrape(relay)
    new = {key for key in set(samples) - before if not key.startswith("nector_relay_hmac")}
    assert new <= {
        'nector_relay_events_total{result="refused",topic="other"}',
        'nector_relay_outbox_deliveries{provider="gallabox",state="accepted"}',
    }
    assert samples['nector_relay_events_total{result="unrouted",topic="other"}'] == 1_001
    assert not re.search(r"98000|Riya|topic_|t-\d|r-\d|p-\d", " ".join(samples))


async def test_a_topic_per_event_would_be_caught(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr("app.relay.intake.topic_label", str)
    before = set(await scrape(relay))
    for index in range(5):
        await relay.post({"x": index}, topic=f"topic_{index}")
    assert len(set(await scrape(relay)) - before) >= 5


async def test_each_provider_has_its_oldest_from_the_first_scrape_on(relay: Any) -> None:
    samples = await scrape(relay)
    assert {key: value for key, value in samples.items() if key.startswith("nector_relay_oldest_due_seconds")} == {
        'nector_relay_oldest_due_seconds{provider="gallabox"}': 0,
        'nector_relay_oldest_due_seconds{provider="bitespeed"}': 0,
    }


async def test_what_waits_shows_unless_it_is_held_and_also_after_a_restart(open_relay: Callable[..., Any]) -> None:
    async with open_relay() as relay:
        relay.relay.stop_claiming()
        await relay.post(COINS)
        await asyncio.sleep(0.02)
        assert list(pick(await scrape(relay), "nector_relay_oldest_due_seconds")) == ["gallabox"]
        await relay.ops("PUT", "/holds/route:coins-earned")
        samples = await scrape(relay)
        assert pick(samples, "nector_relay_oldest_due_seconds") == {}
        assert pick(samples, "nector_relay_holds") == {"route:coins-earned": 1}
        assert pick(samples, "nector_relay_hold_deliveries") == {"route:coins-earned": 1}
    async with open_relay() as relay:
        relay.relay.stop_claiming()
        assert pick(await scrape(relay), "nector_relay_oldest_due_seconds") == {}
        await relay.ops("DELETE", "/holds/route:coins-earned")
        assert pick(await scrape(relay), "nector_relay_oldest_due_seconds")["gallabox"] >= 0.02


async def test_the_stateless_mode_counts_what_it_sends_and_has_no_queue(
    open_relay: Callable[..., Any], sandbox: Any
) -> None:
    async with open_relay(RELAY_DATABASE_URL="none") as relay:
        await relay.post(COINS)
        await sandbox.set_fault("gallabox", fault="reset_after")
        await relay.post(number(2))
        samples = await scrape(relay)
    assert pick(samples, "nector_relay_deliveries_total") == {
        "gallabox coins-earned accepted": 1,
        "gallabox coins-earned unknown": 1,
    }
    assert pick(samples, "nector_relay_ambiguous_total") == {"gallabox": 1}
    assert samples["nector_relay_event_to_accepted_seconds_count"] == 1
    assert samples['nector_relay_send_seconds_count{provider="gallabox"}'] == 2
    assert not [key for key in samples if key.startswith(("relay_oldest_due", "relay_outbox", "relay_hold"))]


async def test_a_restart_forgets_neither_counts_nor_when_a_topic_came(open_relay: Callable[..., Any]) -> None:
    async with open_relay() as relay:
        await relay.post({"user_mobile": "123", "amount": 1, "user_name": "Riya"})
        before = await scrape(relay)
    async with open_relay() as relay:
        after = await scrape(relay)
        assert pick(after, "nector_relay_deliveries_total") == pick(before, "nector_relay_deliveries_total") != {}
        name = "nector_relay_last_event_timestamp_seconds"
        assert pick(after, name) == pick(before, name) != {}


async def fail(*_: Any) -> Any:
    raise StoreError("the disk is full")


async def hang(*_: Any) -> Any:
    await asyncio.sleep(60)


@pytest.mark.parametrize("broken", [fail, hang])
@pytest.mark.parametrize("method", ["count_deliveries", "count_reached", "list_holds", "find_oldest_due"])
async def test_a_store_that_cannot_answer_costs_no_scrape(
    relay: Any, monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable[..., Any]
) -> None:
    monkeypatch.setattr("app.relay.dispatcher.LONGEST_COUNT_S", 0.1)
    await relay.post({"user_mobile": "123", "amount": 1, "user_name": "Riya"})
    before = await scrape(relay)
    break_store(monkeypatch, relay.outbox, broken, method)
    await relay.post({"x": 1}, topic="strange")
    after = await scrape(relay)
    assert after['nector_relay_store_errors_total{work="scrape"}'] == 1
    assert after['nector_relay_events_total{result="unrouted",topic="other"}'] == 1
    for name in ("nector_relay_outbox_deliveries", "nector_relay_deliveries_total", "nector_relay_oldest_due_seconds"):
        assert pick(after, name) == pick(before, name)


async def test_many_scrapes_at_once_see_the_same(relay: Any) -> None:
    relay.relay.stop_claiming()
    await relay.ops("PUT", "/holds/route:coins-earned")
    for index in range(5):
        await relay.post(number(index))
    found = await asyncio.gather(*(scrape(relay) for _ in range(20)))
    for samples in found:
        assert pick(samples, "nector_relay_outbox_deliveries") == {"gallabox pending": 5}
        assert pick(samples, "nector_relay_hold_deliveries") == {"route:coins-earned": 5}
        assert len([key for key in samples if key.startswith("nector_relay_oldest_due_seconds")]) == 2


async def test_a_store_that_cannot_commit_is_counted_by_what_it_was_wanted_for(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_store(monkeypatch, relay.outbox, fail, "add_events", "claim_each")
    assert (await relay.post(COINS)).status_code == 503
    relay.relay.dispatcher.wake_all()
    async with asyncio.timeout(40):
        while set(pick(await scrape(relay), "nector_relay_store_errors_total")) != {"accept", "claim"}:
            await asyncio.sleep(0.02)
    assert pick(await scrape(relay), "nector_relay_events_total") == {"unavailable other": 1}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/plain"}, b"{}"),
        ({"content-encoding": "gzip"}, b"{}"),
        ({}, b"x" * 65_537),
        ({}, b"[]"),
    ],
)
async def test_whatever_is_refused_is_counted(relay: Any, headers: dict[str, str], body: bytes) -> None:
    signed = {"content-type": "application/json", **_sign(), **headers}
    answer = await relay.client.post("/webhooks/nector", content=body, headers=signed)
    assert answer.status_code in {400, 413, 415, 422}
    assert pick(await scrape(relay), "nector_relay_events_total") == {"refused other": 1}


def _sign() -> dict[str, str]:
    return {"x-nector-topic": "walletreward_create", "x-nector-webhook-secret": sha256(b"test-secret").hexdigest()}
