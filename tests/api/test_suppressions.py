"""`/suppressions`: numbers go in, hashes come out, and what each call did is counted."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

EXPIRY = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100", "expire": "2099-12-31T00:00:00Z"}
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
CURE = "write a mobile number with + and its country code, such as +919800000001"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for stdout while the relay is made: a test that wants it names it before `relay`."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


async def change(relay: Any, phones: list[Any], path: str = "/suppressions", **more: Any) -> dict[str, Any]:
    answer = await relay.ops("POST", path, json={"phones": phones, **more})
    assert answer.status_code == 200, answer.text
    assert "9800000" not in answer.text.replace(CURE, "")
    found: dict[str, Any] = answer.json()
    return found


async def listed(relay: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await relay.ops("GET", "/suppressions")).json()
    return found


async def test_whom_an_operator_names_gets_no_marketing_until_removed(relay: Any) -> None:
    assert await change(relay, ["9800000001"], reason="complaint") == {"changed": 1, "unchanged": 0, "invalid": []}
    (marketing,) = (await relay.post(EXPIRY, "coinexpirynotify_create")).json()["deliveries"]
    (utility,) = (await relay.post(COINS)).json()["deliveries"]
    assert marketing["state"] == "suppressed"
    assert (await relay.delivery(marketing["id"]))["reason"] == "recipient_opted_out"
    await relay.wait_for(utility["id"], "accepted")
    (row,) = (await listed(relay))["suppressions"]
    assert (row["reason"], len(row["id"])) == ("complaint", 32)
    assert (await change(relay, ["+91 98000 00001"], "/suppressions/remove"))["changed"] == 1
    assert await listed(relay) == {"suppressions": [], "unreachable": 0, "next_cursor": None}
    (again,) = (await relay.post(EXPIRY, "coinexpirynotify_create")).json()["deliveries"]
    assert again["state"] == "pending"


async def test_doing_it_again_changes_nothing(relay: Any) -> None:
    phones = ["9800000001", "+919800000001", "9800000002"]
    assert await change(relay, phones) == {"changed": 2, "unchanged": 1, "invalid": []}
    assert await change(relay, phones) == {"changed": 0, "unchanged": 3, "invalid": []}
    assert (await change(relay, [*phones, "9800000003"], "/suppressions/remove"))["unchanged"] == 2


async def test_what_is_no_number_is_named_by_its_place_and_the_rest_is_done(relay: Any) -> None:
    done = await change(relay, ["nobody", "9800000001", "", "02212345678"])
    assert (done["changed"], done["unchanged"]) == (1, 0)
    assert [each["place"] for each in done["invalid"]] == [0, 2, 3]
    assert all(each["detail"].endswith(CURE) for each in done["invalid"])
    assert "nobody" not in json.dumps(done)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 422, "body.phones"),
        ({"phones": []}, 422, "body.phones"),
        ({"phones": "9800000001"}, 422, "body.phones"),
        ({"phones": [9800000001]}, 422, "body.phones.0"),
        ({"phones": ["9800000001"] * 1001}, 422, "body.phones"),
        ({"phones": ["9800000001"], "reason": "Mr 9800000001"}, 422, "body.reason"),
        ({"phones": ["9800000001"], "why": "x"}, 422, "body.why"),
        ({"phones": ["9" * 1_100_000]}, 413, "1024 KiB"),
        (b"nonsense 9800000001", 422, "body"),
    ],
)
@pytest.mark.parametrize("path", ["/suppressions", "/suppressions/remove"])
async def test_a_wrong_order_is_refused_whole_and_echoes_nothing(
    relay: Any, path: str, body: Any, status: int, told: str
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await relay.ops("POST", path, content=raw)
    assert answer.status_code == status
    if not (path.endswith("remove") and told == "body.reason"):
        assert told in answer.json()["detail"]
    assert "9800000001" not in answer.text
    assert (await listed(relay))["suppressions"] == []


async def test_a_thousand_numbers_fit_into_one_call(relay: Any) -> None:
    phones = [f"+9198000{number:05}" for number in range(1000)]
    assert (await change(relay, phones))["changed"] == 1000
    first = await relay.ops("GET", "/suppressions", params={"limit": 600})
    rest = await relay.ops("GET", "/suppressions", params={"limit": 600, "cursor": first.json()["next_cursor"]})
    ids = [row["id"] for page in (first, rest) for row in page.json()["suppressions"]]
    assert (len(ids), len(set(ids)), rest.json()["next_cursor"]) == (1000, 1000, None)


async def test_a_bad_cursor_is_422(relay: Any) -> None:
    answer = await relay.ops("GET", "/suppressions", params={"cursor": "nonsense"})
    assert (answer.status_code, answer.json()["detail"][:7]) == (422, "cursor:")


async def test_each_change_is_a_line_of_counts_and_a_gauge(printed: io.StringIO, relay: Any) -> None:
    await change(relay, ["9800000001", "nobody"])
    await change(relay, ["9800000001"], "/suppressions/remove")
    await change(relay, ["9800000001", "9800000002"])
    lines = [json.loads(line) for line in printed.getvalue().splitlines() if "suppressions." in line]
    assert [(line["event"], line["changed"], line["by"]) for line in lines] == [
        ("suppressions.added", 1, "ops"),
        ("suppressions.removed", 1, "ops"),
        ("suppressions.added", 2, "ops"),
    ]
    assert lines[0]["invalid"] == 1
    assert "9800000" not in json.dumps(lines)  # a time has six digits at most
    assert "nector_relay_suppressions 2.0" in (await relay.ops("GET", "/metrics")).text.splitlines()


async def test_the_description_of_the_api_knows_what_to_post(relay: Any) -> None:
    described = (await relay.ops("GET", "/openapi.json")).json()
    for path in ("/suppressions", "/suppressions/remove"):
        schema = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert (
            described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]["phones"]["maxItems"]
            == 1000
        )
