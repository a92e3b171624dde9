"""`POST /erase` and `POST /export`: one person's data, in a relay that works meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERS = {"user_name": "Canaria", "user_mobile": "9800000041", "amount": "100", "user_customer_id": "c-41"}
PHONES = ["9800000041", "+91 98000-00041", "919800000041", "09800000041"]


async def post(relay: Any, payload: Any, topic: str = "walletreward_create") -> list[str]:
    answer = await relay.post(payload, topic)
    assert answer.status_code == 202, answer.text
    return [each["id"] for each in answer.json()["deliveries"]]


async def erase(relay: Any, phone: str = PHONES[0]) -> dict[str, Any]:
    answer = await relay.ops("POST", "/erase", json={"phone": phone})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("phone", PHONES)
async def test_a_person_is_erased_however_the_number_is_written(relay: Any, tmp_path: Path, phone: str) -> None:
    (sent,) = await post(relay, HERS)
    await relay.wait_for(sent, "accepted")
    await post(relay, {"note": "98000 00041", "user_name": "Canaria"}, "viptier_create")
    held = b"".join(path.read_bytes() for path in tmp_path.glob("relay.db*"))
    assert b"Canaria" in held, "else this test could not fail"
    assert await erase(relay, phone) == {
        "phone": "+91******0041",
        "events": 2,
        "deliveries": 1,
        "open": 0,
        "log_emptied": True,
        "opt_out_kept": False,
    }
    held = b"".join(path.read_bytes() for path in tmp_path.glob("relay.db*"))
    assert b"Canaria" not in held
    assert b"9800000041" not in held
    assert (await erase(relay, phone))["events"] == 0
    assert (await relay.delivery(sent))["state"] == "accepted"


async def test_no_secret_is_ever_in_the_file(relay: Any, tmp_path: Path, environment: dict[str, str]) -> None:
    (sent,) = await post(relay, HERS)
    await relay.wait_for(sent, "accepted")
    held = b"".join(path.read_bytes() for path in tmp_path.glob("relay.db*"))
    names = [name for name in environment if name.endswith(("_SECRET", "_SECRETS", "_TOKEN", "_KEY"))]
    assert len(names) >= 6
    assert [name for name in names if environment[name].encode() in held] == []


async def test_what_is_being_sent_is_left_for_a_second_call(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", latency_ms=1_000)
    (sending,) = await post(relay, HERS)
    await relay.wait_for(sending, "sending")
    first = await erase(relay)
    assert (first["events"], first["deliveries"], first["open"]) == (0, 0, 1)
    await sandbox.clear_faults()
    await relay.wait_for(sending, "accepted")
    assert (await erase(relay))["open"] == 0
    row = await relay.delivery(sending)
    assert (row["recipient"], row["message"]) == ("", None)


async def test_what_waits_is_never_sent(relay: Any, sandbox: Any) -> None:
    await relay.ops("PUT", "/holds/route:coins-earned")
    (waiting,) = await post(relay, HERS)
    assert (await erase(relay))["deliveries"] == 1
    await relay.ops("DELETE", "/holds/route:coins-earned")
    (other,) = await post(relay, {**HERS, "user_mobile": "9800000042"})
    await relay.wait_for(other, "accepted")
    assert [message["recipient"] for message in await sandbox.messages()] == ["+919800000042"]
    row = await relay.delivery(waiting)
    assert (row["state"], row["reason"]) == ("suppressed", "erased")
    retried = await relay.ops("POST", f"/deliveries/{waiting}/retry")
    assert retried.status_code == 409
    plan = (await relay.ops("POST", "/replay", json={"events": [row["event_id"]]})).json()
    assert plan["counts"] == {"wiped": 1}


async def test_webhooks_are_taken_while_somebody_is_erased(relay: Any) -> None:
    await relay.ops("PUT", "/holds/route:coins-earned")
    await asyncio.gather(*[post(relay, HERS) for _ in range(60)])
    erasing = asyncio.create_task(erase(relay))
    others = [post(relay, {**HERS, "user_mobile": f"98000000{n}", "user_customer_id": f"c-{n}"}) for n in range(50, 70)]
    async with asyncio.timeout(40):
        assert len(await asyncio.gather(*others)) == 20
    assert (await erasing)["events"] == 60


async def test_an_export_shows_it_all_and_the_log_shows_no_number(
    open_relay: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_relay() as relay:
        (sent,) = await post(relay, HERS)
        await relay.wait_for(sent, "accepted")
        answer = await relay.ops("POST", "/export", json={"phone": "+919800000041"})
        await erase(relay)
        again = await relay.ops("POST", "/export", json={"phone": "+919800000041"})
    assert answer.headers["cache-control"] == "no-store"
    record = answer.json()
    assert record["phone"] == "+919800000041"
    assert record["exported_at"].endswith("Z")
    (event,) = record["events"]
    assert event["body"] == HERS
    assert event["deliveries"][0]["message"]["recipient"] == "+919800000041"
    assert again.json()["events"] == []
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"person.' in line]
    assert [(line["event"], line["phone"], line["events"]) for line in lines] == [
        ("person.exported", "+91******0041", 1),
        ("person.erased", "+91******0041", 1),
        ("person.exported", "+91******0041", 0),
    ]


@pytest.mark.parametrize("path", ["/erase", "/export"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"phone": "98000"}, "phone: the number is not a valid number in IN; write it with + and its country code"),
        ({"phone": "Riya 9800000041"}, "phone: the number holds something beside digits"),
        ({"phone": ""}, "phone: the number is missing"),
        ({"phone": "9" * 41}, "body.phone: String should have at most 40 characters"),
        ({"phone": 9800000041}, "body.phone: Input should be a valid string"),
        ({}, "body.phone: Field required"),
        ({"phone": "9800000041", "name": "Riya"}, "body.name: Extra inputs are not permitted"),
    ],
)
async def test_a_number_that_cannot_be_read_is_refused_and_not_repeated(
    relay: Any, path: str, body: Any, said: str
) -> None:
    answer = await relay.ops("POST", path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(said)
    assert "9800000041" not in answer.text


@pytest.mark.parametrize("path", ["/erase", "/export"])
async def test_only_who_has_the_token_may(relay: Any, path: str) -> None:
    answer = await relay.client.post(path, json={"phone": "9800000041"})
    assert answer.status_code == 401
