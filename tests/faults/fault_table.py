"""Each fault of a provider and what it comes to, a row for each form of a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.providers.client import BUDGET_TIMEOUTS

PATIENT_MS = 20_000  # where an answer comes: a busy machine must not make it a fault
SHORT_MS = 4_000  # where none comes; connecting has half of it, which a busy machine must not use up

ACCEPTED = Accepted("g-1")
TIMED_OUT = Uncertain(Reason.TIMED_OUT)
LOST = Uncertain(Reason.CONNECTION_LOST)
UNREADABLE = Uncertain(Reason.ANSWER_UNREADABLE)
GATEWAY = Uncertain(Reason.GATEWAY_FAILED)
NOT_SENT = Retryable(Reason.CONNECT_FAILED)
BUSY = Retryable(Reason.RATE_LIMITED, Scope.PROVIDER)
REDIRECTED = Rejected(Reason.REDIRECTED, Scope.PROVIDER)


@dataclass(frozen=True)
class Row:
    """What one behaviour of a provider comes to. `requests`: how many of each message it has read."""

    answer: str
    outcome: Outcome
    tries: int = 1
    requests: int = 1
    short_ms: int = SHORT_MS

    @property
    def slow(self) -> bool:
        return self.outcome == TIMED_OUT

    @property
    def timeout_ms(self) -> int:
        return self.short_ms if self.slow else PATIENT_MS

    @property
    def ends_within_s(self) -> float:
        return self.timeout_ms / 1000 * (BUDGET_TIMEOUTS if self.tries > 1 else 1)


REFUSED = "nobody listens"
# A fault that has several forms shares its thousand messages among them.
FAULTS: Mapping[str, Sequence[Row]] = {
    "refuse": [Row(REFUSED, NOT_SENT, tries=3, requests=0)],
    "reset": [
        Row("reset before the request is read", LOST, requests=0),
        Row("reset after the request", LOST),
    ],
    "close": [Row("close without an answer", LOST)],
    "half an answer": [
        Row("half header, then close", LOST),
        Row("half body, then close", LOST),
        Row("half header, then hang", TIMED_OUT),
        Row("half body, then hang", TIMED_OUT),
    ],
    "header drip": [Row("header drip", TIMED_OUT)],
    "body drip": [Row("body drip", TIMED_OUT)],
    "hang": [Row("accept and hang", TIMED_OUT)],
    "bad TLS": [
        Row("self-signed certificate", NOT_SENT, tries=3, requests=0),
        Row("TLS on a plain port", NOT_SENT, tries=3, requests=0),
    ],
    "expired certificate": [Row("expired certificate", NOT_SENT, tries=3, requests=0)],
    "100-continue": [Row("100 first", ACCEPTED)],
    "204": [Row("204", UNREADABLE)],
    "200 HTML": [Row("HTML 200", UNREADABLE)],
    "200 error JSON": [
        Row("200 with an error", Rejected(Reason.REQUEST_REFUSED)),
        Row("200 with WhatsApp's error", Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)),
    ],
    "200 truncated JSON": [Row("200 with half the JSON", UNREADABLE)],
    "10 MB body": [Row("10 MB, 200", UNREADABLE)],
    "gzip bomb": [Row("gzip bomb", UNREADABLE)],
    "redirect": [Row("301", REDIRECTED), Row("307 to the metadata address", REDIRECTED)],
    "400": [Row("400", Rejected(Reason.REQUEST_REFUSED))],
    "401": [Row("401", Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER))],
    "408": [Row("408", GATEWAY)],
    "429": [
        Row("429", BUSY),
        Row("429, seconds", replace(BUSY, retry_after_ms=120_000)),
        Row("429, a date", replace(BUSY, retry_after_ms=180_000)),
        Row("429, negative", BUSY),
        Row("429, huge", replace(BUSY, retry_after_ms=999_999_999_999_999_000)),  # the decision clamps it to an hour
    ],
    "500": [Row("500", Retryable(Reason.SERVER_ERROR))],
    "502": [Row("502", GATEWAY)],
    "503": [
        Row("503", Retryable(Reason.UNAVAILABLE, Scope.PROVIDER, 7_000)),
        Row("503, bare", Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)),
    ],
}
ROWS = [row for rows in FAULTS.values() for row in rows]
