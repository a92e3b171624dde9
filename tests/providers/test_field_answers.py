"""Answers of the kinds that people reported in public, each read by every provider type: outcome, reason, scope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.delivery.decide import decide
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.providers.base import Provider, Response

Kind = tuple[str, Reason | None, Scope | None]

TAKEN: Kind = ("accepted", None, None)
DOUBT: Kind = ("uncertain", Reason.ANSWER_UNREADABLE, None)
GATEWAY: Kind = ("uncertain", Reason.GATEWAY_FAILED, None)
REFUSED: Kind = ("rejected", Reason.REQUEST_REFUSED, Scope.MESSAGE)
LATER: Kind = ("retryable", Reason.RATE_LIMITED, Scope.PROVIDER)
LATER_FLOW: Kind = ("retryable", Reason.RATE_LIMITED, Scope.MESSAGE)
PAIR: Kind = ("retryable", Reason.RATE_LIMITED, Scope.RECIPIENT)
DOWN: Kind = ("retryable", Reason.UNAVAILABLE, Scope.PROVIDER)
KEY: Kind = ("rejected", Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)
UNPAID: Kind = ("rejected", Reason.BALANCE_EMPTY, Scope.PROVIDER)
BLOCKED: Kind = ("rejected", Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)
NO_TEMPLATE: Kind = ("rejected", Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)
PAUSED: Kind = ("rejected", Reason.TEMPLATE_PAUSED, Scope.TEMPLATE)
COUNT: Kind = ("rejected", Reason.PARAMETERS_REFUSED, Scope.TEMPLATE)
NOBODY: Kind = ("rejected", Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT)
STOPPED: Kind = ("rejected", Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT)

CLOUDFLARE = "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head></html>"
BOM = b"\xef\xbb\xbf"


def meta(code: int, **more: Any) -> Any:
    return {"error": {"message": "no", "type": "OAuthException", "code": code, "fbtrace_id": "x", **more}}


def told(code: int) -> str:
    return json.dumps({"error": {"code": code, "message": "no"}})


@dataclass(frozen=True)
class Row:
    status: int
    body: Any
    kind: Kind
    headers: Mapping[str, str] = field(default_factory=dict)


ROWS = [
    # a 2xx that is a refusal
    Row(200, {"result": False, "message": "template not found"}, NO_TEMPLATE),
    Row(200, {"result": False, "info": "no"}, REFUSED),
    Row(200, {"result": "error", "message": "no"}, REFUSED),
    Row(200, {"success": "False"}, REFUSED),
    Row(200, {"success": "0"}, REFUSED),
    Row(200, {"success": 0}, REFUSED),
    Row(200, {"isSuccess": False}, REFUSED),
    Row(200, {"status": False}, REFUSED),
    Row(200, {"status": "0", "message": "no"}, DOUBT),
    Row(200, {"statusCode": "400", "message": "no"}, REFUSED),
    Row(200, {"status": 400, "message": "no"}, REFUSED),
    Row(200, {"code": 400, "message": "no"}, REFUSED),
    Row(200, {"code": "INVALID_TEMPLATE"}, REFUSED),
    Row(200, {"type": "error"}, REFUSED),
    Row(200, {"Status": "Error"}, REFUSED),
    Row(200, {"Error": "no"}, REFUSED),
    Row(200, {"hasError": True}, REFUSED),
    Row(200, {"data": {"status": "failed"}}, REFUSED),
    Row(200, {"messages": [{"status": "failed", "errors": [{"code": 131026}]}]}, NOBODY),
    Row(200, {"status": "undelivered"}, REFUSED),
    Row(200, {"status": "invalid"}, REFUSED),
    Row(200, {"result": True, "receivers": [{"isValidWhatsAppNumber": False, "errors": ["Invalid number"]}]}, NOBODY),
    Row(200, {"messages": []}, DOUBT),
    Row(200, {"status": "error"}, REFUSED),
    Row(200, {"error": "no"}, REFUSED),
    Row(200, {"meta": {"success": False, "developerMessage": "Invalid api_key"}}, REFUSED),
    Row(200, {"response": {"error": {"code": 132001, "message": "no"}}}, NO_TEMPLATE),
    Row(200, "queued", DOUBT),
    Row(200, 1, DOUBT),
    Row(204, b"", DOUBT),
    Row(200, {}, DOUBT),
    Row(200, {"message": "template not found"}, DOUBT),
    Row(200, {"status": "success", "message": "Invalid phone number"}, DOUBT),
    Row(200, {"id": None, "messageId": ""}, DOUBT),
    # a 2xx that is in progress
    *(Row(202, {"id": "g-2", "status": word, "message": "ok"}, TAKEN) for word in ("QUEUED", "SENT", "PENDING")),
    *(Row(202, {"messageId": "g-2", "status": word}, TAKEN) for word in ("SUCCESS", "submitted", "processing")),
    Row(202, {"status": "submitted"}, TAKEN),
    Row(202, {"data": {"status": "QUEUED", "id": "x-1"}}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED"}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": {"code": 0, "message": "Success"}}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": {"code": "0", "message": "done"}}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": "null"}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": "false"}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": "none"}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": None, "errors": []}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "error": 0}, TAKEN),
    Row(207, {"id": "g-1", "status": "ACCEPTED"}, TAKEN),
    Row(202, {"id": "g-1", "status": "ACCEPTED", "message": told(131026)}, NOBODY),
    Row(202, {"id": "g-2", "status": "WARMING_UP"}, DOUBT),
    Row(202, {"status": "WARMING_UP"}, DOUBT),
    Row(200, {"messaging_product": "whatsapp", "contacts": [{"wa_id": "1"}], "messages": [{"id": "wamid.1"}]}, TAKEN),
    Row(200, {"messages": [{"id": "wamid.1", "message_status": "held_for_quality_assessment"}]}, TAKEN),
    Row(200, {"messages": [{"messageId": "i-1", "status": {"groupName": "PENDING", "id": 7}}]}, TAKEN),
    Row(200, {"messages": [{"messageId": "i-1", "status": {"groupName": "REJECTED", "id": 7}}]}, REFUSED),
    Row(201, {"sid": "SM1", "status": "queued", "error_code": None, "error_message": None}, TAKEN),
    Row(200, {"result": True, "contact": {"id": "c-1", "status": "INVALID"}, "validWhatsAppNumber": True}, TAKEN),
    Row(200, {"result": True, "message": "Message created successfully", "id": "i-1"}, TAKEN),
    Row(200, [{"message_id": "k-1"}], TAKEN),
    # throttling without 429
    Row(400, {"message": "Too many requests, please try again later."}, LATER),
    Row(400, {"error": "Rate limit exceeded"}, LATER),
    Row(200, {"status": "error", "message": "Too many requests"}, LATER),
    Row(403, {"message": "Rate limit exceeded. Try again in 60 seconds"}, LATER),
    Row(403, {"message": "Out of call volume quota. Quota will be replenished in 02:10:15."}, LATER),
    Row(403, {"type": "message-rate-limit", "description": "message-rate-limit"}, LATER),
    Row(403, b"Rate limit exceeded", LATER),
    Row(400, {"meta": {"developerMessage": "You have exceeded the limit of 1 request every 2 seconds."}}, LATER),
    Row(429, {"errors": [{"code": 1015, "title": "Too many requests"}]}, LATER),
    Row(429, b"<html>slow down</html>", LATER),
    Row(503, b"<html>maintenance</html>", DOWN),
    Row(400, {"message": "(#131056) pair rate limit hit"}, PAIR),
    # Meta's codes
    *(Row(400, meta(code), BLOCKED) for code in (133010, 131037, 33, 131031, 131048)),
    Row(400, meta(131005), KEY),
    Row(400, meta(100, error_subcode=33), BLOCKED),
    *(Row(400, meta(code), LATER) for code in (4, 17, 613, 80007, 130429, 133016)),
    Row(400, meta(133004), DOWN),
    Row(400, meta(1, is_transient=True), DOWN),
    Row(400, meta(2, is_transient=True), DOWN),
    Row(400, meta(1), REFUSED),
    Row(400, meta(999, is_transient=True), DOWN),
    Row(400, meta(132069), LATER_FLOW),
    Row(500, meta(2), DOWN),
    Row(400, meta(190), KEY),
    Row(401, meta(190), KEY),
    Row(400, meta(131042), UNPAID),
    Row(400, {"response": {"data": {"error": {"code": 130429}}}}, LATER),
    Row(400, {"error": {"details": {"error": {"code": 131042}}}}, UNPAID),
    Row(400, {"message": "(#613) Calls to this api have exceeded the limit"}, LATER),
    # Meta's error passed through otherwise
    *(
        Row(400, {"message": told(code)}, kind)
        for code, kind in ((131042, UNPAID), (131031, BLOCKED), (130429, LATER), (132000, COUNT), (132001, NO_TEMPLATE))
    ),
    Row(400, {"message": json.dumps(meta(190))}, KEY),
    Row(400, {"message": f"400 - {told(131042)}"}, UNPAID),
    Row(400, {"error": {"whatsappApiError": {"code": "131042"}}}, UNPAID),
    Row(400, {"errors": {"code": 131042}}, UNPAID),
    Row(400, {"error": [{"code": 131042}]}, UNPAID),
    Row(400, {"error": {"error_data": {"details": "(#132001) Template name does not exist"}}}, NO_TEMPLATE),
    Row(400, {"message": "132015: template is paused"}, PAUSED),
    # the account, in the BSP's words
    Row(400, {"message": "Your subscription has expired"}, UNPAID),
    Row(400, {"message": "Trial expired"}, UNPAID),
    Row(400, {"message": "WCC balance is below the minimum threshold"}, UNPAID),
    Row(404, {"message": "Channel not found"}, BLOCKED),
    Row(400, {"message": "Invalid channel id"}, BLOCKED),
    Row(400, {"message": "Channel is disconnected"}, BLOCKED),
    Row(400, {"meta": {"developerMessage": "Your WhatsApp for Business API has been disabled."}}, BLOCKED),
    Row(400, {"message": "Template is in pending state"}, NO_TEMPLATE),
    Row(400, {"message": "Insufficient credits"}, UNPAID),
    Row(400, {"message": "not enough credits"}, UNPAID),
    Row(400, {"message": "Template not found"}, NO_TEMPLATE),
    Row(400, {"message": "Template name does not exist"}, NO_TEMPLATE),
    Row(404, {"message": "We know no template by this name"}, NO_TEMPLATE),
    Row(403, {"message": "Your plan has no access to the API"}, KEY),
    Row(402, {"message": "belongs to an account which has no balance available"}, UNPAID),
    # one person, in the BSP's words
    Row(400, {"message": "Invalid phone number"}, NOBODY),
    Row(400, {"message": "Invalid recipient's number"}, NOBODY),
    Row(400, {"message": "Phone number does not exist on WhatsApp"}, NOBODY),
    Row(400, {"message": "The recipient is not a WhatsApp user"}, NOBODY),
    Row(400, {"error": "number is not registered on WhatsApp"}, NOBODY),
    Row(400, {"message": "Recipient is opted out"}, STOPPED),
    Row(400, {"message": "Message sending failed as the phone number is opted out."}, STOPPED),
    Row(400, {"message": "User has not opted in"}, ("rejected", Reason.REQUEST_REFUSED, Scope.RECIPIENT)),
    # pages
    Row(403, CLOUDFLARE.encode(), KEY),
    Row(403, b"error code: 1020", KEY),
    Row(200, b"<html><head><title>We will be back soon</title></head></html>", DOUBT),
    Row(200, b"<!doctype html><div id=app></div>", DOUBT, {"content-type": "text/html; charset=utf-8"}),
    Row(502, CLOUDFLARE.encode(), GATEWAY),
    # a byte order mark
    Row(202, BOM + b'{"id": "g-1", "status": "ACCEPTED"}', TAKEN),
    Row(400, BOM + told(132001).encode(), NO_TEMPLATE),
    # 409
    Row(409, {"message": "Contact already exists with this phone"}, REFUSED),
    Row(409, {"message": "Template already exists"}, REFUSED),
    Row(409, {"message": "Duplicate message"}, TAKEN),
    Row(409, {"message": "Message with this localMessageId already exists"}, TAKEN),
    Row(409, {"error": "duplicate"}, TAKEN),
    Row(409, {"message": "Duplicate contact"}, REFUSED),
    # an id, and words against it
    Row(429, {"messageId": "g-1", "message": "Too many requests"}, DOUBT),
    Row(400, {"id": "g-1", "message": "Too many requests"}, DOUBT),
    Row(503, {"messages": [{"id": "wamid.1"}]}, DOUBT),
    Row(200, {"id": "g-1", "status": "error", "message": "Too many requests"}, DOUBT),
    Row(200, {"id": "g-1", "status": "failed", "error": {"code": 131042}}, DOUBT),
    Row(401, {"id": "unauthorized", "message": "no"}, KEY),
]


def answer(row: Row) -> Response:
    return Response(row.status, row.headers, write(row.body))


def write(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def kind_of(outcome: Outcome) -> Kind:
    if isinstance(outcome, Accepted):
        return TAKEN
    return type(outcome).__name__.lower(), outcome.reason, getattr(outcome, "scope", None)


def is_sent_again(outcome: Outcome) -> bool:
    """Tell whether the relay sends the message once more without anybody's doing."""
    decision = decide(
        outcome,
        attempt_number=1,
        now=0,
        deadline_at=10**9,
        on_unknown="hold",
        provider="shop",
        template="t",
        random=lambda: 0.0,
    )
    return decision.state is State.PENDING or decision.due_at is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status}-{row.body!s:.60}")
