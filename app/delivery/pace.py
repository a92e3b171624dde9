"""A pace tells how fast a lane may go: its bucket, its pause and its luck, in one value that outlasts a restart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

from app.delivery.decide import LONGEST_PAUSE_MS
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.model.value import dataclass

RECIPIENT_GAP_MS = 6_000
"""WhatsApp takes about one message per 6 s to one person: error 131056.

https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput
"""
RAMP_MS = 60_000
RAMP_START_PER_S = 1.0
# Adding up fractions of a token falls short of a whole one by a rounding error, never by more than this.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens saved up at an instant: `tokens` at `updated_at`, growing by `rate_per_s` up to `burst`.

    Over any second it grants at most `rate_per_s` + `burst`; a `burst` of 1 therefore never shows a spike.
    """

    rate_per_s: float
    burst: float
    tokens: float
    updated_at: int

    def give_back(self, unused: int) -> Bucket:
        """Return the bucket with tokens that were granted and not used."""
        return Bucket(self.rate_per_s, self.burst, min(self.tokens + unused, self.burst), self.updated_at)

    def at_rate(self, rate_per_s: float, now: int, burst: float | None = None) -> Bucket:
        """Return the bucket with another rate from `now` on; what was earned at the old one stays."""
        return Bucket(rate_per_s, burst or self.burst, _count_tokens(self, now), now)


def take(bucket: Bucket, now: int, wanted: int) -> tuple[Bucket, int]:
    """Return the bucket after taking up to `wanted` whole tokens, and how many it granted."""
    tokens = _count_tokens(bucket, now)
    if tokens + ROUNDING < 1 and now >= bucket.updated_at:
        return bucket, 0
    granted = max(min(wanted, math.floor(tokens + ROUNDING)), 0)
    return Bucket(bucket.rate_per_s, bucket.burst, tokens - granted, now), granted


def next_token_at(bucket: Bucket, now: int) -> int:
    """Return the instant from which `take` grants one: `now` or later."""
    missing = 1 - ROUNDING - _count_tokens(bucket, now)
    return now if missing <= 0 else now + math.ceil(missing / bucket.rate_per_s * 1000)


def ramped_rate(full_per_s: float, resumed_at: int | None, now: int) -> float:
    """Return the rate at `now`: from 1/s when sending resumed up to the full rate a minute later.

    What queued up in an outage must not hit a provider that has just recovered. None: there was no outage.
    """
    if resumed_at is None or full_per_s <= RAMP_START_PER_S:
        return full_per_s
    share = min(max(now - resumed_at, 0) / RAMP_MS, 1.0)
    return RAMP_START_PER_S + share * (full_per_s - RAMP_START_PER_S)


def _count_tokens(bucket: Bucket, now: int) -> float:
    # A clock that was set back earns nothing, and must not stop the lane until it has caught up either.
    earned = max(now - bucket.updated_at, 0) * bucket.rate_per_s / 1000
    return min(bucket.tokens + earned, bucket.burst)


OUTAGE_FAILURES = 5
"""So many failures in a row make an outage; fewer are the everyday noise of a network."""
PROBE_EVERY_MS = 30_000

