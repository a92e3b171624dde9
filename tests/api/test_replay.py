"""`POST /replay` with a real outbox and the sandbox: a plan sends nothing, its apply sends exactly that, once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.delivery.replay import Draft, Verdict
from app.errors import Refusal, StoreFull
from app.outbox import replay as replaying
from app.outbox.replay import EventQuery
from app.outbox.retention import wipe_payloads
from app.relay import replay
from tests.outbox.methods import break_store, keep_no_gap

DAY = 86_400_000
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
HEAD = """
version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: c
    api_key: ${GALLABOX_API_KEY}
    api_secret: ${GALLABOX_API_SECRET}
    base_url: ${GALLABOX_BASE_URL}
    rate: 1000/s
routes:
"""
ROUTE = (
    "  {name}: {{event: {event}, provider: gallabox, template: {template}, language: en, variables: {filled}{more}}}\n"
)
TEMPLATES = {"coins": "coins_earned", "dies": "coins_unused", "coupon": "review_thanks"}  # of the sandbox
Open = Callable[[], AbstractAsyncContextManager[Any]]


def write_route(
    name: str = "coins", variable: str = "amount", more: str = "", event: str = "walletreward_create"
) -> str:
    template = TEMPLATES.get(name, name)
    filled = f"{{name: {variable}}}" if template == "review_thanks" else f"{{name: user_name, coins: {variable}}}"
    return ROUTE.format(name=name, event=event, template=template, filled=filled, more=more and f", {more}")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    path = tmp_path / "config/relay.yaml"
    path.write_text(HEAD + write_route())
    return path


@pytest.fixture
def open_shop(open_relay: Callable[..., Any], config: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    @asynccontextmanager
    async def open_one() -> AsyncIterator[Any]:
        async with open_relay(RELAY_CONFIG=str(config)) as relay:
            keep_no_gap(monkeypatch)  # the pause between two messages to one person is not the subject
            yield relay

    return open_one


@pytest.fixture
async def shop(open_shop: Open) -> AsyncIterator[Any]:
    async with open_shop() as relay:
        yield relay


async def change(relay: Any, config: Path, *routes: str) -> None:
    config.write_text(HEAD + "".join(routes))
    answer = await relay.ops("POST", "/reload")
    assert answer.is_success, answer.text


async def post(relay: Any, topic: str = "walletreward_create", **payload: Any) -> dict[str, Any]:
    """Post an event; return the answer."""
    answer: dict[str, Any] = (await relay.post({**COINS, **payload}, topic)).json()
    return answer


async def make_plan(relay: Any, **wanted: Any) -> dict[str, Any]:
    answer = await relay.ops("POST", "/replay", json=wanted)
    assert answer.status_code == 200, answer.text
    plan: dict[str, Any] = answer.json()
    assert plan["counts"] == Counter(entry["verdict"] for entry in plan["entries"])
    return plan


async def apply(relay: Any, plan: dict[str, Any]) -> Any:
    return await relay.ops("POST", "/replay", json={"apply": plan["plan_id"]})


async def settle(relay: Any, sandbox: Any, messages: int) -> list[dict[str, Any]]:
    """Return the sandbox's messages once there are so many, and nothing is on its way any more."""
    async with asyncio.timeout(20):
        while (
            len(await sandbox.messages()) < messages or await count(relay, "pending") or await count(relay, "sending")
        ):
            await asyncio.sleep(0.02)
    found: list[dict[str, Any]] = await sandbox.messages()
    assert len(found) == messages
    return found


async def count(relay: Any, state: str) -> int:
    return len((await relay.ops("GET", "/deliveries", params={"state": state})).json()["deliveries"])