def test_an_answer_means_what_its_sender_meant(provider: Provider, row: Row) -> None:
    assert kind_of(provider.read_response(answer(row))) == row.kind


def test_there_are_as_many_answers_as_were_tried() -> None:
    assert len(ROWS) >= 138


ERRORS = [row for row in ROWS if row.status in (200, 400) and isinstance(row.body, dict) and row.kind[0] != "accepted"]
PLAIN = [row for row in ERRORS if row.kind not in (DOUBT, REFUSED)]
fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
wrappers = st.lists(st.sampled_from(["data", "response", "error", "whatsapp", "[]", "text"]), max_size=4)


def wrap(value: Any, how: list[str]) -> Any:
    for each in how:
        if each == "[]":
            value = {"errors": [value]}
        elif each == "text":
            value = {"message": f"upstream said {json.dumps(value)}"}
        else:
            value = {each: value}
    return value


@fuzz
@given(row=st.sampled_from(PLAIN), how=wrappers)
def test_an_error_means_the_same_however_it_is_wrapped(provider: Provider, row: Row, how: list[str]) -> None:
    wrapped = replace(row, body=wrap(row.body, how))
    assert kind_of(provider.read_response(answer(wrapped))) == row.kind


@fuzz
@given(
    row=st.sampled_from([row for row in ROWS if isinstance(row.body, dict)]),
    ids=st.sampled_from(
        [{"messageId": "m-7"}, {"message_id": 4711}, {"messages": [{"id": "wamid.7"}]}, {"data": {"id": "x-7"}}]
    ),
)
def test_what_names_a_message_is_never_sent_again_by_itself(provider: Provider, row: Row, ids: Any) -> None:
    outcome = provider.read_response(answer(replace(row, body={**ids, **row.body, **ids})))
    assert not is_sent_again(outcome)
    if isinstance(outcome, Uncertain) and row.status < 300:
        assert outcome.provider_message_id is not None, "its receipt can settle it"


