"""Every answer of `POST /webhooks/nector` (Answers to Nector in docs/reference.md)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from app.api.webhooks import WebhookEndpoint
from tests.outbox.methods import break_store

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
SECRET_HASH = hashlib.sha256(b"test-secret").hexdigest()


def headers(**changes: str | None) -> dict[str, str]:
    """Return Nector's headers with some replaced, or left out where None; `_` stands for `-`."""
    given = {
        "content-type": "application/json",
        "x-nector-topic": "walletreward_create",
        "x-nector-delivery-id": "d-1",
        "x-nector-webhook-secret": SECRET_HASH,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {name: value for name, value in given.items() if value is not None}


async def post(relay: Any, body: bytes | Any = None, **changes: str | None) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(COINS if body is None else body).encode()
    answer: httpx2.Response = await relay.client.post("/webhooks/nector", content=content, headers=headers(**changes))
    return answer


async def test_a_routed_event_is_202_with_its_deliveries(relay: Any) -> None:
    answer = await post(relay)
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"event_id", "status", "deliveries"}
    assert body["status"] == "accepted"
    (delivery,) = body["deliveries"]
    assert set(delivery) == {"id", "route", "provider", "state"}
    assert delivery["state"] == "pending"


async def test_unrouted_event_is_202_and_kept(relay: Any) -> None:
    answer = await post(relay, x_nector_topic="lead_update")
    assert (answer.status_code, answer.json()["status"], answer.json()["deliveries"]) == (202, "unrouted", [])
    again = await post(relay, x_nector_topic="lead_update")
    assert (again.status_code, again.json()["event_id"]) == (200, answer.json()["event_id"])


async def test_a_topic_nobody_knows_is_unrouted(relay: Any) -> None:
    answer = await post(relay, x_nector_topic="badge_create")
    assert (answer.status_code, answer.json()["status"]) == (202, "unrouted")


async def test_a_known_delivery_id_is_200_with_the_first_answers_ids(relay: Any) -> None:
    first, second = await post(relay), await post(relay, {**COINS, "amount": "999"})
    assert second.status_code == 200
    assert second.json()["status"] == "duplicate"
    assert second.json()["event_id"] == first.json()["event_id"]
    assert [row["id"] for row in second.json()["deliveries"]] == [row["id"] for row in first.json()["deliveries"]]


async def test_fifty_parallel_copies_are_one_event(relay: Any, sandbox: Any) -> None:
    answers = await asyncio.gather(*(post(relay) for _ in range(50)))
    assert sorted({answer.status_code for answer in answers}) == [200, 202]
    assert [answer.status_code for answer in answers].count(202) == 1
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    await relay.wait_for(answers[0].json()["deliveries"][0]["id"], "accepted")
    assert sum((await sandbox.counts())["deliveries"].values()) == 1


async def test_without_a_delivery_id_two_equal_events_are_two(relay: Any) -> None:
    answers = [await post(relay, x_nector_delivery_id=None) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["event_id"] != answers[1].json()["event_id"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({**COINS, "user_mobile": "12345"}, "recipient_invalid"),
        ({"user_name": "Riya", "amount": "100"}, "recipient_missing"),
        ({**COINS, "amount": None}, "variable_missing"),
        ({**COINS, "amount": "undefined"}, "variable_missing"),
    ],
)
async def test_a_message_that_cannot_be_is_202_and_dead(relay: Any, payload: Any, reason: str) -> None:
    answer = await post(relay, payload)
    assert answer.status_code == 202
    assert answer.json()["deliveries"][0]["state"] == "dead"
    assert (await relay.delivery(answer.json()["deliveries"][0]["id"]))["reason"] == reason


async def test_an_event_is_never_lost_to_a_property_of_another_kind(
    open_relay: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_relay() as relay:
        answer = await post(relay, {**COINS, "amount": ["RIYA-4711"], "user_referral_link": {"to": "RIYA-4711"}})
        delivery = await relay.delivery(answer.json()["deliveries"][0]["id"])
    assert answer.status_code == 202
    assert (delivery["state"], delivery["reason"]) == ("dead", "variable_invalid")
    assert "`amount`" in delivery["detail"]
    printed = capsys.readouterr().out
    assert '"notes": ["`user_referral_link` is an object, not a text", "`amount` is a list, not a number"]' in printed
    assert "RIYA-4711" not in printed + delivery["detail"]


async def test_a_property_that_no_message_needs_stops_none(relay: Any) -> None:
    answer = await post(relay, {**COINS, "user_referral_link": {}, "balance": "none yet"})
    assert answer.json()["deliveries"][0]["state"] == "pending"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"x_nector_webhook_secret": None}, id="absent"),
        pytest.param({"x_nector_webhook_secret": ""}, id="empty"),
        pytest.param({"x_nector_webhook_secret": hashlib.sha256(b"another").hexdigest()}, id="another"),
        pytest.param({"x_nector_webhook_secret": "test-secret"}, id="the secret itself"),
        pytest.param({"x_nector_webhook_secret": "é" * 32}, id="not ascii"),
    ],
)
async def test_a_wrong_secret_is_401_with_a_constant_body(relay: Any, given: dict[str, str | None]) -> None:
    given = {name: value.encode() if value else value for name, value in given.items()}  # type: ignore[misc]  # bytes go out as they are
    answer = await post(relay, **given)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "not authorised"}


