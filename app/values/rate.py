"""A lane's rate: a token bucket as a value, and the gentle start after an outage."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
        return replace(self, tokens=min(self.tokens + unused, self.burst))

    def at_rate(self, rate_per_s: float, now: int) -> Bucket:
        """Return the bucket with another rate from `now` on; what was earned at the old one stays."""
        return replace(_fill(self, now), rate_per_s=rate_per_s)


def take(bucket: Bucket, now: int, wanted: int) -> tuple[Bucket, int]:
    """Return the bucket after taking up to `wanted` whole tokens, and how many it granted."""
    filled = _fill(bucket, now)
    granted = max(min(wanted, math.floor(filled.tokens + ROUNDING)), 0)
    return replace(filled, tokens=filled.tokens - granted), granted


def next_token_at(bucket: Bucket, now: int) -> int:
    """Return the instant from which `take` grants one: `now` or later."""
    missing = 1 - ROUNDING - _fill(bucket, now).tokens
    return now if missing <= 0 else now + math.ceil(missing / bucket.rate_per_s * 1000)


def ramped_rate(full_per_s: float, resumed_at: int | None, now: int) -> float:
    """Return the rate at `now`: from 1/s when sending resumed up to the full rate a minute later.

    What queued up in an outage must not hit a provider that has just recovered. None: there was no outage.
    """
    if resumed_at is None or full_per_s <= RAMP_START_PER_S:
        return full_per_s
    share = min(max(now - resumed_at, 0) / RAMP_MS, 1.0)
    return RAMP_START_PER_S + share * (full_per_s - RAMP_START_PER_S)


def _fill(bucket: Bucket, now: int) -> Bucket:
    # A clock that was set back earns nothing, and must not stop the lane until it has caught up either.
    earned = max(now - bucket.updated_at, 0) * bucket.rate_per_s / 1000
    return replace(bucket, tokens=min(bucket.tokens + earned, bucket.burst), updated_at=now)