@fuzz
@given(status=st.integers(200, 299), words=st.lists(st.sampled_from([row.body for row in PLAIN]), max_size=3))
def test_a_2xx_without_an_explicit_error_is_never_sent_again_by_itself(
    provider: Provider, status: int, words: list[Any]
) -> None:
    body = {"message": " ".join(str(one.get("message", "")) for one in words).replace("{", ""), "note": "try again"}
    assert isinstance(provider.read_response(Response(status, {}, write(body))), Uncertain)


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (
            Row(403, CLOUDFLARE.encode(), KEY),
            'HTTP 403: a page "Attention Required! | Cloudflare": a firewall or a proxy answered, not the API',
        ),
        (
            Row(200, b"<html><title>Call 919800000001 now</title>", DOUBT),
            'HTTP 200: a page "Call *** now": a firewall or a proxy answered, not the API',
        ),
        (Row(403, b"error code: 1020", KEY), "HTTP 403: error code: 1020"),
        (
            Row(200, {"ref": "r", "info": {"at": 1, "98000": 2}}, DOUBT),
            "HTTP 200: it names neither an id nor an error; its keys: ref, info, info.at",
        ),
        (Row(202, [["x"]], DOUBT), "HTTP 202: it names neither an id nor an error"),
        (Row(202, {"id": "g-2", "status": "WARMING_UP"}, DOUBT), 'HTTP 202: "warming up" is no status we know; its'),
        (Row(400, {"errors": [{"code": 139999, "title": "new"}]}, REFUSED), "HTTP 400: 139999: new"),
        (Row(200, b"OK", DOUBT), "HTTP 200: the body is not the JSON we expect"),
    ],
)
def test_what_a_person_is_shown(provider: Provider, row: Row, detail: str) -> None:
    outcome = provider.read_response(answer(row))
    assert not isinstance(outcome, Accepted)
    assert outcome.detail.startswith(detail)
    assert kind_of(outcome) == row.kind


