"""Receipts come in any order, twice, early and forged; a genuine one is never refused."""

from __future__ import annotations

import base64
import hmac
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.outbox.holds import put_hold
from tests.outbox.methods import at, name_job

ROOT = Path(__file__).parents[2]
EXPIRY = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100", "expire": "2099-12-31T00:00:00Z"}
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
WEBHOOK_SECRET = "receipt-secret"


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "GALLABOX_WEBHOOK_SECRET": WEBHOOK_SECRET, "BITESPEED_WEBHOOK_TOKEN": "receipt-token"}


async def report(
    relay: Any,
    body: Any,
    *,
    secret: str = WEBHOOK_SECRET,
    sign: Callable[..., str] | None = None,
    event: str = "Message.WA.Status.Received",
) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = (sign or sign_base64)(raw, secret)
    headers = {"x-event-name": event, "x-gallabox-signature": signature}
    answer: httpx2.Response = await relay.client.post("/webhooks/gallabox", content=raw, headers=headers)
    return answer


def sign_base64(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def sign_hex(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


def status_of(delivery_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": "msg_1", "localMessageId": delivery_id, "whatsapp": {"status": status, "to": "919800000001"}, **more}


def failure_of(delivery_id: str, code: int) -> dict[str, Any]:
    return status_of(delivery_id, "failed", errors=[{"code": code, "title": "no", "message": "to 919800000001"}])


def reply_of(text: str, **whatsapp: Any) -> dict[str, Any]:
    said = {"from": "919800000001", "type": "text", "text": {"body": text}, **whatsapp}
    return {"id": "in_1", "contact": {"name": "Riya", "phone": ["919800000001"]}, "whatsapp": said}


async def say(relay: Any, text: str, **whatsapp: Any) -> None:
    assert (await report(relay, reply_of(text, **whatsapp), event="message.received")).status_code == 200


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for stdout while the relay is made: a test that wants it names it before `relay`."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def read_lines(printed: io.StringIO, name: str) -> list[dict[str, Any]]:
    """Return the log lines of a name, oldest first; none may show a number, of which a time's six digits are none."""
    lines = [json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{")]
    assert "9800000" not in json.dumps(lines).replace("+91******0001", "")
    return [line for line in lines if line["event"] == name]


async def accepted(relay: Any, mobile: str = "9800000001") -> str:
    (delivery,) = (await relay.post({**COINS, "user_mobile": mobile})).json()["deliveries"]
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


async def test_one_unknown_id_of_a_batch_does_not_lose_the_rest(relay: Any) -> None:
    ids = [await accepted(relay, f"980000000{number}") for number in (1, 2)]
    batch = [status_of(ids[0], "delivered"), status_of("not-ours", "read"), None, status_of(ids[1], "read")]
    assert (await report(relay, batch)).status_code == 200
    assert [(await relay.delivery(id_))["receipt"] for id_ in ids] == ["delivered", "read"]


@pytest.mark.parametrize(
    "event", ["message.wa.status.received", "MESSAGE.SEND", "Broadcast.wa.Message.STATUS.received"]
)
async def test_an_events_name_counts_in_any_case(relay: Any, event: str) -> None:
    id_ = await accepted(relay)
    await report(relay, status_of(id_, "delivered"), event=event)
    assert (await relay.delivery(id_))["receipt"] == "delivered"


async def test_a_hex_signature_is_taken_only_where_the_yaml_allows_it(
    open_relay: Callable[..., Any], tmp_path: Path
) -> None:
    text = (ROOT / "config/relay.yaml").read_text()
    allowed = text.replace(
        "    webhook_secret: ${GALLABOX", "    webhook_signature: either\n    webhook_secret: ${GALLABOX"
    )
    assert allowed != text
    (tmp_path / "templates.yaml").write_text((ROOT / "config/templates.yaml").read_text())
    (tmp_path / "relay.yaml").write_text(allowed)
    async with open_relay(RELAY_CONFIG=str(tmp_path / "relay.yaml")) as relay:
        id_ = await accepted(relay)
        assert (await report(relay, status_of(id_, "sent"), sign=sign_hex)).status_code == 200
        assert (await report(relay, status_of(id_, "read"))).status_code == 200
        assert (await relay.delivery(id_))["receipt"] == "read"


@pytest.mark.parametrize(
    ("code", "reason", "hold"),
    [
        (131026, "recipient_unreachable", None),
        (131049, "recipient_capped", None),
        (131050, "recipient_opted_out", None),
        (132001, "template_refused", "template:gallabox/coins_earned"),
        (131042, "balance_empty", "provider:gallabox"),
        (130429, "rate_limited", None),
    ],
)
async def test_a_failed_receipt_says_why_and_holds_what_it_speaks_of_once(
    printed: io.StringIO, relay: Any, code: int, reason: str, hold: str | None
) -> None:
    id_ = await accepted(relay)
    for _ in range(2):
        assert (await report(relay, failure_of(id_, code), event="Message.WA.Status.FAILED")).status_code == 200
    shown = await relay.delivery(id_)
    assert (shown["state"], shown["receipt"], shown["reason"]) == ("accepted", "failed", reason)
    assert shown["next_attempt_at"] is None, "nothing is hurried"
    holds = (await relay.ops("GET", "/holds")).json()["holds"]
    assert [row["scope"] for row in holds] == ([hold] if hold else [])
    lines = read_lines(printed, "hold.set")
    assert [(line["scope"], line["reason"]) for line in lines] == ([(hold, reason)] if hold else [])


async def test_every_receipts_line_has_our_ids_and_no_number(printed: io.StringIO, relay: Any) -> None:
    id_ = await accepted(relay)
    for ids in ({"localMessageId": id_}, {"localMessageId": "919800000001", "id": "919800000001"}):
        await report(relay, {**ids, "whatsapp": {"status": "sent"}})
    ours, other = read_lines(printed, "receipt.received")
    assert (ours["delivery_id"], ours["route"], ours["matched"]) == (id_, "coins-earned", True)
    assert ours["event_id"] == (await relay.delivery(id_))["event_id"]
    assert (other["delivery_id"], other["event_id"], other["matched"]) == (None, None, False)


async def test_a_webhook_of_which_nothing_can_be_read_shows_its_keys_alone(printed: io.StringIO, relay: Any) -> None:
    await report(relay, {"outcome": {"919800000001": "ok", "state": "delivered to 919800000001"}})
    (line,) = read_lines(printed, "receipt.unread")
    assert line["paths"] == ["outcome", "outcome.state"]
    metrics = (await relay.ops("GET", "/metrics")).text
    assert 'nector_relay_receipts_total{provider="gallabox",status="unread"} 1.0' in metrics
    deep = b"[" + b'{"a":' * 500 + b"1" + b"}" * 500 + b"]"
    assert (await report(relay, deep)).status_code == 200


async def test_a_receipt_of_an_unknown_message_is_200(relay: Any) -> None:
    assert (await report(relay, status_of("not-ours", "delivered"))).status_code == 200


async def test_an_unknown_provider_is_404(relay: Any) -> None:
    assert (await relay.client.post("/webhooks/nobody", content=b"{}")).status_code == 404


async def test_a_long_receipt_is_413(relay: Any) -> None:
    """At most 4 MiB; what cannot be signed is refused before its length matters."""
    long = b"a" * (4 * 1024 * 1024 + 1)
    assert (await relay.client.post("/webhooks/gallabox", content=long)).status_code == 401
    signed = {"x-gallabox-signature": "A" * 43 + "="}
    assert (await relay.client.post("/webhooks/gallabox", content=long, headers=signed)).status_code == 413
    assert (await relay.client.post("/webhooks/gallabox", content=long[1:], headers=signed)).status_code == 401


@pytest.mark.parametrize(("token", "status"), [("receipt-token", 200), ("wrong", 401), ("", 401)])
async def test_bitespeeds_receipts_carry_a_token(relay: Any, token: str, status: int) -> None:
    answer = await relay.client.post("/webhooks/bitespeed", params={"token": token}, json={"event": "message_updated"})
    assert answer.status_code == status


# -- what customers send back ----------------------------------------------------------------------


async def post_marketing(relay: Any) -> dict[str, Any]:
    (delivery,) = (await relay.post(EXPIRY, "coinexpirynotify_create")).json()["deliveries"]
    found: dict[str, Any] = delivery
    return found


async def test_a_stop_reply_silences_marketing_and_nothing_else(printed: io.StringIO, relay: Any) -> None:
    await say(relay, "STOP!")
    await say(relay, "stop")
    assert (await post_marketing(relay))["state"] == "suppressed"
    await accepted(relay)
    lines = read_lines(printed, "reply.received")
    assert [(line["kind"], line["changed"]) for line in lines] == [("stop", True), ("stop", False)]
    assert (
        'nector_relay_replies_total{kind="stop",provider="gallabox"} 2.0' in (await relay.ops("GET", "/metrics")).text
    )


@pytest.mark.parametrize("text", ["please stop calling me at work, where is my order", "thanks", "", "1"])
async def test_any_other_reply_silences_nothing(relay: Any, text: str) -> None:
    await say(relay, text)
    assert (await post_marketing(relay))["state"] == "pending"


@pytest.mark.parametrize("given", [{"secret": "another"}, {"sign": sign_hex}, {"sign": lambda *_: ""}])
async def test_a_forged_stop_silences_nobody(relay: Any, given: dict[str, Any]) -> None:
    answer = await report(relay, reply_of("stop"), event="Message.Received", **given)
    assert answer.status_code == 401
    assert (await post_marketing(relay))["state"] == "pending"


async def test_a_merchants_own_word_silences_too(open_relay: Callable[..., Any], tmp_path: Path) -> None:
    text = (ROOT / "config/relay.yaml").read_text()
    changed = text.replace("store:\n", "store:\n  stop_words: [band karo]\n", 1)
    assert changed != text
    (tmp_path / "templates.yaml").write_text((ROOT / "config/templates.yaml").read_text())
    (tmp_path / "relay.yaml").write_text(changed)
    async with open_relay(RELAY_CONFIG=str(tmp_path / "relay.yaml")) as relay:
        await say(relay, "Band karo 🙏")
        assert (await post_marketing(relay))["state"] == "suppressed"


async def test_a_tap_is_a_click_of_its_message(printed: io.StringIO, relay: Any) -> None:
    id_ = await accepted(relay)
    await report(relay, status_of(id_, "delivered", wamid="wamid.1"))
    tap = reply_of("", type="interactive", interactive={"button_reply": {"title": "Shop"}}, context={"id": "wamid.1"})
    for _ in range(2):
        assert (await report(relay, tap, event="Message.WA.Interaction.Received")).status_code == 200
    shown = await relay.delivery(id_)
    assert shown["receipt"] == "read"
    assert [row["value"] for row in shown["timeline"] if row["kind"] == "reply"] == ["clicked"]
    assert [line["kind"] for line in read_lines(printed, "reply.received")] == ["clicked", "other"]


async def test_131050_in_a_receipt_silences_marketing(relay: Any) -> None:
    id_ = await accepted(relay)
    await report(relay, failure_of(id_, 131050))
    assert (await post_marketing(relay))["state"] == "suppressed"
    assert [row["reason"] for row in (await relay.ops("GET", "/suppressions")).json()["suppressions"]] == ["refused"]


@pytest.mark.parametrize("choice", ["stop", "resume"])
async def test_what_is_chosen_in_whatsapp_counts(relay: Any, choice: str) -> None:
    first = {"wa_id": "919800000001", "category": "marketing_messages", "value": "stop", "timestamp": "1790000000"}
    later = {**first, "value": choice, "timestamp": "1790000100"}
    for chosen in (first, later):
        body = {"entry": [{"changes": [{"value": {"user_preferences": [chosen]}}]}]}
        await report(relay, body, event="Message.Received")
    assert (await post_marketing(relay))["state"] == ("suppressed" if choice == "stop" else "pending")


# -- much at once, and what is said of templates and accounts --------------------------------------


def statuses_of(ids: list[str], **more: Any) -> dict[str, Any]:
    statuses = [{"id": f"wamid.{id_}", "status": "delivered", "biz_opaque_callback_data": id_, **more} for id_ in ids]
    return {"object": "whatsapp_business_account", "entry": [{"changes": [{"value": {"statuses": statuses}}]}]}


async def test_a_thousand_statuses_in_one_webhook_are_ten_transactions(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await accepted(relay)
    outbox = relay.outbox
    sizes: list[int] = []
    write = type(outbox).write

    async def count(self: Any, job: Any, **how: Any) -> Any:
        if name_job(job) == "apply_reports":
            sizes.append(len(job.item.receipts))
        return await write(self, job, **how)

    monkeypatch.setattr(type(outbox), "write", count)
    body = statuses_of([*(f"not-ours-{number}" for number in range(998)), id_], padding="x" * 2_000)
    assert len(json.dumps(body)) > 2_000_000
    assert (await report(relay, body, event="")).status_code == 200
    assert sizes == [100] * 9 + [99]
    assert (await relay.delivery(id_))["receipt"] == "delivered"


async def test_the_last_of_many_replies_in_one_webhook_is_heard(relay: Any) -> None:
    said = [reply_of(f"thanks {number}") for number in range(149)]
    assert (await report(relay, [*said, reply_of("STOP")], event="Message.Received")).status_code == 200
    assert (await post_marketing(relay))["state"] == "suppressed"


def template_notice(event: str, name: str = "coins_earned", language: str = "en") -> dict[str, Any]:
    value = {"event": event, "message_template_name": name, "message_template_language": language}
    return {"entry": [{"changes": [{"field": "message_template_status_update", "value": value}]}]}


async def read_scopes(relay: Any) -> list[tuple[str, str]]:
    return [(row["scope"], row["reason"]) for row in (await relay.ops("GET", "/holds")).json()["holds"]]


HELD = ("template:gallabox/coins_earned", "template_paused")


async def test_a_paused_template_is_held_until_it_is_approved(printed: io.StringIO, relay: Any) -> None:
    for _ in range(2):
        await report(relay, template_notice("PAUSED"), event="")
    assert await read_scopes(relay) == [HELD]
    (delivery,) = (await relay.post(COINS)).json()["deliveries"]
    assert (await relay.delivery(delivery["id"]))["state"] == "held"
    await report(relay, template_notice("APPROVED"), event="")
    assert await read_scopes(relay) == []
    await relay.wait_for(delivery["id"], "accepted")
    assert [(line["scope"], line["reason"]) for line in read_lines(printed, "hold.set")] == [HELD]
    assert [(line["scope"], line["by"]) for line in read_lines(printed, "hold.released")] == [(HELD[0], "whatsapp")]
    assert [line["reason"] for line in read_lines(printed, "notice.received")] == ["template_paused"] * 2 + [None]
    story = (await relay.delivery(delivery["id"]))["hold_changes"]
    assert [(row["change"], row["reason"]) for row in story] == [("set", "template_paused"), ("released", "reinstated")]
    assert read_lines(printed, "receipt.unread") == []


@pytest.mark.parametrize(
    "notice",
    [
        template_notice("FLAGGED"),
        template_notice("PAUSED", "a_template_of_nobody"),
        template_notice("PAUSED", language="hi"),
        template_notice("APPROVED"),
        {"entry": [{"changes": [{"field": "messages", "value": {"errors": [{"code": 130429}]}}]}]},
    ],
)
async def test_what_is_not_about_what_we_send_holds_nothing(relay: Any, notice: dict[str, Any]) -> None:
    assert (await report(relay, notice, event="")).status_code == 200
    assert await read_scopes(relay) == []


@pytest.mark.parametrize("reason", ["by_hand", "parameters_refused"])
async def test_an_approval_lets_go_only_what_it_is_about(relay: Any, reason: str) -> None:
    by_hand = reason == "by_hand"
    await relay.outbox.write(at(0, put_hold, scope=HELD[0], reason=reason, probe_at=2**45, by_hand=by_hand))
    for event in ("REJECTED", "APPROVED"):
        await report(relay, template_notice(event), event="")
    # REJECTED renames an automatic hold, and its approval ends it.
    assert await read_scopes(relay) == ([(HELD[0], "by_hand")] if by_hand else [])
    if not by_hand:
        await relay.outbox.write(at(0, put_hold, scope=HELD[0], reason=reason, probe_at=2**45))
        await report(relay, template_notice("APPROVED"), event="")
        assert await read_scopes(relay) == [(HELD[0], reason)]


async def test_a_restricted_account_is_held_until_it_is_reinstated(relay: Any) -> None:
    for state, scopes in (("DISABLE", [("provider:gallabox", "account_blocked")]), ("REINSTATE", [])):
        value = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state}}
        await report(relay, {"entry": [{"changes": [{"field": "account_update", "value": value}]}]}, event="")
        assert await read_scopes(relay) == scopes


async def test_what_cannot_be_read_shows_three_levels_of_keys_and_whatsapps_own_word(
    printed: io.StringIO, relay: Any
) -> None:
    value = {"alert_info": {"deeper": {"still": 1}}, "9800000001": {"x": 1}}
    changes = [{"field": "account_alerts", "value": value}, {"field": "other"}]
    await report(relay, [{"object": "whatsapp", "entry": [{"id": "1", "changes": changes, "none": []}]}], event="")
    await report(relay, {"field": "to 919800000001", "list": [["a"]]}, event="")
    shape, other = read_lines(printed, "receipt.unread")
    assert shape["paths"] == [
        *("object", "entry", "entry[].id", "entry[].changes", "entry[].changes[].field=account_alerts"),
        *("entry[].changes[].value", "entry[].none"),
    ]
    assert other["paths"] == ["field", "list"]
