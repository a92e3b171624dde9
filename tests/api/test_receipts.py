"""Receipts come in any order, twice, early and forged; a genuine one is never refused."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
WEBHOOK_SECRET = "receipt-secret"


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "GALLABOX_WEBHOOK_SECRET": WEBHOOK_SECRET, "BITESPEED_WEBHOOK_TOKEN": "receipt-token"}


async def report(relay: Any, body: Any, *, secret: str = WEBHOOK_SECRET, sign: Callable[..., str] | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = (sign or sign_base64)(raw, secret)
    headers = {"x-event-name": "Message.WA.Status.Received", "x-gallabox-signature": signature}
    answer: httpx2.Response = await relay.client.post("/webhooks/gallabox", content=raw, headers=headers)
    return answer


def sign_base64(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def sign_hex(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


def status_of(delivery_id: str, status: str) -> dict[str, Any]:
    return {"id": "msg_1", "localMessageId": delivery_id, "whatsapp": {"status": status, "to": "919800000001"}}


async def accepted(relay: Any) -> str:
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "accepted")
    return str(delivery["id"])


@pytest.mark.parametrize(
    ("reported", "shown"),
    [
        (["sent"], "sent"),
        (["sent", "delivered", "read"], "read"),
        (["read", "delivered", "sent"], "read"),
        (["delivered", "delivered", "sent"], "delivered"),
        (["sent", "failed"], "failed"),
    ],
)
async def test_a_receipt_never_goes_back(relay: Any, reported: list[str], shown: str) -> None:
    id_ = await accepted(relay)
    for status in reported:
        assert (await report(relay, status_of(id_, status))).status_code == 200
    delivery = await relay.delivery(id_)
    assert (delivery["state"], delivery["receipt"]) == ("accepted", shown)


async def test_a_receipt_settles_an_unknown_delivery(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", fault="reset_after")
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "unknown")
    await report(relay, status_of(delivery["id"], "delivered"))
    shown = await relay.delivery(delivery["id"])
    assert (shown["state"], shown["receipt"]) == ("accepted", "delivered")


async def test_a_receipt_that_comes_before_our_own_send_returned_counts(relay: Any, sandbox: Any) -> None:
    await sandbox.set_fault("gallabox", latency_ms=300)
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    await relay.wait_for(delivery["id"], "sending")
    await report(relay, status_of(delivery["id"], "delivered"))
    shown = await relay.wait_for(delivery["id"], "accepted")
    assert shown["receipt"] == "delivered"


@pytest.mark.parametrize(
    "given",
    [
        {"secret": "another"},
        {"sign": sign_hex},
        {"sign": lambda *_: ""},
        {"sign": lambda *_: "not base64 at all"},
    ],
)
async def test_a_forged_receipt_is_401_and_changes_nothing(relay: Any, given: dict[str, Any]) -> None:
    id_ = await accepted(relay)
    answer = await report(relay, status_of(id_, "delivered"), **given)
    assert answer.status_code == 401
    assert (await relay.delivery(id_))["receipt"] is None


async def test_without_a_secret_no_receipt_is_believed(open_relay: Callable[..., Any]) -> None:
    async with open_relay(GALLABOX_WEBHOOK_SECRET="") as relay:
        assert (await report(relay, status_of("x", "delivered"), secret="")).status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b"{}", b'{"whatsapp": 1}', b'{"localMessageId": ["x"]}', b"\xff"]
)
async def test_a_genuine_webhook_that_says_nothing_of_ours_is_200(relay: Any, body: bytes) -> None:
    assert (await report(relay, body)).status_code == 200


async def test_a_receipt_of_an_unknown_message_is_200(relay: Any) -> None:
    assert (await report(relay, status_of("not-ours", "delivered"))).status_code == 200


async def test_an_unknown_provider_is_404(relay: Any) -> None:
    assert (await relay.client.post("/webhooks/nobody", content=b"{}")).status_code == 404


async def test_a_long_receipt_is_413(relay: Any) -> None:
    assert (await relay.client.post("/webhooks/gallabox", content=b"a" * 65_537)).status_code == 413


@pytest.mark.parametrize(("token", "status"), [("receipt-token", 200), ("wrong", 401), ("", 401)])
async def test_bitespeeds_receipts_carry_a_token(relay: Any, token: str, status: int) -> None:
    answer = await relay.client.post("/webhooks/bitespeed", params={"token": token}, json={"event": "message_updated"})
    assert answer.status_code == status