@pytest.mark.parametrize(
    ("headers", "words", "expected_ms"),
    [
        ({"retry-after": "7", "x-ratelimit-reset": "60"}, "try again in 90 seconds", 7_000),
        ({"x-ratelimit-reset": "60"}, "try again in 90 seconds", 60_000),
        ({"x-ratelimit-reset": "1795321860", "date": "Sun, 22 Nov 2026 04:30:00 GMT"}, "", 60_000),
        ({"x-ratelimit-reset": "1795321860000", "date": "Sun, 22 Nov 2026 04:30:00 GMT"}, "", 60_000),
        ({"x-ratelimit-reset": "1795321700", "date": "Sun, 22 Nov 2026 04:30:00 GMT"}, "", 0),
        ({"x-ratelimit-reset": "1795321860"}, "", None),
        ({}, "try again in 90 seconds", 90_000),
        ({}, "wait for 2 minutes", 120_000),
        ({}, "retry after 500 ms", 500),
        ({}, "retry after 500 milliseconds", 500),
        ({}, "in 1 hour", 3_600_000),
        ({}, "within 1 hour", None),
    ],
)
def test_how_long_to_wait_is_read_wherever_it_is_said(
    provider: Provider, headers: Mapping[str, str], words: str, expected_ms: int | None
) -> None:
    body = {"message": f"Too many requests. {words}"}
    outcome = provider.read_response(Response(403, headers, write(body)))
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after_ms == expected_ms


def test_the_waiting_time_of_a_limit_is_not_that_of_a_fault(provider: Provider) -> None:
    outcome = provider.read_response(Response(500, {"x-ratelimit-reset": "3600"}, b""))
    assert outcome == Retryable(Reason.SERVER_ERROR, Scope.MESSAGE, None, "HTTP 500")


def test_a_rejection_after_an_id_stays_one_where_nothing_is_held(provider: Provider) -> None:
    body = {"messages": [{"id": "wamid.1", "status": "failed", "errors": [{"code": 131026}]}]}
    assert isinstance(provider.read_response(Response(200, {}, write(body))), Rejected)
