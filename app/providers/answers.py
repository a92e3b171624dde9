"""An answer means the same whichever provider gave it: by its status, its words, its codes and its ids.

It is an acceptance only where something in it says so and nothing says otherwise, and one that may have been an
acceptance is never a reason to send again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.model.delivery import MAX_DETAIL, Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.providers.base import Response
from app.providers.body import first_text, parse_json, read_instant, read_path
from app.providers.trouble import (
    REFUSED,
    THROTTLED,
    Meaning,
    Trouble,
    describe_trouble,
    is_plain,
    judge_trouble,
    read_signs,
    read_trouble,
    redact,
)
from app.values.text import list_paths

MESSAGE_ID_PATHS = ("message_id", "messageId", "id", "data.id", "data.message_id", "data.messageId", "messages[0].id")
# Statuses by which a server says that it did not do what was asked (RFC 9110). A 4xx of a gateway's own
# making (444, 460, 499 …) is not among them: it may be about a request that went through.
REFUSING = frozenset({400, 404, 405, 406, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 426, 428, 431, 451})
_OF_MESSAGE = r"(?:message|request|localMessageId|idempotency)"
_DUPLICATE = re.compile(
    rf"\bduplicated? {_OF_MESSAGE}|\b{_OF_MESSAGE}\b[^.;|]{{0,40}}\b(?:already|duplicate)|^\W*duplicate\W*$"
    r"|\balready (?:been )?(?:sent|accepted|queued|submitted|processed)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_WAIT = re.compile(
    r"\b(?:in|after|for|another)\s+(\d{1,6})\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b",
    re.IGNORECASE,
)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_RESETS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset", "x-ratelimit-reset-after")
_FIRST_INSTANT = 1_000_000_000  # a smaller number is how long, not when
_LONGEST_SECONDS = 15  # digits; more is "for ever" all the same
_LONGEST_WORDS = 1_000  # of an answer that is plain text
_KEYS_SHOWN = 20


class AcceptedRule(BaseModel, extra="forbid", frozen=True):
    """An answer means that the provider took the message under these conditions.

    Always: a 2xx of `statuses` (empty: any). Then, unless `any_2xx` is set, JSON that tells of no error, and holds
    `equals` at `path` (texts are compared case-blind; without `equals` anything that is not empty will do). Without
    `path` it has to name an id of the message, or to say in a word that it was taken.
    """

    statuses: tuple[Annotated[int, Field(ge=200, le=299)], ...] = Field(
        (), description="Only these statuses will do; default: any 2xx.", examples=[[200, 202]]
    )
    path: str = Field("", description="Where the answer says that it took the message.", examples=["data.status"])
    equals: str | int | bool | None = Field(
        None, description="What stands there then; default: anything that is not empty.", examples=["queued"]
    )
    any_2xx: bool = Field(default=False, description="true: any 2xx will do, whatever its body says.")

    def holds(self, answer: Any) -> bool:
        """Tell whether an answer has at `path` what it should."""
        value = read_path(answer, self.path)
        if self.equals is None:
            return value not in (None, "", False)
        if isinstance(value, str) and isinstance(self.equals, str):
            return value.casefold() == self.equals.casefold()
        return type(value) is type(self.equals) and bool(value == self.equals)


ANY_RULE = AcceptedRule()


def is_success(status: int) -> bool:
    """Tell whether a status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the bounds of 2xx


def read_answer(
    response: Response,
    *,
    treat_500_as: Literal["retry", "unknown"],
    list_secrets: Callable[[], Sequence[str]],
    rule: AcceptedRule = ANY_RULE,
    id_paths: tuple[str, ...] = MESSAGE_ID_PATHS,
) -> Outcome:
    """Return what an answer means, whatever its bytes. `list_secrets`: what its words may not show."""
    answer = parse_json(response.body)
    if is_success(response.status):
        return _read_success(response, answer, rule, id_paths, list_secrets)
    outcome = _read_failure(response, answer, treat_500_as, list_secrets())
    message_id = read_signs(answer).message_id or ""
    # An id of a message has a digit; a word there is an error's name.
    return _keep_taken(outcome, message_id if re.search(r"\d", message_id) else None)


