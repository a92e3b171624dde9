"""`GET /status`: one answer to "how is it now"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from app.delivery.status import Status
from app.errors import StoreError
from tests.conftest import ROOT

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


async def read(relay: Any) -> Status:
    answer = await relay.ops("GET", "/status")
    assert answer.status_code == 200
    return Status.model_validate(answer.json())


async def test_a_relay_that_is_well_needs_nobody(relay: Any) -> None:
    answer = await relay.post(COINS)
    await relay.wait_for(answer.json()["deliveries"][0]["id"], "accepted")
    status = await read(relay)
    assert status.needs == []
    assert status.config.hash == relay.rules.read_hash()
    assert (status.config.mode, status.config.refused) == ("live", None)
    assert status.last_event is not None
    assert (status.last_event.id, status.last_event.topic) == (answer.json()["event_id"], "walletreward_create")
    assert {lane.provider: (lane.state, lane.waiting) for lane in status.lanes} == {
        "gallabox": ("up", 0),
        "bitespeed": ("up", 0),
    }
    assert (status.lanes[0].accepted, status.lanes[0].reported) == (1, 0)
    assert status.store.can_commit
    assert status.store.size_bytes


async def test_what_was_refused_is_counted_by_reason(relay: Any) -> None:
    await relay.post(COINS, secret="another")
    await relay.post(b"[]")
    status = await read(relay)
    assert [(one.kind, one.reason, one.count) for one in status.refused] == [
        ("webhook", "422", 1),
        ("webhook", "other", 1),
    ]
    assert [need.what.split(":")[0] for need in status.needs] == [
        "webhooks were refused (422)",
        "webhooks were refused (other)",
    ]
    assert "RELAY_NECTOR_SECRETS" in status.needs[1].do
    assert "9800000001" not in status.model_dump_json()


async def test_a_provider_that_is_down_is_named_with_since_when_and_what_waits(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=500)
    answers = [await relay.post({**COINS, "user_mobile": f"98000000{n:02}"}) for n in range(10, 16)]
    ids = [answer.json()["deliveries"][0]["id"] for answer in answers]
    async with asyncio.timeout(60):
        while (status := await read(relay)).lanes[0].state != "down" or status.lanes[0].waiting < len(ids):
            await asyncio.sleep(0.01)
    lane = status.lanes[0]
    assert (lane.provider, lane.state) == ("gallabox", "down")
    assert lane.down_since
    assert lane.next_probe_at
    assert lane.down_since < lane.next_probe_at
    assert "gallabox is down since" in status.needs[0].what


async def test_what_is_dead_is_counted_until_it_needs_nobody(relay: Any) -> None:
    await relay.post({"user_name": "Riya", "user_mobile": "9800000001"})
    status = await read(relay)
    assert [(one.state, one.reason, one.count) for one in status.unhandled] == [("dead", "variable_missing", 1)]
    assert "variable_missing" in status.needs[0].what


async def test_a_yaml_that_is_refused_is_told_until_it_is_mended(open_relay: Callable[..., Any], tmp_path: Any) -> None:
    path = tmp_path / "relay.yaml"
    good = (ROOT / "config/relay.yaml").read_text()
    last = len(good.splitlines()) + 1
    path.write_text(good)
    async with open_relay(RELAY_CONFIG=str(path)) as relay:
        path.write_text(good + "rotues: {}\n")
        assert (await relay.ops("POST", "/reload")).status_code == 422
        status = await read(relay)
        assert status.config.refused is not None
        assert f"{path}:{last}:1" in status.config.refused.faults[0]
        assert f"{path}:{last}:1" in status.needs[0].what
        path.write_text(good)
        await relay.ops("POST", "/reload")
        assert (await read(relay)).config.refused is None


async def test_an_outbox_that_does_not_answer_is_503(relay: Any, monkeypatch: Any) -> None:
    async def fail(*_given: Any, **_options: Any) -> Any:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(relay.outbox), "read", fail)
    assert (await relay.ops("GET", "/status")).status_code == 503
