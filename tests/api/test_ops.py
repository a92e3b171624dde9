"""The ops API: who may, and what it shows and changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.outbox.methods import keep_no_gap

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
PATHS = [
    ("GET", "/metrics"),
    ("GET", "/status"),
    ("GET", "/deliveries"),
    ("GET", "/deliveries/reasons"),
    ("GET", "/deliveries/x"),
    ("POST", "/deliveries/find"),
    ("GET", "/events/x"),
    ("GET", "/events/x/routes"),
    ("POST", "/deliveries/x/retry"),
    ("POST", "/deliveries/retry"),
    ("POST", "/replay"),
    ("GET", "/report"),
    ("GET", "/holds"),
    ("PUT", "/holds/provider:gallabox"),
    ("DELETE", "/holds/provider:gallabox"),
    ("POST", "/reload"),
    ("POST", "/erase"),
    ("POST", "/export"),
    ("GET", "/suppressions"),
    ("POST", "/suppressions"),
    ("POST", "/suppressions/remove"),
    ("GET", "/openapi.json"),
]
KEYS = {
    "id", "event_id", "topic", "route", "provider", "template", "recipient", "state", "reason", "receipt", "attempts",
    "created_at", "updated_at", "next_attempt_at",
}  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_the_token_an_ops_path_is_401(relay: Any, method: str, path: str) -> None:
    for given in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic test-token"},
        {"authorization": "Bearer é".encode()},
    ):
        answer = await relay.client.request(method, path, headers=given)
        assert answer.status_code == 401
        assert answer.json()["detail"] == "not authorised"


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_where_no_token_is_set_an_ops_path_is_404(open_relay: Callable[..., Any], method: str, path: str) -> None:
    async with open_relay(RELAY_ADMIN_TOKEN="") as relay:
        assert (await relay.ops(method, path)).status_code == 404


async def test_health_needs_no_token(relay: Any) -> None:
    assert (await relay.client.get("/healthz")).json() == {"status": "ok"}
    ready = await relay.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["config"] == relay.rules.read_hash()


async def test_a_relay_whose_store_cannot_commit_is_not_ready(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cannot(_: Any) -> bool:
        return False

    monkeypatch.setattr(type(relay.outbox), "can_commit", cannot)
    assert (await relay.client.get("/readyz")).status_code == 503
    assert (await relay.client.get("/healthz")).status_code == 200


async def test_a_provider_that_is_down_leaves_the_relay_ready(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=503)
    await relay.post(COINS)
    assert (await relay.client.get("/readyz")).status_code == 200


async def test_a_listed_delivery_has_the_keys_of_the_contract_and_a_masked_recipient(relay: Any) -> None:
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "accepted")
    page = (await relay.ops("GET", "/deliveries")).json()
    assert set(page) == {"deliveries", "next_cursor"}
    (row,) = page["deliveries"]
    assert set(row) == KEYS
    assert row["state"] == "accepted"
    assert row["attempts"] == 1
    assert "9800000001" not in row["recipient"]
    assert row["recipient"].endswith("01")
    assert row["created_at"].endswith("Z")


async def test_deliveries_are_filtered_and_paged(relay: Any) -> None:
    for number in range(5):
        await relay.post({**COINS, "user_mobile": f"980000000{number}", "amount": None if number == 0 else "1"})
    dead = (await relay.ops("GET", "/deliveries", params={"state": "dead"})).json()["deliveries"]
    assert [row["reason"] for row in dead] == ["variable_missing"]
    first = (await relay.ops("GET", "/deliveries", params={"limit": 3})).json()
    second = (await relay.ops("GET", "/deliveries", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    ids = [row["id"] for row in first["deliveries"] + second["deliveries"]]
    assert len(set(ids)) == len(ids) == 5
    assert second["next_cursor"] is None
    event_id = first["deliveries"][0]["event_id"]
    found = (await relay.ops("GET", "/deliveries", params={"event_id": event_id})).json()["deliveries"]
    assert [row["event_id"] for row in found] == [event_id]


@pytest.mark.parametrize(
    "query", [{"state": "lost"}, {"limit": 0}, {"limit": "x"}, {"colour": "red"}, {"cursor": "%%"}]
)
async def test_a_wrong_filter_is_422_and_names_the_field(relay: Any, query: dict[str, Any]) -> None:
    answer = await relay.ops("GET", "/deliveries", params=query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["detail"]


async def test_an_unknown_delivery_is_404(relay: Any) -> None:
    assert (await relay.ops("GET", "/deliveries/nothing")).status_code == 404
    assert (await relay.ops("POST", "/deliveries/nothing/retry")).status_code == 404


async def test_an_end_that_two_ids_have_is_409_and_names_both(relay: Any) -> None:
    ids = iter([f"01a2185e-0cab-7a9d-a27a-{number:08}beef" for number in range(9)])
    relay.relay.context.new_id = lambda _now: next(ids)
    for number in ("9800000001", "9800000002"):
        assert (await relay.post({**COINS, "user_mobile": number})).status_code == 202
    for path in ("/deliveries/beef", "/events/beef", "/events/beef/routes"):
        answer = await relay.ops("GET", path)
        assert answer.status_code == 409, path
        assert answer.json()["detail"].startswith("more than one ")
        assert answer.json()["detail"].count("-0000000") == 2
    assert (await relay.ops("POST", "/deliveries/retry", json={"ids": ["beef"]})).status_code == 409
    assert (await relay.ops("GET", "/deliveries?event_id=beef")).status_code == 409


async def test_an_event_whose_payload_is_wiped_is_judged_by_no_route(relay: Any) -> None:
    event_id = (await relay.post(COINS)).json()["event_id"]
    await relay.relay.context.outbox.write(lambda tx: tx.run("UPDATE events SET body = NULL"))
    answer = await relay.ops("GET", f"/events/{event_id}/routes")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "nothing can be made of it: what it held was wiped since"


async def test_a_delivery_shows_its_whole_timeline(relay: Any) -> None:
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    shown = await relay.wait_for(delivery["id"], "accepted")
    assert [step["value"] for step in shown["timeline"]] == ["pending", "sending", "accepted"]
    assert shown["event"]["topic"] == "walletreward_create"
    line = next(route.line for route in relay.relay.shared.snapshot.config.routes if route.name == "coins-earned")
    where = {"name": relay.rules.name, "line": line, "hash": relay.rules.read_hash(), "in_force": True}
    assert shown["config"] == where
    assert "Riya" not in str(shown)


async def test_a_dead_delivery_with_a_message_can_be_retried_by_hand(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=422, times=1)
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "dead")
    answer = await relay.ops("POST", f"/deliveries/{delivery['id']}/retry")
    assert answer.json() == {"retried": [delivery["id"]]}
    await relay.wait_for(delivery["id"], "accepted")
    assert (await relay.ops("POST", f"/deliveries/{delivery['id']}/retry")).status_code == 409


async def test_all_of_a_state_can_be_retried(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=422)
    ids = []
    for number in range(3):
        (delivery,) = (await relay.post({**COINS, "user_mobile": f"980000000{number}"})).json()["deliveries"]
        ids.append(delivery["id"])
        await relay.wait_for(delivery["id"], "dead")
    answer = await relay.ops("POST", "/deliveries/retry", json={"state": "dead"})
    assert sorted(answer.json()["retried"]) == sorted(ids)
    assert answer.json()["skipped"] == {}


async def test_what_is_not_retried_is_counted_and_of_ids_explained(
    relay: Any, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=422)
    keep_no_gap(monkeypatch)  # the pause between two messages to one person is not the subject
    wiped, late, refused = [(await relay.post(COINS)).json()["deliveries"][0]["id"] for _ in range(3)]
    dead = (await relay.post({**COINS, "amount": None})).json()["deliveries"][0]["id"]
    for each in (wiped, late, refused):
        await relay.wait_for(each, "dead")
    change = "UPDATE deliveries SET {} WHERE id = ?"
    await relay.outbox._writer.run(
        lambda db: (
            db.execute(change.format("message = NULL"), (wiped,)).rowcount
            + db.execute(change.format("deadline_at = 1"), (late,)).rowcount
        )
    )
    await relay.ops("PUT", "/holds/route:coins-earned")
    ids = [wiped, late, refused, dead, "nothing"]
    answer = (await relay.ops("POST", "/deliveries/retry", json={"ids": ids})).json()
    assert answer == {
        "retried": [refused],
        "skipped": {"payload_gone": 2, "deadline_passed": 1, "not_found": 1},
        "why": {wiped: "payload_gone", late: "deadline_passed", dead: "payload_gone", "nothing": "not_found"},
    }
    answer = (await relay.ops("POST", "/deliveries/retry", json={"state": "dead"})).json()
    assert answer == {"retried": [], "skipped": {"payload_gone": 2, "deadline_passed": 1}, "why": {}}
    for each, said in ((late, "its deadline passed"), (refused, "it is pending")):
        answer = await relay.ops("POST", f"/deliveries/{each}/retry")
        assert answer.status_code == 409
        assert said in answer.json()["detail"]


async def test_a_retry_of_what_may_have_arrived_stands_in_its_timeline(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="reset_after", times=1)
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "unknown")
    await relay.ops("POST", f"/deliveries/{delivery['id']}/retry")
    shown = await relay.delivery(delivery["id"])
    assert "retried by hand, though it may have arrived" in [step["detail"] for step in shown["timeline"]]


async def test_a_states_deliveries_are_grouped_by_reason(relay: Any) -> None:
    ids = [(await relay.post({**COINS, "amount": None})).json()["deliveries"][0]["id"] for _ in range(3)]
    await relay.post({**COINS, "user_mobile": "12"})
    groups = (await relay.ops("GET", "/deliveries/reasons", params={"state": "dead"})).json()["reasons"]
    assert [(group["reason"], group["count"]) for group in groups] == [
        ("variable_missing", 3),
        ("recipient_invalid", 1),
    ]
    assert groups[0] == {
        "reason": "variable_missing", "route": "coins-earned", "provider": "gallabox", "count": 3,
        "newest_id": ids[2], "newest_at": (await relay.delivery(ids[2]))["updated_at"],
    }  # fmt: skip
    for query in ({}, {"state": "accepted"}, {"state": "dead", "colour": "red"}):
        assert (await relay.ops("GET", "/deliveries/reasons", params=query)).status_code == 422


@pytest.mark.parametrize("order", [{}, {"ids": ["a"], "state": "dead"}, {"state": "accepted"}, {"everything": True}])
async def test_a_retry_that_does_not_say_what_is_422(relay: Any, order: dict[str, Any]) -> None:
    assert (await relay.ops("POST", "/deliveries/retry", json=order)).status_code == 422


async def test_a_held_route_waits_until_it_is_released(relay: Any, sandbox: Any) -> None:
    answer = await relay.ops("PUT", "/holds/route:coins-earned", json={"reason": "wrong text"})
    assert answer.status_code == 200
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    held = (await relay.ops("GET", "/deliveries", params={"state": "held"})).json()["deliveries"]
    assert [row["id"] for row in held] == [delivery["id"]]
    assert held[0]["state"] == "held"
    (hold,) = (await relay.ops("GET", "/holds")).json()["holds"]
    assert {key: hold[key] for key in ("scope", "reason", "deliveries")} == {
        "scope": "route:coins-earned", "reason": "wrong text", "deliveries": 1,
    }  # fmt: skip
    assert 'nector_relay_holds{scope="route:coins-earned"} 1.0' in (await relay.ops("GET", "/metrics")).text
    assert not await sandbox.messages()
    assert (await relay.ops("DELETE", "/holds/route:coins-earned")).status_code == 204
    await relay.wait_for(delivery["id"], "accepted")
    assert (await relay.ops("DELETE", "/holds/route:coins-earned")).status_code == 404


@pytest.mark.parametrize(
    "scope", ["route:nothing", "provider:nothing", "template:gallabox/nothing", "shop:acme", "route"]
)
async def test_a_hold_on_something_that_is_not_there_is_422(relay: Any, scope: str) -> None:
    assert (await relay.ops("PUT", f"/holds/{scope}")).status_code == 422


async def test_no_page_is_served_that_no_browser_can_open(relay: Any) -> None:
    assert (await relay.ops("GET", "/docs")).status_code == 404


async def test_the_description_has_each_topics_properties(relay: Any) -> None:
    schema = (await relay.ops("GET", "/openapi.json")).json()
    webhook = schema["paths"]["/webhooks/nector"]["post"]
    (chosen,) = {*webhook["requestBody"]["content"]["application/json"]["schema"]}
    assert chosen == "anyOf"
    models = schema["components"]["schemas"]
    assert {"CouponEvent", "WalletEvent", "NectorEvent", "Customer", "HoldOrder"} < models.keys()
    assert {"user_mobile", "customer", "fiat_value"} < models["CouponEvent"]["properties"].keys()


async def test_an_unknown_path_is_a_problem_too(relay: Any) -> None:
    answer = await relay.client.get("/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