async def test_a_wrong_secret_is_refused_before_the_body_is_read(relay: Any) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{}"

    answer = await relay.client.post(
        "/webhooks/nector", content=body(), headers=headers(x_nector_webhook_secret="0" * 64)
    )
    assert answer.status_code == 401
    assert not read


FAULTS: list[Any] = [
    pytest.param(b"", {}, 400, id="empty"),
    pytest.param(b"{", {}, 400, id="cut off"),
    pytest.param(b'{"a": NaN}', {}, 400, id="NaN"),
    pytest.param(b'{"a": -Infinity}', {}, 400, id="Infinity"),
    pytest.param(b'{"a": 1e400}', {}, 400, id="a number that is infinite"),
    pytest.param(b'{"a": 1, "a": 2}', {}, 400, id="duplicate key"),
    pytest.param(b'{"c": {"a": 1, "a": 2}}', {}, 400, id="nested duplicate key"),
    pytest.param(b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", {}, 400, id="nested 41 deep"),
    pytest.param(b"[" * 60_000, {}, 400, id="nested 60,000 deep"),
    pytest.param(b'{"a": "\xff"}', {}, 400, id="not UTF-8"),
    pytest.param('{"a": 1}'.encode("utf-16"), {}, 400, id="UTF-16"),
    pytest.param(b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', {}, 400, id="two byte order marks"),
    pytest.param(b'{"a": "\\ud800"}', {}, 400, id="half a character"),
    pytest.param(b"a" * 65_537, {}, 413, id="over 64 KiB"),
    pytest.param(b"{}", {"content_type": "text/plain"}, 415, id="text"),
    pytest.param(b"{}", {"content_type": None}, 415, id="no content type"),
    pytest.param(b"a=1", {"content_type": "application/x-www-form-urlencoded"}, 415, id="form"),
    pytest.param(b"{}", {"content_encoding": "gzip"}, 415, id="gzip"),
    pytest.param(b"{}", {"x_nector_topic": None}, 422, id="no topic"),
    pytest.param(b"{}", {"x_nector_topic": "  "}, 422, id="blank topic"),
    pytest.param(b"[]", {}, 422, id="array"),
    pytest.param(b'"text"', {}, 422, id="text value"),
    pytest.param(b"null", {}, 422, id="null"),
]


@pytest.mark.parametrize(("body", "changes", "status"), FAULTS)
async def test_a_faulty_webhook_gets_its_code_and_a_problem(
    relay: Any, body: bytes, changes: dict[str, str | None], status: int
) -> None:
    answer = await post(relay, body, **changes)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


async def test_a_long_body_is_refused_while_it_is_read_whatever_its_length_says(relay: Any) -> None:
    parts = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(1000):
            parts.append(number)
            yield b"a" * 1024

    answer = await relay.client.post("/webhooks/nector", content=body(), headers=headers())
    assert answer.status_code == 413


async def test_a_charset_parameter_is_fine(relay: Any) -> None:
    assert (await post(relay, content_type="application/json; charset=utf-8")).status_code == 202


async def test_the_nested_shape_is_taken_too(relay: Any) -> None:
    payload = {
        "value": "ACME-7Q2P", "fiat_class": "fixed", "fiat_value": 200, "expire": "2099-12-31T18:29:59.000Z",
        "customer": {"id": "custom-3f0c", "name": "Riya", "mobile": "9800000001", "country": "ind"},
    }  # fmt: skip
    answer = await post(relay, payload, x_nector_topic="coupon_create")
    states = {row["state"] for row in answer.json()["deliveries"]}
    assert answer.status_code == 202
    assert states <= {"pending", "dead"}
    assert states


@pytest.mark.parametrize("topic", ["wallettrasaction_update", "wallettransaction_update"])
async def test_both_spellings_of_the_wallet_transaction_are_one_topic(
    open_relay: Callable[..., Any], topic: str
) -> None:
    yaml = """
version: 1
providers:
  gallabox:
    {type: gallabox, channel_id: c, api_key: "${GALLABOX_API_KEY}", api_secret: "${GALLABOX_API_SECRET}"}
routes:
  wallet: {event: wallettransaction_update, provider: gallabox, template: t, variables: []}
"""
    async with open_relay(RELAY_CONFIG_YAML=yaml, RELAY_CONFIG="none.yaml") as relay:
        answer = await post(relay, x_nector_topic=topic)
        assert [row["route"] for row in answer.json()["deliveries"]] == ["wallet"]


async def test_every_active_secret_is_accepted(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_NECTOR_SECRETS="old, new") as relay:
        for number, secret in enumerate(("old", "new")):
            given = hashlib.sha256(secret.encode()).hexdigest()
            answer = await post(relay, x_nector_webhook_secret=given, x_nector_delivery_id=f"d-{number}")
            assert answer.status_code == 202
        assert (await post(relay)).status_code == 401


SIGNATURES = [
    (lambda body: hmac.new(b"test-secret", body, "sha256").hexdigest(), 202),
    (lambda body: base64.b64encode(hmac.digest(b"test-secret", body, "sha256")).decode(), 202),
    (lambda body: hmac.new(SECRET_HASH.encode(), body, "sha256").hexdigest(), 202),
    (lambda body: base64.b64encode(hmac.digest(SECRET_HASH.encode(), body, "sha256")).decode(), 202),
    (lambda body: hmac.new(b"another", body, "sha256").hexdigest(), 401),
    (lambda body: hmac.new(b"test-secret", body + b" ", "sha256").hexdigest(), 401),
    (lambda _: None, 401),
]


@pytest.mark.parametrize(("sign", "status"), SIGNATURES)
async def test_an_enforced_hmac_decides(
    open_relay: Callable[..., Any], sign: Callable[[bytes], str | None], status: int
) -> None:
    async with open_relay(RELAY_NECTOR_HMAC="enforce") as relay:
        body = json.dumps(COINS).encode()
        assert (await post(relay, body, x_nector_webhook_hmac=sign(body))).status_code == status


@pytest.mark.parametrize("mode", ["off", "log"])
async def test_an_hmac_that_is_not_enforced_refuses_nothing(open_relay: Callable[..., Any], mode: str) -> None:
    async with open_relay(RELAY_NECTOR_HMAC=mode) as relay:
        assert (await post(relay, x_nector_webhook_hmac="nonsense")).status_code == 202


async def test_the_hmac_scheme_that_held_is_counted(relay: Any) -> None:
    body = json.dumps(COINS).encode()
    await post(relay, body, x_nector_webhook_hmac=hmac.new(b"test-secret", body, "sha256").hexdigest())
    metrics = (await relay.ops("GET", "/metrics")).text
    assert 'nector_relay_hmac_total{scheme="hex/key=secret"} 1.0' in metrics


async def test_a_store_that_cannot_commit_is_503_with_retry_after(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.errors import StoreFull  # noqa: PLC0415  # beside its one use

    async def fail(*_: Any) -> None:
        raise StoreFull("no space")

    break_store(monkeypatch, relay.outbox, fail, "add_events")
    answer = await post(relay)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "no space" not in answer.text


async def test_no_answer_repeats_a_value_of_the_body(relay: Any) -> None:
    secret_code = "ACME-7Q2P"
    for body in (
        f'{{"value": "{secret_code}"'.encode(),
        f'{{"{secret_code} x": 1, "{secret_code} x": 2}}'.encode(),
        f'["{secret_code}"]'.encode(),
    ):
        assert secret_code not in (await post(relay, body)).text


async def test_a_webhook_that_is_cut_off_by_our_shutdown_is_503(relay: Any) -> None:
    sent: list[Any] = []

    async def hang() -> Any:
        await asyncio.Event().wait()

    async def keep(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers().items()]
    scope = {"type": "http", "method": "POST", "path": "/webhooks/nector", "query_string": b"", "headers": raw}
    open_request = asyncio.create_task(WebhookEndpoint(relay.relay.shared, relay.take)(scope, hang, keep))
    await asyncio.sleep(0)
    open_request.cancel()
    await open_request
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])


NEW_YORK = {"user_name": "Riya", "mobile": "917-555-0143", "amount": "100"}


@pytest.mark.parametrize(
    "where",
    [
        {"default_address": {"country": "United States", "country_code": "US"}},
        {"billing": {"country": "US"}},
        {"country_code": "US"},
        {"phone_country_code": "+1"},
        {"customer": {"default_address": {"country_code_v2": "US"}}},
    ],
)
async def test_a_number_abroad_is_never_read_as_an_indians(relay: Any, where: dict[str, Any]) -> None:
    (delivery,) = (await relay.post({**NEW_YORK, **where})).json()["deliveries"]
    shown = await relay.delivery(delivery["id"])
    assert (shown["recipient"][:3], shown["recipient"][-4:]) == ("+1*", "0143")


@pytest.mark.parametrize(
    "phone", ["+6281234567890.0", "+62 812-3456-7890 (2)", "+43 664 123456-12", "+43 664 123456 - 2"]
)
async def test_a_note_behind_a_number_makes_no_message_to_a_stranger(relay: Any, phone: str) -> None:
    (delivery,) = (await relay.post({**NEW_YORK, "mobile": phone})).json()["deliveries"]
    shown = await relay.delivery(delivery["id"])
    assert (shown["state"], shown["reason"]) == ("dead", "recipient_invalid")
