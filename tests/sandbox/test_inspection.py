from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

BODY = {
    "channelId": "channel-2",
    "userId": "user-2",
    "templateId": "tpl_1",
    "phone": "919800000001",
    "variables": ["Riya"],
    "deliveryId": "delivery-1",
}


def test_second_request_for_a_delivery_is_counted_and_shown_as_such(sandbox: Any) -> None:
    for delivery_id, phone in (("delivery-1", "1"), ("delivery-1", "1"), ("delivery-2", "2")):
        body = {**BODY, "deliveryId": delivery_id, "phone": f"91980000000{phone}"}
        assert sandbox.client.post("/", json=body).status_code == 200
    assert [(it["delivery_id"], it["requests"]) for it in sandbox.list_messages()] == [
        ("delivery-1", 2),
        ("delivery-2", 1),
    ]
    assert sandbox.client.get("/sandbox/counts").json() == {
        "recipients": {"+919800000001": 2, "+919800000002": 1},
        "deliveries": {"delivery-1": 2, "delivery-2": 1},
        "accepted": {"bitespeed": 3},
        "seen": {"bitespeed": 3},
    }
    assert sandbox.shown[1].startswith("bitespeed → +919800000001  tpl_1  (request 2 for the same message)\n")


def test_requests_without_a_delivery_id_are_messages_of_their_own(sandbox: Any) -> None:
    for _ in range(2):
        sandbox.client.post("/", json={key: value for key, value in BODY.items() if key != "deliveryId"})
    assert [it["requests"] for it in sandbox.list_messages()] == [1, 1]
    assert sandbox.count("recipients") == {"+919800000001": 2}


def test_delete_forgets_messages_and_counts(sandbox: Any) -> None:
    sandbox.client.post("/", json=BODY)
    assert sandbox.client.delete("/sandbox/messages").status_code == 204
    assert sandbox.list_messages() == []
    assert sandbox.count("seen") == {}


def test_time_is_rfc_3339_utc(sandbox: Any) -> None:
    before = datetime.now(UTC)
    sandbox.client.post("/", json=BODY)
    at = sandbox.list_messages()[0]["at"]
    assert at.endswith("Z")
    assert abs((datetime.fromisoformat(at) - before).total_seconds()) < 5


def test_health_is_answered(sandbox: Any) -> None:
    assert sandbox.client.get("/healthz").json() == {"status": "ok"}