async def test_a_dead_event_is_planned_with_the_mended_yaml_and_sent_by_its_apply_alone(
    shop: Any, sandbox: Any, config: Path
) -> None:
    await change(shop, config, write_route(variable="coins"))
    answer = await post(shop)
    (dead,) = answer["deliveries"]
    assert dead["state"] == "dead"
    await change(shop, config, write_route(variable="amount"))
    plan = await make_plan(shop, state="dead")
    assert plan["entries"] == [
        {
            "event_id": answer["event_id"], "topic": "walletreward_create", "route": "coins", "verdict": "send",
            "reason": "variable_missing", "detail": "", "delivery_id": dead["id"],
        }
    ]  # fmt: skip
    assert plan["config_hash"] == shop.rules.read_hash()
    assert plan["created_at"].endswith("Z")
    assert (plan["complete"], plan["unlisted"]) == (True, 0)
    assert await sandbox.messages() == []
    applied = (await apply(shop, plan)).json()
    (new,) = applied["deliveries"]
    assert new == {
        "id": new["id"], "event_id": answer["event_id"], "route": "coins", "provider": "gallabox", "state": "pending"
    }  # fmt: skip
    assert (applied["counts"], applied["left_out"]) == ({"send": 1}, [])
    sent = await shop.wait_for(new["id"], "accepted")
    assert sent["timeline"][0]["detail"] == f"replayed by plan {plan['plan_id']}"
    assert [step["value"] for step in sent["timeline"]] == ["pending", "sending", "accepted"]
    assert sent["config_hash"] == plan["config_hash"]
    await settle(shop, sandbox, 1)
    mended = await shop.delivery(dead["id"])
    assert (mended["state"], mended["reason"]) == ("dead", "replayed")
    assert mended["timeline"][0]["reason"] == "variable_missing", "what it died of stays told"
    assert await count(shop, "dead") == 0
    reasons = await shop.ops("GET", "/deliveries/reasons", params={"state": "dead"})
    assert reasons.json() == {"reasons": []}
    total = (await shop.ops("GET", "/report")).json()["total"]
    assert (total["received"], total["accepted"], total["dead"]) == (1, 1, 0)


async def test_what_a_replay_could_not_mend_is_one_dead_message_and_not_two(shop: Any, config: Path) -> None:
    await change(shop, config, write_route(variable="coins"))
    (dead,) = (await post(shop))["deliveries"]
    await change(shop, config, write_route(variable="amount"))
    plan = await make_plan(shop, state="dead")
    assert await count(shop, "dead") == 1, "a plan alone mends nothing"
    (new,) = (await apply(shop, plan)).json()["deliveries"]
    await shop.wait_for(new["id"], "accepted")
    with closing(sqlite3.connect(shop.outbox.path)) as db, db:
        db.execute("UPDATE deliveries SET state = 'dead', reason = 'request_refused' WHERE id = ?", [new["id"]])
    rows = (await shop.ops("GET", "/deliveries", params={"state": "dead"})).json()["deliveries"]
    assert [(row["id"], row["reason"]) for row in rows] == [(new["id"], "request_refused")]
    assert (await shop.delivery(dead["id"]))["reason"] == "replayed"


async def test_a_second_apply_is_409_and_sends_nothing_also_after_a_restart(
    open_shop: Open, sandbox: Any, config: Path
) -> None:
    async with open_shop() as shop:
        await change(shop, config, write_route(event="order_create"))
        await post(shop)
        await change(shop, config, write_route())
        plan = await make_plan(shop, state="unrouted")
        assert (await apply(shop, plan)).status_code == 200
        again = await apply(shop, plan)
        assert again.status_code == 409
        assert "applied already" in again.json()["detail"]
        await settle(shop, sandbox, 1)
    async with open_shop() as shop:
        assert (await apply(shop, plan)).status_code == 409
        assert (await make_plan(shop, since="1d"))["counts"] == {"accepted": 1}
        await settle(shop, sandbox, 1)


async def test_of_ten_applies_at_once_one_sends(shop: Any, sandbox: Any, config: Path) -> None:
    await change(shop, config, write_route(event="order_create"))
    for number in range(5):
        await post(shop, user_mobile=f"980000001{number}")
    await change(shop, config, write_route())
    plan = await make_plan(shop, route="coins", state="unrouted")
    answers = await asyncio.gather(*[apply(shop, plan) for _ in range(10)])
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    await settle(shop, sandbox, 5)