def _read_success(
    response: Response,
    answer: Any,
    rule: AcceptedRule,
    id_paths: tuple[str, ...],
    list_secrets: Callable[[], Sequence[str]],
) -> Outcome:
    status = response.status
    if rule.statuses and status not in rule.statuses:
        return Uncertain(Reason.ANSWER_UNREADABLE, f"HTTP {status}: not one of `accepted.statuses`")
    message_id = first_text(answer, id_paths)
    said = rule.holds(answer) if rule.path else message_id is not None
    if rule.any_2xx or (said and is_plain(answer)):
        return Accepted(message_id)
    secrets = list_secrets()
    if not isinstance(answer, dict | list):
        told = _describe_page(response, secrets) or "the body is not the JSON we expect"
        return Uncertain(Reason.ANSWER_UNREADABLE, _describe(status, told))
    signs, trouble = read_signs(answer), read_trouble(answer)
    message_id = message_id or signs.message_id
    if signs.error:
        detail = _describe(status, describe_trouble(trouble, secrets))
        outcome = judge_trouble(trouble).to_outcome(detail, read_wait(response.headers, trouble.words))
        return _keep_taken(outcome, message_id)
    taken = message_id or (signs.taken and judge_trouble(trouble) == REFUSED)
    if said if rule.path else taken and not signs.word:
        return Accepted(message_id)
    told = _describe(status, _explain_doubt(rule, signs.word, answer, secrets))
    return Uncertain(Reason.ANSWER_UNREADABLE, told, message_id)


def _explain_doubt(rule: AcceptedRule, word: str, answer: Any, secrets: Sequence[str]) -> str:
    why = f'"{redact(word[:40], secrets)}" is no status we know' if word else "it names neither an id nor an error"
    if rule.path:
        why = f"`{rule.path}` is not what `accepted` asks for"
    keys = ", ".join(name_keys(answer))
    return f"{why}; its keys: {keys}" if keys else why


def name_keys(answer: Any) -> Sequence[str]:
    """Return an answer's keys, none of its values; a key that is no word may itself be a value."""
    first = next(iter(answer), None) if isinstance(answer, list) else answer
    return [path for path in islice(list_paths(first), _KEYS_SHOWN) if not any(sign.isdigit() for sign in path)]


def _keep_taken(outcome: Outcome, message_id: str | None) -> Outcome:
    """Return the outcome of an answer that names a message: whatever else it says, that is not sent again by itself."""
    if message_id is None or isinstance(outcome, Accepted | Uncertain):
        return outcome
    if isinstance(outcome, Rejected) and outcome.scope in (Scope.MESSAGE, Scope.RECIPIENT):
        return outcome
    return Uncertain(Reason.ANSWER_UNREADABLE, outcome.detail, message_id)


def _read_failure(
    response: Response, answer: Any, treat_500_as: Literal["retry", "unknown"], secrets: Sequence[str]
) -> Outcome:
    # A WhatsApp error code in a field of its own says more than a refusing status or a 500, and so do words of being
    # asked to wait.
    status, trouble = response.status, _read_failure_trouble(response.body, answer)
    detail = _describe(status, _describe_page(response, secrets) or describe_trouble(trouble, secrets))
    meaning = judge_trouble(trouble)
    wait_ms = read_wait(response.headers, trouble.words)
    if (trouble.sure or trouble.transient) and (status in REFUSING or status in (402, 403, 429, 500)):
        return meaning.to_outcome(detail, wait_ms)
    match status:
        case 429:
            return THROTTLED.to_outcome(detail, wait_ms)
        case 503:
            return Retryable(Reason.UNAVAILABLE, Scope.PROVIDER, wait_ms, detail)
        case 500 if treat_500_as == "retry":
            return Retryable(Reason.SERVER_ERROR, Scope.MESSAGE, read_retry_after(response.headers), detail)
        case _ if status == 408 or 500 <= status < 600:  # noqa: PLR2004 - Timeout, and the bounds of 5xx
            return Uncertain(Reason.GATEWAY_FAILED, detail)
        case _ if meaning == THROTTLED and (status in REFUSING or status in (402, 403)):
            return meaning.to_outcome(detail, wait_ms)
        case _:
            return _read_refusal(status, trouble, meaning, detail)


