"""What an answer that is not a plain success means, by its status: shared by all providers (DESIGN §4.4-4.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from app.message.redact import MAX_DETAIL
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.providers.base import Response
from app.providers.json import as_mapping, parse_json
from app.providers.whatsapp import Trouble, describe_trouble, judge_trouble, outcome_of, read_trouble

# Statuses by which a server says that it did not do what was asked (RFC 9110). A 4xx of a gateway's own
# making (444, 460, 499 …) is not among them: it may be about a request that went through.
REFUSED = frozenset({400, 404, 405, 406, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 426, 428, 431, 451})
_DUPLICATE = re.compile(r"\b(?:duplicate|already)\b", re.IGNORECASE)
_FAILED_WORDS = frozenset({"failed", "failure", "fail", "error", "rejected"})
_FIRST_ERROR_STATUS = 400
_LONGEST_SECONDS = 15  # digits; more is "for ever" all the same


def is_success(status: int) -> bool:
    """Tell whether a status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the bounds of 2xx


def read_failure(response: Response, *, treat_500_as: Literal["retry", "unknown"], secrets: Sequence[str]) -> Outcome:
    """Return what an answer other than 2xx means, whatever its bytes.

    A WhatsApp error code in a field of its own says more than a refusing status or a 500, and wins over it.
    """
    status, body = response.status, parse_json(response.body)
    trouble = read_trouble(body)
    detail = describe_answer(status, trouble, secrets)
    retry_after_ms = read_retry_after(response.headers)
    if trouble.sure and (status in REFUSED or status in (402, 403, 429, 500)):
        return outcome_of(judge_trouble(trouble), detail, retry_after_ms)
    match status:
        case 429:
            return Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms, detail)
        case 503:
            return Retryable(Reason.UNAVAILABLE, Scope.PROVIDER, retry_after_ms, detail)
        case 500 if treat_500_as == "retry":
            return Retryable(Reason.SERVER_ERROR, Scope.MESSAGE, retry_after_ms, detail)
        case 408:
            return Uncertain(Reason.GATEWAY_FAILED, detail)
        case _ if 500 <= status < 600:  # noqa: PLR2004 - the bounds of 5xx
            return Uncertain(Reason.GATEWAY_FAILED, detail)
        case _:
            return _read_refusal(status, trouble, response.body, detail)


def _read_refusal(status: int, trouble: Trouble, body: bytes, detail: str) -> Outcome:
    match status:
        case 401 | 403:
            meaning = judge_trouble(trouble)
            reason = meaning.reason if meaning.reason is Reason.BALANCE_EMPTY else Reason.CREDENTIALS_REFUSED
            return Rejected(reason, Scope.PROVIDER, detail)
        case 402:
            return Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER, detail)
        case 404 if "template" in trouble.words.lower():
            return Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE, detail)
        case 409 if _DUPLICATE.search(body.decode(errors="replace")):
            return Accepted()
        case _ if 300 <= status < 400:  # noqa: PLR2004 - the bounds of 3xx
            return Rejected(Reason.REDIRECTED, Scope.PROVIDER, detail)
        case _ if status in REFUSED or status == 409:  # noqa: PLR2004 - Conflict
            return outcome_of(judge_trouble(trouble), detail)
        case _:
            return Uncertain(Reason.ANSWER_UNREADABLE, detail)


def has_error(value: Any) -> bool:
    """Tell whether a parsed 2xx answer says in the usual places that nothing was sent."""
    fields = as_mapping(value)
    status = fields.get("status", fields.get("statusCode"))
    return (
        bool(fields.get("error") or fields.get("errors"))
        or any(fields.get(key) in (False, "false") for key in ("success", "ok") if key in fields)
        or (isinstance(status, str) and status.lower() in _FAILED_WORDS)
        or (isinstance(status, int) and (status is False or status >= _FIRST_ERROR_STATUS))
    )


def read_told_error(value: Any, status: int, secrets: Sequence[str]) -> Outcome:
    """Return what a 2xx answer means whose JSON tells of an error."""
    trouble = read_trouble(value)
    return outcome_of(judge_trouble(trouble), describe_answer(status, trouble, secrets))


def describe_answer(status: int, trouble: Trouble, secrets: Sequence[str]) -> str:
    """Return a line for people: the status, the code, and the known error fields, redacted."""
    told = describe_trouble(trouble, secrets)
    return f"HTTP {status}: {told}"[:MAX_DETAIL] if told else f"HTTP {status}"


def unreadable(status: int) -> Uncertain:
    """Return the outcome of a 2xx answer that says nothing we understand."""
    return Uncertain(Reason.ANSWER_UNREADABLE, f"HTTP {status}: the body is not the JSON we expect")


def read_retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the `Retry-After` header in ms (RFC 9110 §10.2.3), None where it is absent or senseless.

    A date counts from the answer's own `Date`, so that no clock of ours comes in.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return int(text[:_LONGEST_SECONDS]) * 1000
    until, sent_at = _read_http_date(text), _read_http_date(headers.get("date", ""))
    if until is None or sent_at is None:
        return None
    return max(int((until - sent_at).total_seconds() * 1000), 0)


def _read_http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
