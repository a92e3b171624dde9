from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.providers.answers import read_answer, read_retry_after
from app.providers.base import Response

AT = "Sun, 22 Nov 2026 04:30:00 GMT"
THROTTLED = Retryable(Reason.RATE_LIMITED, Scope.PROVIDER)
REFUSED = Rejected(Reason.REQUEST_REFUSED)


def read(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(Response(status, headers or {}, raw), treat_500_as="retry", list_secrets=tuple)


@pytest.mark.parametrize(
    ("headers", "expected_ms"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 120 "}, 120_000),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "9" * 5_000}, 999_999_999_999_999_000),
        ({"retry-after": "Sun, 22 Nov 2026 04:32:00 GMT", "date": AT}, 120_000),
        ({"retry-after": "Sun, 22 Nov 2026 04:32:00 -0000", "date": AT}, 120_000),
        ({"retry-after": "Sun, 22 Nov 2026 04:29:00 GMT", "date": AT}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 04:32:00 GMT"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 04:32:00 GMT", "date": "yesterday"}, None),
        ({"retry-after": "soon", "date": AT}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: Mapping[str, str], expected_ms: int | None) -> None:
    assert read_retry_after(headers) == expected_ms


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_wish_to_wait_is_handed_on(status: int) -> None:
    outcome = read(status, b"", {"retry-after": "7"})
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after_ms == 7_000


def test_500_may_be_declared_uncertain() -> None:
    outcome = read_answer(Response(500, {}, b""), treat_500_as="unknown", list_secrets=tuple)
    assert outcome == Uncertain(Reason.GATEWAY_FAILED, "HTTP 500")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # words
        (400, {"message": "Insufficient wallet balance"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        (400, {"error": "Your credits have expired"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        (400, {"error": "Please recharge"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        (403, {"message": "not enough credits"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        (402, {"message": "anything"}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        # "balance" and "credits" are names of variables, too
        (400, {"message": "Missing value for variable balance"}, REFUSED),
        (400, {"message": "bodyValues.credits is empty: no value for balance"}, REFUSED),
        (404, {"message": "Template coins_earned not found"}, Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)),
        (404, {"message": "Channel not found"}, Rejected(Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)),
        (404, b"<html>template</html>", REFUSED),
        (400, {"error": {"title": "template is not approved"}}, Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)),
        (422, {"message": "template variable user_name is missing"}, REFUSED),
        # duplicates
        (409, {"message": "Duplicate message"}, Accepted()),
        (409, b"already sent", Accepted()),
        (409, {"message": "conflict"}, REFUSED),
        (409, b"\xff\xfe", REFUSED),
        # codes of their own field outrank the status
        (400, {"error": {"code": 132015, "message": "x"}}, Rejected(Reason.TEMPLATE_PAUSED, Scope.TEMPLATE)),
        (400, {"error": {"code": "131049"}}, Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT)),
        (500, {"errors": [{"code": 132001}]}, Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)),
        (429, {"error": {"code": 131056}}, Retryable(Reason.RATE_LIMITED, Scope.RECIPIENT)),
        (403, {"error": {"code": 131031}}, Rejected(Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)),
        (400, {"error": {"code": 190, "fbtrace_id": "x"}}, Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)),
        (400, {"data": {"error_code": 131042}}, Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER)),
        # …but not an answer that leaves open whether the message went
        (502, {"error": {"code": 132001}}, Uncertain(Reason.GATEWAY_FAILED)),
        (408, {"error": {"code": 132001}}, Uncertain(Reason.GATEWAY_FAILED)),
        (503, {"error": {"code": 132001}}, Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)),
        (401, {"error": {"code": 132001}}, Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)),
        # a small number is Meta's only in an error of Meta's form
        (400, {"code": 190, "message": "x"}, REFUSED),
        (400, {"code": 400, "error": {"code": 10}}, REFUSED),
        (400, {"code": 999_999}, REFUSED),
        (400, {"code": True}, REFUSED),
        # codes in prose: believed at the start, elsewhere only as far as the one message
        (400, {"message": "(#132001) Template name…"}, Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)),
        (400, {"message": "Meta error 131031: locked"}, Rejected(Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)),
        (400, {"error": "x", "message": "error code: 132016"}, Rejected(Reason.TEMPLATE_PAUSED, Scope.TEMPLATE)),
        (400, {"message": "cannot greet 131031"}, REFUSED),
        (400, {"message": "failed with 131026"}, Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT)),
        (400, {"message": "failed for 9131026"}, REFUSED),
        (400, {"message": "139999: unheard of"}, REFUSED),
        (429, {"message": "slow down, 131026"}, THROTTLED),
    ],
)
def test_body_refines_the_status(status: int, body: Any, expected: Outcome) -> None:
    outcome = read(status, body)
    assert (outcome if isinstance(outcome, Accepted) else replace(outcome, detail="")) == expected


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "HTTP 400"),
        (b"<html>918000000001</html>", "HTTP 400: a page: a firewall or a proxy answered, not the API"),
        ({"message": "no", "customer": "Riya"}, "HTTP 400: no"),
        ({"error": {"message": "a", "error_data": {"details": "b"}}, "title": "c"}, "HTTP 400: a | b | c"),
        ({"error": {"code": 131008, "message": "missing"}}, "HTTP 400: 131008: missing"),
        ({"message": "same", "error": "same"}, "HTTP 400: same"),
    ],
)
def test_detail_keeps_the_known_error_fields_only(body: Any, detail: str) -> None:
    outcome = read(400, body)
    assert isinstance(outcome, Rejected)
    assert outcome.detail == detail