async def test_a_plan_that_is_not_marked_applied_would_send_twice(
    shop: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control: neither the mark nor the look at what is there."""
    monkeypatch.setattr(
        replaying, "_MARK_APPLIED", "UPDATE plans SET applied_at = :now WHERE id = :id AND :since < :now"
    )
    monkeypatch.setattr(replaying, "find_obstacle", lambda *_: None)
    await change(shop, config, write_route(event="order_create"))
    await post(shop)
    await change(shop, config, write_route())
    plan = await make_plan(shop, state="unrouted")
    answers = await asyncio.gather(*[apply(shop, plan) for _ in range(2)])
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len((await shop.ops("GET", "/deliveries")).json()["deliveries"]) == 2


async def test_a_plan_of_another_yaml_is_409(shop: Any, sandbox: Any, config: Path) -> None:
    await change(shop, config, write_route(event="order_create"))
    await post(shop)
    await change(shop, config, write_route())
    plan = await make_plan(shop, state="unrouted")
    await change(shop, config, write_route(), write_route("other", event="order_create"))
    refused = await apply(shop, plan)
    assert refused.status_code == 409
    assert "YAML has changed" in refused.json()["detail"]
    await change(shop, config, write_route())
    assert (await apply(shop, plan)).status_code == 200
    await settle(shop, sandbox, 1)


async def test_a_plan_that_is_unknown_or_a_day_old_is_404(shop: Any) -> None:
    assert (await apply(shop, {"plan_id": "nothing"})).status_code == 404
    plan = await make_plan(shop, since="1d")
    tomorrow = replace(shop.relay.context, clock=lambda: shop.clock() + DAY)
    refused = await replay.apply_plan(tomorrow, plan["plan_id"])
    assert isinstance(refused, Refusal)
    assert refused.http_status == 404


async def test_every_verdict_is_told_and_counted(shop: Any, sandbox: Any, config: Path) -> None:
    """One event for each; today's YAML sends one of them."""
    keyed = "dedup_by: code"
    await change(
        shop,
        config,
        write_route(),
        write_route("dies", "nothing", event="lead_create"),
        write_route("soon", event="lead_update", more="mode: shadow"),
        write_route("coupon", event="coupon_create", more=keyed),
    )
    numbers = iter(range(20, 40))
    expected: dict[str, str] = {}

    async def add(verdict: str, topic: str = "walletreward_create", **payload: Any) -> None:
        answer = await post(shop, topic, **{"user_mobile": f"98000000{next(numbers)}", **payload})
        expected[answer["event_id"]] = verdict
        for row in answer["deliveries"]:
            await shop.wait_for(row["id"], "accepted", "unknown", "dead", "shadow", "suppressed", "expired")

    await add("accepted")
    await sandbox.set_fault("gallabox", fault="reset_after", times=1)
    await add("unknown")
    await shop.ops("PUT", "/holds/route:coins")
    held = await post(shop, user_mobile="9800000041")
    expected[held["event_id"]] = "open"
    await add("dead", "lead_create", status="mended", code=None)
    await add("send", "lead_create", kind="mended")
    await add("shadow", "lead_update")
    await add("not_live", "review_create")
    await add("unrouted", "review_update")
    await add("expired", "order_create", expire="2020-01-01T00:00:00Z")
    same = {"user_mobile": "9800000042", "code": "ACME-7Q2P"}
    await add("accepted", "coupon_create", **same)
    await add("duplicate", "coupon_create", **same)
    await change(
        shop,
        config,
        write_route(),
        write_route("dies", "kind", event="lead_create"),
        write_route("soon", event="lead_update"),
        write_route("coupon", event="coupon_create", more=keyed),
        write_route("later", event="review_create", more="live_from: 2099-01-01T00:00:00Z"),
        write_route("order", event="order_create", more="valid_until: expire"),
    )
    plan = await make_plan(shop, since="1d")
    assert {entry["event_id"]: entry["verdict"] for entry in plan["entries"]} == expected
    before = len(await sandbox.messages())
    applied = (await apply(shop, plan)).json()
    assert len(applied["deliveries"]) == 1
    await shop.wait_for(applied["deliveries"][0]["id"], "accepted")
    assert len(await sandbox.messages()) == before + 1
    later = replace(shop.relay.context, clock=lambda: shop.clock() + 9 * DAY)
    await wipe_payloads(shop.outbox, later.clock())
    planned = await replay.make_plan(later, EventQuery(ids=list(expected)))
    assert isinstance(planned, dict)
    assert planned["counts"][Verdict.WIPED] > 5


async def test_going_live_sends_no_backlog_unless_it_is_asked_for(shop: Any, sandbox: Any, config: Path) -> None:
    await change(shop, config, write_route(more="mode: shadow"))
    ids = [(await post(shop, user_mobile=f"980000005{number}"))["event_id"] for number in range(3)]
    await change(shop, config, write_route())
    for wanted in ({"since": "1d"}, {"topic": "walletreward_create"}, {"events": ids}, {"route": "coins"}):
        assert (await make_plan(shop, **wanted))["counts"] == {"shadow": 3}
    plan = await make_plan(shop, events=ids[:2], state="shadow")
    assert plan["counts"] == {"send": 2}
    assert len((await apply(shop, plan)).json()["deliveries"]) == 2
    await settle(shop, sandbox, 2)
    assert (await make_plan(shop, state="shadow"))["counts"] == {"accepted": 2, "send": 1}


async def test_of_two_events_with_one_key_a_plan_sends_the_first(shop: Any, sandbox: Any, config: Path) -> None:
    await change(shop, config, write_route(event="order_create"))
    ids = [(await post(shop, code="ACME-7Q2P"))["event_id"] for _ in range(3)]
    await change(shop, config, write_route(more="dedup_by: code"))
    plan = await make_plan(shop, state="unrouted")
    assert [(entry["event_id"], entry["verdict"]) for entry in plan["entries"]] == [
        (ids[0], "send"), (ids[1], "duplicate"), (ids[2], "duplicate"),
    ]  # fmt: skip
    await apply(shop, plan)
    await settle(shop, sandbox, 1)


async def test_what_was_sent_since_the_plan_is_left_out_and_said(shop: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=422, times=2)
    rows = []
    for number in range(2):
        (row,) = (await post(shop, user_mobile=f"980000006{number}"))["deliveries"]
        await shop.wait_for(row["id"], "dead")
        rows.append(row)
    plan = await make_plan(shop, state="dead")
    assert plan["counts"] == {"send": 2}
    await shop.ops("POST", f"/deliveries/{rows[0]['id']}/retry")
    await shop.wait_for(rows[0]["id"], "accepted")
    applied = (await apply(shop, plan)).json()
    assert [(entry["verdict"], entry["delivery_id"]) for entry in applied["left_out"]] == [("accepted", rows[0]["id"])]
    assert applied["counts"] == {"send": 1, "accepted": 1}
    await settle(shop, sandbox, 2)


async def test_what_changes_while_a_plan_is_applied_is_left_out_by_the_commit(
    shop: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change(shop, config, write_route(event="order_create"))
    event_id = (await post(shop))["event_id"]
    await change(shop, config, write_route())
    plan = await make_plan(shop, state="unrouted")
    monkeypatch.setattr(replaying, "_MARK_APPLIED", f"{replaying._MARK_APPLIED} AND created_at < :now")
    find = type(shop.outbox).read

    async def find_then_wipe(store: Any, query: Any) -> Any:
        page = await find(store, query)
        await wipe_payloads(store, shop.clock() + DAY)
        return page

    break_store(monkeypatch, shop.outbox, find_then_wipe, "find_events")
    applied = (await apply(shop, plan)).json()
    assert [(entry["event_id"], entry["route"], entry["verdict"]) for entry in applied["left_out"]] == [
        (event_id, "coins", "wiped")
    ]
    assert applied["deliveries"] == []


async def test_a_plan_keeps_and_shows_no_value(shop: Any, config: Path) -> None:
    await change(shop, config, write_route(variable="nothing"))
    await post(shop, user_name="Zubeida")
    await change(shop, config, write_route())
    plan = await make_plan(shop, since="1d", until="2099-01-01")
    kept = await shop.outbox.read(lambda tx: replaying.read_plan(tx, plan["plan_id"]))
    assert not {"Zubeida", "9800000001", "100"} & set(json.dumps([plan, kept.entries]).replace('"', " ").split())
    assert json.loads(kept.entries)[0][1:4] == ["coins", "send", "variable_missing"]


async def test_only_the_route_asked_for_is_judged(shop: Any, config: Path) -> None:
    await post(shop)
    await change(shop, config, write_route(), write_route("more"), write_route("order", event="order_create"))
    plan = await make_plan(shop, route="more")
    assert [(entry["route"], entry["verdict"]) for entry in plan["entries"]] == [("more", "send")]
    assert (await make_plan(shop, route="order"))["entries"] == []
    plan = await make_plan(shop, route="order", since="1d", topic="walletreward_create")
    assert [(entry["route"], entry["verdict"]) for entry in plan["entries"]] == [("order", "unrouted")]


async def test_a_plan_ends_at_its_limit_and_the_next_one_goes_on(
    shop: Any, sandbox: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "Draft", partial(Draft, send_limit=3))
    monkeypatch.setattr(replay, "_PAGE", 2)
    await change(shop, config, write_route(event="order_create"))
    for number in range(5):
        await post(shop, user_mobile=f"980000007{number}")
    await change(shop, config, write_route())
    first = await make_plan(shop, state="unrouted")
    assert (first["complete"], first["counts"]) == (False, {"send": 3})
    await apply(shop, first)
    second = await make_plan(shop, state="unrouted")
    assert (second["complete"], second["counts"]) == (True, {"send": 2})
    await apply(shop, second)
    await settle(shop, sandbox, 5)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({}, "say which events"),
        ({"events": []}, "say which events"),
        ({"apply": "x", "state": "dead"}, "apply: goes alone"),
        ({"events": ["nothing"]}, "no event has the id that is number 1 of those given"),
        ({"events": ["x"], "since": "7d"}, "events: name events already"),
        ({"route": "nothing"}, "route: the YAML has no route of this name; it has coins"),
        ({"state": "lost"}, "state"),
        ({"since": "yesterday"}, "since: must be how long ago"),
        ({"until": "31/12/2026"}, "until: must be how long ago"),
        ({"everything": True}, "everything"),
    ],
)
async def test_an_order_that_cannot_be_followed_is_422_and_names_the_field(
    shop: Any, order: dict[str, Any], said: str
) -> None:
    answer = await shop.ops("POST", "/replay", json=order)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


async def test_a_store_that_cannot_commit_is_503_and_the_plan_can_be_applied_later(
    shop: Any, sandbox: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change(shop, config, write_route(event="order_create"))
    await post(shop)
    await change(shop, config, write_route())
    plan = await make_plan(shop, state="unrouted")

    async def fail(*_: Any) -> None:
        raise StoreFull("the disk is full")

    with monkeypatch.context() as broken:
        break_store(broken, shop.outbox, fail, "apply_plan", "save_plan")
        refused = await apply(shop, plan)
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        assert (await shop.ops("POST", "/replay", json={"since": "1d"})).status_code == 503
    assert (await apply(shop, plan)).status_code == 200
    await settle(shop, sandbox, 1)


async def test_without_the_token_a_replay_is_401_and_without_an_outbox_404(
    shop: Any, open_relay: Callable[..., Any], config: Path
) -> None:
    assert (await shop.client.post("/replay", json={"since": "1d"})).status_code == 401
    async with open_relay(RELAY_CONFIG=str(config), RELAY_DATABASE_URL="none") as stateless:
        assert (await stateless.ops("POST", "/replay", json={"since": "1d"})).status_code == 404
