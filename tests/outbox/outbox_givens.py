"""What the machine draws from: few routes, recipients and times, so that they meet each other often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain

MEMORY = Path("/dev/shm")  # noqa: S108  # what a flush of the disk costs is not the subject here
START = 1_790_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
LEASE, SETTLE = 2 * MINUTE, 15 * MINUTE
PROVIDERS = ("gallabox", "bitespeed")
# (route, provider, template): two routes of one account share a template
ROUTES = (("coins", "gallabox", "t-1"), ("coupon", "gallabox", "t-1"), ("expiry", "bitespeed", "t-2"))
SCOPES = ("provider:gallabox", "provider:bitespeed", "route:coins", "template:gallabox/t-1", "template:bitespeed/t-2")
STEPS = (SECOND, 7 * SECOND, 7 * SECOND, 3 * MINUTE, 6 * MINUTE, 16 * MINUTE, 2 * HOUR, 25 * HOUR, 31 * DAY)
OUTCOMES: tuple[Outcome, ...] = (
    Accepted(),
    Accepted("m-1"),
    Accepted("m-2"),
    Retryable(Reason.CONNECT_FAILED),
    Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, 30_000),
    Rejected(Reason.REQUEST_REFUSED),
    Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
    Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
    Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
    Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
    Uncertain(Reason.TIMED_OUT),
    Uncertain(Reason.ANSWER_UNREADABLE, "HTTP 200", "m-7"),
    Uncertain(Reason.PROCESS_DIED),
)

RECIPIENTS = [f"+91980000000{number}" for number in range(6)]
FAILURES = (
    (Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
    (Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
    (Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
    (Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
)

numbers = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 6, 9])  # how far back: what is new is picked most
deliveries = st.fixed_dictionaries(
    {
        "route": st.sampled_from(ROUTES),
        "recipient": st.sampled_from(RECIPIENTS),
        "marketing": st.booleans(),
        "live_ms": st.sampled_from([MINUTE, HOUR, DAY, 40 * DAY, 40 * DAY]),
        "wait_ms": st.sampled_from([0, 0, 5 * MINUTE]),
        "dedup_key": st.sampled_from([None, None, "a", "b"]),
        "priority": st.integers(0, 1),
        "on_unknown": st.sampled_from(["hold", "resend"]),
        "state": st.sampled_from([State.PENDING, State.PENDING, State.PENDING, State.DEAD, State.SHADOW]),
    }
)

USUAL: dict[str, Any] = {
    "route": ROUTES[0],
    "recipient": "+919800000008",
    "marketing": True,
    "live_ms": 40 * DAY,
    "wait_ms": 0,
    "dedup_key": None,
    "priority": 0,
    "on_unknown": "hold",
    "state": State.PENDING,
}
