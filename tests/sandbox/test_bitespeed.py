from __future__ import annotations

from typing import Any

import pytest

GONE = object()


def make_body(**changes: Any) -> dict[str, Any]:
    body = {
        "channelId": "channel-2",
        "userId": "user-2",
        "templateId": "tpl_4711",
        "phone": "919800000001",
        "variables": ["Riya", "ACME-7Q2P"],
        "header": {"kind": "document", "url": "https://cdn.example/c.pdf"},
        "buttons": [{"index": 1, "url": "ACME-7Q2P"}],
        "language": "en",
        "deliveryId": "delivery-1",
        "name": "Riya",
    } | changes
    return {key: value for key, value in body.items() if value is not GONE}


@pytest.mark.parametrize("path", ["/", "/bitespeed"])
def test_sound_request_is_accepted_kept_and_shown(sandbox: Any, path: str) -> None:
    answer = sandbox.client.post(path, json=make_body())
    (message,) = sandbox.list_messages()
    assert (answer.status_code, answer.json()) == (200, {"success": True, "data": {"id": message["id"]}})
    assert (message["delivery_id"], message["variables"]) == ("delivery-1", ["Riya", "ACME-7Q2P"])
    assert "\n---\n".join(sandbox.shown) == (
        "bitespeed → +919800000001  tpl_4711\n"
        "╭─\n"
        "│ [document c.pdf]\n"
        "│ Riya, your code is ACME-7Q2P\n"
        "│ [ Call → +919800000099 ]\n"
        "│ [ Use → https://a.example/ACME-7Q2P ]\n"
        "╰─"
    )


def test_optional_fields_may_be_left_out(sandbox: Any) -> None:
    gone = dict.fromkeys(("header", "buttons", "language", "deliveryId", "name"), GONE)
    body = make_body(templateId="tpl_1", variables=["Riya"], **gone)
    assert sandbox.client.post("/", json=body).status_code == 200
    assert sandbox.list_messages()[0]["delivery_id"] is None
    assert sandbox.count("deliveries") == {}


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"channelId": "other"}, 401, 401, "Unknown channelId or userId"),
        ({"userId": "other"}, 401, 401, "Unknown channelId or userId"),
        ({"userId": ""}, 400, 400, '"userId": '),
        ({"channelId": GONE}, 400, 400, '"channelId" is required'),
        ({"extra": 1}, 400, 400, '"extra" is not allowed'),
        ({"phone": "+919800000001"}, 400, 400, '"phone": '),
        ({"deliveryId": ""}, 400, 400, '"deliveryId": '),
        ({"templateId": "nosuch"}, 400, 132001, "Template not found"),
        ({"language": "hi"}, 400, 132001, "Template does not exist"),
        ({"variables": {"1": "Riya", "2": "x"}}, 400, 400, '"variables": '),
        ({"variables": ["Riya", 2]}, 400, 400, '"variables.1": '),
        ({"variables": ["Riya"]}, 400, 132000, "(#132000) Number of parameters does not match the expected number of"),
        ({"variables": ["Riya", "a", "b"]}, 400, 132000, "(#132000) "),
        ({"variables": ["Riya", ""]}, 400, 131008, "(#131008) "),
        ({"variables": ["Riya", "a\nb"]}, 400, 132018, "(#132018) "),
        ({"header": GONE}, 400, 132012, "(#132012) "),
        ({"header": {"kind": "image", "url": "https://cdn.example/c.jpg"}}, 400, 132012, "(#132012) "),
        ({"header": {"kind": "text", "text": "x"}}, 400, 132012, "(#132012) "),
        ({"buttons": GONE}, 400, 131008, "(#131008) "),
        ({"buttons": [{"index": 0, "url": "x"}, {"index": 1, "url": "x"}]}, 400, 132012, "(#132012) "),
    ],
)
def test_wrong_request_is_refused_by_name(
    sandbox: Any, changes: dict[str, Any], status: int, code: int, message: str
) -> None:
    answer = sandbox.client.post("/bitespeed", json=make_body(**changes))
    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"].startswith(message)
    assert sandbox.count("accepted") == {}


def test_body_must_be_json(sandbox: Any) -> None:
    assert sandbox.client.post("/", content=b"{}").status_code == 415
    answer = sandbox.client.post("/", content=b"{", headers={"content-type": "application/json"})
    assert answer.json() == {"success": False, "error": {"code": 400, "message": "The body is not valid JSON"}}