def _read_failure_trouble(body: bytes, answer: Any) -> Trouble:
    text = body[:_LONGEST_WORDS].decode(errors="replace").strip()
    # Prose of a gateway ("error code: 1020"), no page and no half of a JSON.
    return Trouble(text) if answer is None and text.isprintable() and text[:1] not in "<{[" else read_trouble(answer)


def _read_refusal(status: int, trouble: Trouble, meaning: Meaning, detail: str) -> Outcome:
    match status:
        case 401 | 403:
            wide = meaning.reason in (Reason.BALANCE_EMPTY, Reason.ACCOUNT_BLOCKED)
            return Rejected(meaning.reason if wide else Reason.CREDENTIALS_REFUSED, Scope.PROVIDER, detail)
        case 402:
            return Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER, detail)
        case 404 if meaning == REFUSED and "template" in trouble.words.lower():
            return Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE, detail)
        case 409 if _DUPLICATE.search(trouble.words):
            return Accepted()
        case _ if 300 <= status < 400:  # noqa: PLR2004 - the bounds of 3xx
            return Rejected(Reason.REDIRECTED, Scope.PROVIDER, detail)
        case _ if status in REFUSING or status == 409:  # noqa: PLR2004 - Conflict
            return meaning.to_outcome(detail)
        case _:
            return Uncertain(Reason.ANSWER_UNREADABLE, detail)


def _describe(status: int, told: str) -> str:
    return f"HTTP {status}: {told}"[:MAX_DETAIL] if told else f"HTTP {status}"


def _describe_page(response: Response, secrets: Sequence[str]) -> str:
    """Return what an HTML page is, "" where the answer is none."""
    start = response.body[:_LONGEST_WORDS].lstrip().lower()
    if not (start.startswith((b"<!doctype html", b"<html")) or "html" in response.headers.get("content-type", "")):
        return ""
    title = _TITLE.search(response.body.decode(errors="replace"))
    named = f' "{redact(title[1], secrets)[:60]}"' if title else ""
    return f"a page{named}: a firewall or a proxy answered, not the API"


def read_wait(headers: Mapping[str, str], words: str) -> int | None:
    """Return in ms how long an answer that throttles asks to wait, None where it does not say.

    By `Retry-After`, else by a header that tells when the limit ends, else by its words ("in 60 seconds").
    """
    if (wait_ms := read_retry_after(headers)) is not None:
        return wait_ms
    reset = next((value for name in _RESETS if _is_number(value := headers.get(name, "").strip())), None)
    if reset is not None and int(reset[:_LONGEST_SECONDS]) < _FIRST_INSTANT:
        return int(reset) * 1000
    at, sent_at = read_instant(reset), _read_http_date(headers.get("date", ""))
    if at is not None and sent_at is not None:
        return max(at - int(sent_at.timestamp() * 1000), 0)
    if (wait := _WAIT.search(words)) is None:
        return None
    unit = wait[2].lower()
    return int(wait[1]) * _UNITS_MS["ms" if unit.startswith(("ms", "milli")) else unit[0]]


def read_retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the `Retry-After` header in ms (RFC 9110 §10.2.3), None where it is absent or senseless.

    A date counts from the answer's own `Date`, so that no clock of ours comes in.
    """
    text = headers.get("retry-after", "").strip()
    if _is_number(text):
        return int(text[:_LONGEST_SECONDS]) * 1000
    until, sent_at = _read_http_date(text), _read_http_date(headers.get("date", ""))
    if until is None or sent_at is None:
        return None
    return max(int((until - sent_at).total_seconds() * 1000), 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read_http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
