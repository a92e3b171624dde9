"""What every provider type has to keep, run over all of PROVIDER_TYPES."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import Mistake
from app.model.delivery import Accepted, Reason, Rejected, Retryable, Scope, Uncertain
from app.model.message import Message, Receipt, ReceiptStatus, Reply, Variable
from app.providers import PROVIDER_TYPES, settings_types
from app.providers.base import Provider, Response
from app.providers.trouble import META_CODES
from tests.providers.conftest import read_webhook

TextsOf = Callable[[bytes], list[str]]


class Sample(Protocol):
    """conftest.Sample, as far as this suite needs it."""

    settings: Mapping[str, Any]
    secrets: tuple[str, ...]
    accepted_body: Mapping[str, Any]
    prove: Callable[[bytes], tuple[Mapping[str, str], Mapping[str, str]]]
    unprovable: Mapping[str, Any]
    describe_receipt: Callable[[str, str], Any]
    describe_reply: Callable[[str, str], Any]
    reply_headers: Mapping[str, str]


TOO_LONG = b'{"id": "m-1", "status": "ACCEPTED", "pad": "' + b"x" * 65_536 + b'"}'
OWN_KEYS = (
    *("status", "id", "error", "errors", "code", "message", "data", "whatsapp", "event", "entry", "changes"),
    *("value", "statuses", "timestamp", "localMessageId", "content_attributes", "external_error", "success"),
    *("messages", "user_preferences", "category", "wa_id", "from", "text", "button", "interactive", "context"),
    *("message_type", "content", "conversation", "phone_number", "contact", "phone", "type", "body"),
)

# The providers are values: a fixture that outlives one example changes nothing.
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

HOSTILE = [
    'quote " and \\ backslash',
    "two\nlines",
    "CR\r\nX-Evil: 1\r\n\r\n",
    "{{7*7}} {{1}} {0.__class__} %n ${HOME} $phone $$",
    "हिन्दी 🎁 \u202eevil",
    "\ud800 half a pair",
    "</script>&?#/../",
    "\x00\x1b[31m",
]


def test_every_type_is_listed_under_its_own_name() -> None:
    assert sorted(settings_types()) == ["bitespeed", "gallabox", "http"]
    for name, provider_type in PROVIDER_TYPES.items():
        assert settings_types()[name] is provider_type.settings_type


def test_request_carries_the_message_as_json(provider: Provider, message: Message, texts_of: TextsOf) -> None:
    request = provider.build_request(message, "d-1")
    lower = {name.lower(): value for name, value in request.headers.items()}
    assert lower["content-type"] == "application/json"
    assert request.method == "POST"
    assert request.url.startswith("https://")
    texts = texts_of(request.body)
    assert any(text.removeprefix("+") == "919800000001" for text in texts)
    for value in ("coins_earned", "Riya", "100", "https://cdn.example/banner.jpg", "redeem%2FACME-7Q2P"):
        assert value in texts


def test_request_of_a_delivery_is_the_same_on_every_try(provider: Provider, message: Message) -> None:
    assert provider.build_request(message, "d-1") == provider.build_request(message, "d-1")


def test_message_without_extras_leaves_them_out(provider: Provider) -> None:
    bare = Message(recipient="+919800000001", template="coins_earned")
    body = json.loads(provider.build_request(bare, "d-1").body)
    assert "null" not in json.dumps(body)
    assert not {"header", "buttons", "headerValues", "buttonValues", "language", "languageCode"} & set(body)


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_stay_inside_their_json_text(
    provider: Provider, message: Message, texts_of: TextsOf, value: str
) -> None:
    tame = provider.build_request(message, "d-1")
    hostile = provider.build_request(
        replace(message, variables=(Variable("user_name", value), Variable("amount", "100"))), "d-1"
    )
    assert (hostile.method, hostile.url, hostile.headers) == (tame.method, tame.url, tame.headers)
    assert value in texts_of(hostile.body)
    for line in hostile.headers.values():
        assert line.isascii()
        assert line.isprintable()


@fuzz
@given(values=st.lists(st.text(min_size=1), max_size=5))
def test_every_variable_arrives_exactly_as_given(
    provider: Provider, message: Message, texts_of: TextsOf, values: list[str]
) -> None:
    variables = tuple(Variable(f"v{place}", value) for place, value in enumerate(values))
    texts = texts_of(provider.build_request(replace(message, variables=variables), "d-1").body)
    places = [texts.index(value) for value in values]
    assert len(places) == len(values)


def test_no_secret_shows_in_a_repr(sample: Sample, provider: Provider, message: Message) -> None:
    request = provider.build_request(message, "d-1")
    shown = repr(provider) + repr(request) + str(provider)
    assert not [secret for secret in sample.secrets if secret in shown]
    assert "919800000001" not in repr(request)


def test_control_the_secrets_are_really_in_use(sample: Sample, provider: Provider, message: Message) -> None:
    request = provider.build_request(message, "d-1")
    sent = str(request.headers) + request.body.decode()
    assert [secret for secret in sample.secrets if secret in sent]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 409, 422, 429, 500, 502, 503])
def test_detail_holds_no_secret_no_phone_and_is_short(sample: Sample, provider: Provider, status: int) -> None:
    echoed = f"{' '.join(sample.secrets)} +91 98000-00001 919800000001 riya@shop.example {'x ' * 500}"
    body = json.dumps({"status": "failed", "error": {"message": echoed, "title": echoed}, "message": echoed})
    outcome = provider.read_response(Response(status, {}, body.encode()))
    assert not isinstance(outcome, Accepted)
    assert not [secret for secret in (*sample.secrets, "00001", "riya@") if secret in outcome.detail]
    assert len(outcome.detail) <= 200
    assert outcome.detail.startswith(f"HTTP {status}")


def test_the_answer_of_success_is_accepted_with_its_id(sample: Sample, provider: Provider) -> None:
    body = json.dumps(sample.accepted_body).encode()
    assert provider.read_response(Response(202, {}, body)) == Accepted("m-1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"<html>ok</html>",
        b'{"id": "m-1", "stat',
        b"null",
        b"[]",
        b'"ok"',
        b"7",
        b"\xff\xfe",
        b"[" * 60_000,
        TOO_LONG,
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_that_cannot_be_read_is_uncertain(provider: Provider, status: int, body: bytes) -> None:
    outcome = provider.read_response(Response(status, {}, body))
    assert isinstance(outcome, Uncertain)
    assert outcome.reason is Reason.ANSWER_UNREADABLE


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": "failed", "message": "no"}, Rejected(Reason.REQUEST_REFUSED)),
        ({"status": "error", "error": "no"}, Rejected(Reason.REQUEST_REFUSED)),
        ({"success": False, "status": "ACCEPTED"}, Rejected(Reason.REQUEST_REFUSED)),
        ({"status": 400, "message": "no"}, Rejected(Reason.REQUEST_REFUSED)),
        ({"status": "ACCEPTED", "errors": [{"title": "no"}]}, Rejected(Reason.REQUEST_REFUSED)),
        ({"status": "failed", "message": "Insufficient balance"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        (
            {"error": {"code": 132001, "message": "(#132001) Template name does not exist"}},
            Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
        ),
        ({"error": {"code": 130429}}, Retryable(Reason.RATE_LIMITED, Scope.PROVIDER)),
    ],
)
def test_success_with_an_error_in_it_is_never_accepted(
    provider: Provider, answer: Mapping[str, Any], expected: Rejected | Retryable
) -> None:
    outcome = provider.read_response(Response(200, {}, json.dumps(answer).encode()))
    assert isinstance(outcome, Rejected | Retryable)
    assert replace(outcome, detail="") == expected


def expected_outcome(status: int) -> Any:  # noqa: C901 - a table, line for line
    """Return (class, reason, scope) of an answer with an empty body; None scope: has none."""
    match status:
        case 401 | 403:
            return Rejected, Reason.CREDENTIALS_REFUSED, Scope.PROVIDER
        case 402:
            return Rejected, Reason.BALANCE_EMPTY, Scope.PROVIDER
        case 400 | 404 | 405 | 406 | 409 | 410 | 411 | 412 | 413 | 414 | 415 | 416 | 417 | 421 | 422 | 426 | 428:
            return Rejected, Reason.REQUEST_REFUSED, Scope.MESSAGE
        case 431 | 451:
            return Rejected, Reason.REQUEST_REFUSED, Scope.MESSAGE
        case 429:
            return Retryable, Reason.RATE_LIMITED, Scope.PROVIDER
        case 503:
            return Retryable, Reason.UNAVAILABLE, Scope.PROVIDER
        case 500:
            return Retryable, Reason.SERVER_ERROR, Scope.MESSAGE
        case 408:
            return Uncertain, Reason.GATEWAY_FAILED, None
        case _ if 300 <= status < 400:
            return Rejected, Reason.REDIRECTED, Scope.PROVIDER
        case _ if 500 <= status < 600:
            return Uncertain, Reason.GATEWAY_FAILED, None
        case _:
            return Uncertain, Reason.ANSWER_UNREADABLE, None


@pytest.mark.parametrize("body", [b"", b"<html>sorry</html>", b"{}", b"[1]"])
def test_every_status_has_the_outcome_of_the_table(provider: Provider, body: bytes) -> None:
    for status in [*range(100, 200), *range(300, 600)]:
        outcome = provider.read_response(Response(status, {}, body))
        assert not isinstance(outcome, Accepted)
        found = (type(outcome), outcome.reason, getattr(outcome, "scope", None))
        assert found == expected_outcome(status), status


@pytest.mark.parametrize("status", range(200, 300))
def test_no_2xx_without_a_body_is_taken_for_success(provider: Provider, status: int) -> None:
    assert isinstance(provider.read_response(Response(status, {}, b"")), Uncertain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(OWN_KEYS) | st.text(max_size=8),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
bodies = st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode())
header_values = st.sampled_from(["-5", "1e9", "Sun, 99 Foo 2026 25:61:61 GMT", "9" * 400, "٣"]) | st.text(max_size=40)


@pytest.mark.untraced
@fuzz
@given(status=st.integers(min_value=-1, max_value=1000), body=bodies, retry_after=header_values, date=header_values)
def test_no_answer_whatever_its_bytes_raises(
    provider: Provider, status: int, body: bytes, retry_after: str, date: str
) -> None:
    outcome = provider.read_response(Response(status, {"retry-after": retry_after, "date": date}, body))
    assert isinstance(outcome, Accepted | Retryable | Rejected | Uncertain)
    if isinstance(outcome, Retryable):
        assert outcome.retry_after_ms is None or outcome.retry_after_ms >= 0


@pytest.mark.untraced
@fuzz
@given(body=bodies, header=st.text(max_size=60))
def test_no_webhook_whatever_its_bytes_raises(provider: Provider, body: bytes, header: str) -> None:
    headers = {"x-event-name": header, "x-gallabox-signature": header, "x-hub-signature-256": header}
    assert provider.read_proof(headers, {"token": header}).fits(body) is False
    for receipts in (read_webhook(provider, headers, body).receipts, read_webhook(provider, {}, body).receipts):
        for receipt in receipts:
            assert receipt.delivery_id is not None or receipt.provider_message_id is not None
    for name in (header, "Message.Received", "Message.WA.Interaction.Received"):
        for reply in read_webhook(provider, {"x-event-name": name}, body).replies:
            assert reply.sender or reply.delivery_id or reply.provider_message_id
            assert re.fullmatch(r"(\+[1-9][0-9]{7,14})?", reply.sender)


def test_own_webhook_is_believed_and_a_forged_one_is_not(sample: Sample, provider: Provider) -> None:
    body = json.dumps(sample.describe_receipt("m-1", "delivered")).encode()
    headers, query = sample.prove(body)
    assert provider.read_proof(headers, query).fits(body)
    assert not provider.read_proof({}, {}).fits(body)
    assert not provider.read_proof(dict.fromkeys(headers, "x"), dict.fromkeys(query, "x")).fits(body)
    assert not provider.read_proof(dict.fromkeys(headers, "é"), dict.fromkeys(query, "é")).fits(body)
    assert not provider.read_proof(dict.fromkeys(headers, ""), dict.fromkeys(query, "")).fits(body)


def test_what_cannot_be_genuine_is_known_from_headers_and_query(sample: Sample, provider: Provider) -> None:
    headers, query = sample.prove(b"{}")
    assert provider.read_proof(headers, query).find_mistake() is None
    assert provider.read_proof({}, {}).find_mistake() is Mistake.MISSING
    assert provider.read_proof(dict.fromkeys(headers, " "), dict.fromkeys(query, "")).find_mistake() is Mistake.MISSING
    for wrong in ("x", "é", "sha256=", "\ud800"):
        mistake = provider.read_proof(dict.fromkeys(headers, wrong), dict.fromkeys(query, wrong)).find_mistake()
        assert mistake is (Mistake.OTHER if query else Mistake.MALFORMED)


def test_without_a_webhook_secret_no_webhook_is_believed(sample: Sample) -> None:
    provider_type = PROVIDER_TYPES[sample.settings["type"]]
    settings_ = provider_type.settings_type.model_validate({**sample.settings, **sample.unprovable})
    for body in (b"", b"{}"):
        headers, query = sample.prove(body)
        assert not provider_type(settings_).read_proof(headers, query).fits(body)
        assert provider_type(settings_).read_proof(headers, query).find_mistake() is Mistake.UNSET
        assert not provider_type(settings_).read_proof({}, {"token": ""}).fits(body)


@pytest.mark.parametrize("status", list(ReceiptStatus))
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_every_status_word_is_read_in_any_case(
    sample: Sample, provider: Provider, status: ReceiptStatus, spell: Callable[[str], str]
) -> None:
    body = json.dumps(sample.describe_receipt("m-1", spell(status.value))).encode()
    (receipt,) = read_webhook(provider, {}, body).receipts
    assert (receipt.status, receipt.provider_message_id) == (status, "m-1")
    assert (receipt.reason is not None) is (status is ReceiptStatus.FAILED)


def test_a_reply_is_read_with_who_sent_it_and_what_it_answers(sample: Sample, provider: Provider) -> None:
    body = json.dumps(sample.describe_reply("m-1", "Stop")).encode()
    expected = Reply("+919800000001", "Stop", tapped=False, provider_message_id="m-1", at=1_790_000_000_000)
    assert tuple(read_webhook(provider, sample.reply_headers, body).replies) == (expected,)
    assert tuple(read_webhook(provider, sample.reply_headers, body).receipts) == ()


@pytest.mark.parametrize("status", list(ReceiptStatus))
def test_a_receipt_is_no_reply(sample: Sample, provider: Provider, status: ReceiptStatus) -> None:
    body = json.dumps(sample.describe_receipt("m-1", status.value)).encode()
    assert tuple(read_webhook(provider, sample.prove(body)[0], body).replies) == ()


@pytest.mark.parametrize("code", sorted(META_CODES))
def test_a_failed_receipt_speaks_of_what_its_code_speaks_of(sample: Sample, provider: Provider, code: int) -> None:
    told = sample.describe_receipt("m-1", "failed")
    place = told["entry"][0]["changes"][0]["value"]["statuses"][0] if "entry" in told else told
    place["errors"] = [{"code": code, "title": "no", "error_data": {"details": "no"}}]
    if "event" in told:
        place["content_attributes"] = {"errors": place.pop("errors")}
    (receipt,) = read_webhook(provider, {}, json.dumps(told).encode()).receipts
    meaning = META_CODES[code]
    assert receipt.reason is meaning.reason
    assert receipt.scope is (Scope.MESSAGE if meaning.retry else meaning.scope), "what may pass holds nothing"


def test_the_order_of_webhooks_does_not_matter(sample: Sample, provider: Provider) -> None:
    bodies_ = [json.dumps(sample.describe_receipt("m-1", word)).encode() for word in ("sent", "read", "delivered")]
    read: dict[bytes, tuple[Receipt, ...]] = {
        body: tuple(read_webhook(provider, {}, body).receipts) for body in bodies_
    }
    random.Random(7).shuffle(bodies_)  # noqa: S311 - an order, not a secret
    for body in bodies_:
        assert tuple(read_webhook(provider, {}, body).receipts) == read[body]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[]", b"null", b"<xml/>", b'{"hello": "world"}', b'{"status": "delivered"}', b'{"id": "m-1"}'),
        b'{"id": "m-1", "event": "message_updated", "status": "typing", "whatsapp": {"status": "received"}}',
    ],
)
def test_unknown_webhook_reports_nothing(provider: Provider, body: bytes) -> None:
    assert tuple(read_webhook(provider, {}, body).receipts) == ()
    assert tuple(read_webhook(provider, {"x-event-name": "Message.Received"}, body).replies) == ()