# What a provider that is down, or that has enough of us, answers. What it says of one message or one recipient
# shows that it is up.
_TROUBLE = frozenset(
    {Reason.CONNECT_FAILED, Reason.UNAVAILABLE, Reason.RATE_LIMITED, Reason.SERVER_ERROR}
    | {Reason.TIMED_OUT, Reason.CONNECTION_LOST, Reason.GATEWAY_FAILED}
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """A lane's recent luck."""

    failures: int = 0  # in a row
    probe_at: int | None = None  # while the provider is down: when the next request may feel for it
    resumed_at: int | None = None  # when the last outage ended; None: there was none
    down_since: int | None = None  # while it is down: since when

    @property
    def down(self) -> bool:
        """Tell whether the provider seems to be down."""
        return self.failures >= OUTAGE_FAILURES


def note_outcome(recovery: Recovery, outcome: Outcome, now: int) -> Recovery:
    """Return the lane's luck after one more attempt."""
    match outcome:
        case Accepted() | Rejected() | Retryable(scope=Scope.RECIPIENT):
            if not recovery.failures:
                return recovery
            return Recovery(resumed_at=now) if recovery.down else replace(recovery, failures=0)
        case Retryable(reason=reason) | Uncertain(reason=reason) if reason in _TROUBLE:
            failures = recovery.failures + 1
            if failures != OUTAGE_FAILURES:  # those that were open when the provider went down put no probe off
                return replace(recovery, failures=failures)
            return replace(recovery, failures=failures, probe_at=now + PROBE_EVERY_MS, down_since=now)
        case _:
            return recovery


def note_probe(recovery: Recovery, now: int) -> Recovery:
    """Return the lane's luck once a request leaves; while the provider is down it is the only one for 30 s."""
    return replace(recovery, probe_at=now + PROBE_EVERY_MS) if recovery.down else recovery


def count_places(recovery: Recovery, free: int, busy: int, now: int) -> int:
    """Return how many of the `free` places may be used; while the provider is down: one in 30 s, and none beside it."""
    if not recovery.down:
        return max(free, 0)
    return int(free > 0 and busy == 0 and now >= (recovery.probe_at or 0))


def recall_recovery(recovery: Recovery, last_claim_at: int | None, now: int) -> Recovery:
    """Return what is left of a lane's luck after a restart.

    A probe that left just before the end counts, and no instant lies further ahead than it can, even if the
    clock was set back meanwhile.
    """
    resumed_at, down_since = (at and min(at, now) for at in (recovery.resumed_at, recovery.down_since))
    if not recovery.down:
        return Recovery(recovery.failures, resumed_at=resumed_at)
    probe_at = max(recovery.probe_at or 0, (last_claim_at or 0) + PROBE_EVERY_MS)
    return Recovery(recovery.failures, min(probe_at, now + PROBE_EVERY_MS), resumed_at, down_since)


def allowed_rate(recovery: Recovery, full_per_s: float, now: int) -> float:
    """Return how fast the lane may go now."""
    if recovery.down:
        return min(RAMP_START_PER_S, full_per_s)
    return ramped_rate(full_per_s, recovery.resumed_at, now)


# What a lane may catch up at once after it looked away for a moment; at 16/s that is less than one message. Of the
# rate allowed just now: a fast lane, too, begins again with single messages after an outage.
BURST_S = 0.05
_NO_TROUBLE = Recovery()


@dataclass(frozen=True, slots=True)
class Pace:
    """A lane's speed. `paused_until`: nothing before then (the provider said so)."""

    full_per_s: float
    bucket: Bucket
    recovery: Recovery = _NO_TROUBLE
    paused_until: int = 0


def start_pace(full_per_s: float, now: int) -> Pace:
    """Return the pace of a lane of which nothing is remembered."""
    burst = _burst(full_per_s)
    return Pace(full_per_s, Bucket(full_per_s, burst, burst, now))


def recall_pace(full_per_s: float, recovery: Recovery, paused_until: int, last_claim_at: int | None, now: int) -> Pace:
    """Return the pace of a lane after a restart: nothing goes that would not have gone without it.

    What was saved up since the last claim is earned at the rate of then, which is never above today's.
    """
    fresh = start_pace(full_per_s, now)
    recovery = recall_recovery(recovery, last_claim_at, now)
    bucket = fresh.bucket
    if last_claim_at is not None:
        bucket = Bucket(allowed_rate(recovery, full_per_s, last_claim_at), bucket.burst, 0, last_claim_at)
    return Pace(full_per_s, bucket, recovery, min(paused_until, now + LONGEST_PAUSE_MS))


def grant(pace: Pace, free: int, busy: int, now: int) -> tuple[Pace, int]:
    """Return the pace after up to `free` messages were let go beside the `busy` ones, and how many were."""
    places = count_free(pace, free, busy, now)
    rate = allowed_rate(pace.recovery, pace.full_per_s, now)
    bucket, granted = take(pace.bucket.at_rate(rate, now, _burst(rate)), now, places)
    return Pace(pace.full_per_s, bucket, pace.recovery, pace.paused_until), granted


def count_free(pace: Pace, free: int, busy: int, now: int) -> int:
    """Return how many of the `free` places may be used beside the `busy` ones, whatever the rate."""
    return count_places(pace.recovery, free, busy, now) if now >= pace.paused_until else 0


def settle_grant(pace: Pace, granted: int, used: int, now: int) -> Pace:
    """Return the pace once it is known how many of the granted messages there were."""
    recovery = note_probe(pace.recovery, now) if used else pace.recovery
    return Pace(pace.full_per_s, pace.bucket.give_back(granted - used), recovery, pace.paused_until)


def note_attempt(pace: Pace, outcome: Outcome, pause_until: int | None, now: int) -> Pace:
    """Return the pace after an attempt's end, which may pause the lane."""
    if type(outcome) is Accepted and pace.recovery.failures == 0:  # nearly always
        return pace
    paused_until = max(pace.paused_until, pause_until or 0)
    recovery = note_outcome(pace.recovery, outcome, now)
    if recovery is pace.recovery and paused_until == pace.paused_until:
        return pace
    return replace(pace, recovery=recovery, paused_until=paused_until)


def at_tat(full_per_s: float, recovery: Recovery, paused_until: int, tat: float, now: int) -> Pace:
    """Return the pace of a lane whose bucket is full again at `tat`: one number is the bucket, whoever takes."""
    # https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    rate = allowed_rate(recovery, full_per_s, now)
    tokens = _burst(rate) - max(tat - now, 0) * rate / 1000
    return Pace(full_per_s, Bucket(rate, _burst(rate), tokens, now), recovery, paused_until)


def read_tat(pace: Pace) -> float:
    """Return when the bucket is full again if nothing more is taken."""
    bucket = pace.bucket
    return bucket.updated_at + (bucket.burst - bucket.tokens) / bucket.rate_per_s * 1000


def ready_at(pace: Pace, now: int) -> int:
    """Return from when on `grant` lets a message go if nothing else is open: `now` or later."""
    probe_at = (pace.recovery.probe_at or 0) if pace.recovery.down else 0
    return max(next_token_at(pace.bucket, now), pace.paused_until, probe_at)


def _burst(rate_per_s: float) -> float:
    return max(rate_per_s * BURST_S, 1)


def shift_pace(pace: Pace, by_ms: int, now: int) -> Pace:
    """Return the pace on a clock that was set back by `-by_ms` to `now`; its bucket sees to that by itself."""
    was = pace.recovery
    moved = [_shift(at, by_ms, now) for at in (was.probe_at, was.resumed_at, was.down_since)]
    recovery = Recovery(was.failures, *moved)
    return replace(pace, recovery=recovery, paused_until=_shift(pace.paused_until, by_ms, now))


At = TypeVar("At", int, int | None)


def _shift(at: At, by_ms: int, now: int) -> At:
    return at + by_ms if at is not None and at > now else at


# -- turns of people ----------------------------------------------------------------------------------

FORGET_FROM = 1_000  # turns; before that it is not worth the while


class Turns:
    """The turns remember when a lane last wrote to each person, or will, and which route was served last.

    The claim has seen to the gap by the time at which it was asked for. This is for what came in between: a store
    that took seconds, a process that stood still. One for each provider and not for each lane: while a reload replaces
    a lane, the old one still sends what it has claimed.
    """

    def __init__(self) -> None:
        self.served: str | None = None  # forgotten at a restart, which hurts nobody
        self._left: dict[str, int] = {}
        self._forget_at = FORGET_FROM  # twice as many as were left the last time: each is looked at a few times at most

    def take(self, recipient: str, now: int) -> float:
        """Return how many seconds a message has to wait for the one before it to the same person."""
        if len(self._left) >= self._forget_at:
            self._left = {person: at for person, at in self._left.items() if at > now - RECIPIENT_GAP_MS}
            self._forget_at = max(FORGET_FROM, 2 * len(self._left))
        last = self._left.get(recipient)
        # A clock that was set back must not silence anybody for longer than the gap.
        at = now if last is None else max(now, min(last, now + RECIPIENT_GAP_MS) + RECIPIENT_GAP_MS)
        self._left[recipient] = at
        return (at - now) / 1000

    def leave(self, recipient: str, now: int) -> None:
        """The message that had to wait leaves now, perhaps later than it was to."""
        self._left[recipient] = max(self._left.get(recipient, now), now)

    def shift(self, by_ms: int, now: int) -> None:
        """The clock was set back: what lies too far ahead to have been noted since moves along."""
        latest = now + 2 * RECIPIENT_GAP_MS
        self._left = {person: at + by_ms if at > latest else at for person, at in self._left.items()}
