"""How fast a lane goes as a whole: through an outage, a pause, a restart and a clock that was set."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.decide import LONGEST_PAUSE_MS
from app.delivery.pace import (
    OUTAGE_FAILURES,
    PROBE_EVERY_MS,
    Bucket,
    Pace,
    Recovery,
    at_tat,
    grant,
    next_token_at,
    note_attempt,
    ramped_rate,
    read_tat,
    ready_at,
    recall_pace,
    settle_grant,
    shift_pace,
    start_pace,
    take,
)
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain

NOW = 1_790_000_000_000
HOUR = 3_600_000
PLACES = 64
NOT_SENT = Retryable(Reason.CONNECT_FAILED)
BUSY = Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)
LOST = Uncertain(Reason.TIMED_OUT)
OK = Accepted()


def run(
    pace: Pace, start: int, end: int, answer: Callable[[int], tuple[Outcome, int]], pause_ms: int | None = None
) -> tuple[Pace, list[int]]:
    """Send without end from `start` until `end`; return the pace and when each message left.

    `answer` gives what one that leaves now will come to, and after how many ms.
    """
    open_: list[tuple[int, int, Outcome]] = []
    sent: list[int] = []
    now = start
    while now < end:
        while open_ and open_[0][0] <= now:
            at, _, outcome = heapq.heappop(open_)
            paused = None if pause_ms is None or outcome is OK else at + pause_ms
            pace = note_attempt(pace, outcome, paused, at)
        pace, granted = grant(pace, PLACES - len(open_), len(open_), now)
        pace = settle_grant(pace, granted, granted, now)
        for _ in range(granted):
            outcome, took_ms = answer(now)
            heapq.heappush(open_, (now + took_ms, len(sent), outcome))
            sent.append(now)
        waits = [ready_at(pace, now)] if len(open_) < PLACES else []
        now = max(min([*waits, *(at for at, _, _ in open_[:1])]), now + 1)
    return pace, sent


def fill_tries(sent: list[int], down_from: int) -> int:
    """Return how many requests these were: three each, but for those that felt for a provider that was down."""
    return sum(1 if at >= down_from else 3 for at in sent)


@pytest.mark.parametrize(
    ("outcome", "took_ms", "pause_ms"),
    [(NOT_SENT, 1, None), (NOT_SENT, 9_000, None), (BUSY, 50, 30_000), (BUSY, 50, 1_000), (LOST, 10_000, None)],
)
def test_a_provider_that_is_dead_for_an_hour_gets_at_most_500_requests(
    outcome: Outcome, took_ms: int, pause_ms: int | None
) -> None:
    down, sent = run(start_pace(16, NOW), NOW, NOW + HOUR, lambda _: (outcome, took_ms), pause_ms)
    assert down.recovery.down
    assert len(sent) >= 100
    assert fill_tries(sent, NOW + 30_000) <= 500
    probes = [at for at in sent if at >= NOW + 30_000]
    assert min(later - earlier for earlier, later in pairwise(probes)) >= PROBE_EVERY_MS


def test_control_without_the_outage_rule_a_dead_provider_gets_500_in_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.delivery.pace.OUTAGE_FAILURES", 10**9)
    _, sent = run(start_pace(16, NOW), NOW, NOW + HOUR // 60, lambda _: (NOT_SENT, 1))
    assert fill_tries(sent, NOW + HOUR) > 500


def test_once_it_is_back_the_lane_goes_at_one_a_second_and_at_its_rate_a_minute_later() -> None:
    down, _ = run(start_pace(16, NOW), NOW, NOW + HOUR, lambda _: (NOT_SENT, 1))
    _, sent = run(down, NOW + HOUR, NOW + HOUR + 180_000, lambda _: (OK, 20))
    first = sent[0]
    assert first <= NOW + HOUR + PROBE_EVERY_MS
    assert sum(at < first + 5_000 for at in sent) <= 12
    last_minute = [at for at in sent if first + 60_000 <= at < first + 120_000]
    assert 0.95 * 960 <= len(last_minute) <= 961
    for begin in sent:
        assert sum(begin <= at < begin + 1_000 for at in sent[sent.index(begin) : sent.index(begin) + 20]) <= 17


def test_a_fast_lane_too_begins_with_single_messages_after_an_outage() -> None:
    down, _ = run(start_pace(900, NOW), NOW, NOW + HOUR // 60, lambda _: (NOT_SENT, 1))
    _, sent = run(down, NOW + HOUR // 60, NOW + HOUR // 60 + PROBE_EVERY_MS + 1_000, lambda _: (OK, 1))
    assert sum(at < sent[0] + 1_000 for at in sent) < 15  # the rate is at 16/s by then


def test_a_pause_stops_everything_until_it_ends() -> None:
    pace = note_attempt(start_pace(16, NOW), BUSY, NOW + 5_000, NOW)
    assert note_attempt(pace, BUSY, NOW + 2_000, NOW).paused_until == NOW + 5_000
    assert ready_at(pace, NOW) == NOW + 5_000
    assert grant(pace, 9, 0, NOW + 4_999)[1] == 0
    assert grant(pace, 9, 0, NOW + 5_000)[1] == 1


def test_what_was_granted_and_not_used_can_be_used_next() -> None:
    pace, granted = grant(start_pace(16, NOW), 9, 0, NOW)
    assert granted == 1
    assert grant(settle_grant(pace, 1, 1, NOW), 9, 0, NOW)[1] == 0
    assert grant(settle_grant(pace, 1, 0, NOW), 9, 0, NOW)[1] == 1


def test_a_claim_that_found_nothing_uses_up_no_probe() -> None:
    down = Pace(16, start_pace(16, NOW).bucket, Recovery(OUTAGE_FAILURES, NOW))
    assert settle_grant(down, 1, 0, NOW).recovery.probe_at == NOW
    assert settle_grant(down, 1, 1, NOW).recovery.probe_at == NOW + PROBE_EVERY_MS


# -- after a restart -------------------------------------------------------------------------------


def recall(
    *,
    rate: float = 16,
    recovery: Recovery | None = None,
    paused_until: int = 0,
    last_claim_at: int | None = None,
    now: int = NOW,
) -> Pace:
    return recall_pace(rate, recovery or Recovery(), paused_until, last_claim_at, now)


@pytest.mark.parametrize(
    ("rate", "recovery", "ago_ms", "granted"),
    [
        (16, Recovery(), None, 1),
        (100, Recovery(), None, 5),
        (16, Recovery(), 0, 0),
        (16, Recovery(), 62, 0),
        (16, Recovery(), 63, 1),
        (100, Recovery(), 20, 2),
        (16, Recovery(), 10 * HOUR, 1),
        (16, Recovery(), -HOUR, 0),  # the clock was set back while the relay was down
        (1 / 60, Recovery(), 59_000, 0),
        (1 / 60, Recovery(), 60_000, 1),
        (16, Recovery(resumed_at=NOW - 900), 900, 0),  # a second after the outage's end it goes at one a second
        (16, Recovery(resumed_at=NOW - 1_000), 1_000, 1),
    ],
)
def test_a_restart_grants_no_message_that_would_not_have_gone_without_it(
    rate: float, recovery: Recovery, ago_ms: int | None, granted: int
) -> None:
    pace = recall(rate=rate, recovery=recovery, last_claim_at=None if ago_ms is None else NOW - ago_ms)
    assert grant(pace, 9, 0, NOW)[1] == granted


def test_control_a_lane_that_forgets_sends_one_at_every_restart() -> None:
    pace = replace(recall(last_claim_at=NOW), bucket=start_pace(16, NOW).bucket)
    assert grant(pace, 9, 0, NOW)[1] == 1


@pytest.mark.parametrize(
    ("paused_until", "recalled"),
    [
        (NOW - 1, NOW - 1),
        (NOW + 60_000, NOW + 60_000),
        (NOW + 10 * HOUR, NOW + LONGEST_PAUSE_MS),  # no pause is that long: the clock was set back
    ],
)
def test_a_pause_outlasts_a_restart(paused_until: int, recalled: int) -> None:
    assert recall(paused_until=paused_until).paused_until == recalled


def test_an_outage_outlasts_a_restart() -> None:
    pace = recall(recovery=Recovery(OUTAGE_FAILURES, NOW + 20_000), last_claim_at=NOW - 10_000)
    assert ready_at(pace, NOW) == NOW + 20_000
    assert grant(pace, 9, 0, NOW + 19_999)[1] == 0
    assert grant(pace, 9, 0, NOW + 20_000)[1] == 1


# -- a clock that was set --------------------------------------------------------------------------


@pytest.mark.parametrize("by_ms", [-240 * HOUR, -HOUR])
def test_every_wait_lasts_as_long_when_the_clock_is_set_back(by_ms: int) -> None:
    now = NOW + by_ms
    paused = Pace(16, start_pace(16, NOW).bucket, Recovery(OUTAGE_FAILURES, NOW + 20_000, NOW, NOW), NOW + 30_000)
    moved = shift_pace(paused, by_ms, now)
    assert ready_at(moved, now) - by_ms == ready_at(paused, NOW) == NOW + 30_000
    assert moved.recovery == Recovery(OUTAGE_FAILURES, NOW + 20_000 + by_ms, now, now)
    empty, _ = grant(start_pace(1, NOW), 1, 0, NOW)
    assert ready_at(shift_pace(empty, by_ms, now), now) == now + 1_000


def test_what_does_not_lie_ahead_of_a_clock_that_was_set_back_stays() -> None:
    past = Pace(16, start_pace(16, NOW - HOUR).bucket, Recovery(OUTAGE_FAILURES, None, NOW - HOUR), NOW - HOUR)
    assert shift_pace(past, -1_000, NOW - HOUR) == past


def full_bucket(rate_per_s: float, burst: float = 1) -> Bucket:
    return Bucket(rate_per_s, burst, burst, NOW)


def drain(bucket: Bucket, naps: list[int], wanted: int = 1_000) -> list[tuple[int, int]]:
    """Take again and again after each nap (ms); return (instant, granted)."""
    grants, now = [], NOW
    for nap in naps:
        bucket, granted = take(bucket, now, wanted)
        grants.append((now, granted))
        now += nap
    return grants


@pytest.mark.parametrize(
    ("bucket", "elapsed_ms", "wanted", "granted"),
    [
        (full_bucket(16), 0, 5, 1),
        (full_bucket(16, burst=4), 0, 3, 3),
        (full_bucket(16, burst=4), 0, 0, 0),
        (full_bucket(16, burst=4), 0, -1, 0),
        (Bucket(16, 1, 0, NOW), 62, 5, 0),
        (Bucket(16, 1, 0, NOW), 63, 5, 1),
        (Bucket(16, 4, 0, NOW), 3_600_000, 100, 4),  # an idle hour saves up no more than the burst
        (Bucket(16, 1, 0.5, NOW), -3_600_000, 5, 0),  # a clock set back earns nothing
    ],
)
def test_bucket_grants_what_it_has(bucket: Bucket, elapsed_ms: int, wanted: int, granted: int) -> None:
    assert take(bucket, NOW + elapsed_ms, wanted)[1] == granted


def test_a_clock_set_back_does_not_stop_the_lane() -> None:
    bucket, _ = take(full_bucket(16), NOW, 1)
    bucket, granted = take(bucket, NOW - 3_600_000, 1)
    assert granted == 0
    assert take(bucket, NOW - 3_600_000 + 63, 1)[1] == 1


@given(
    st.floats(min_value=0.5, max_value=900),
    st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=120),
)
def test_no_second_ever_sees_more_than_the_rate_and_one(rate_per_s: float, naps: list[int]) -> None:
    grants = drain(full_bucket(rate_per_s), naps)
    for start, _ in grants:
        in_a_second = sum(granted for at, granted in grants if start <= at < start + 1_000)
        assert in_a_second <= rate_per_s + 1


def test_control_a_bucket_filled_to_a_second_would_spike() -> None:
    grants = drain(full_bucket(16, burst=16), [10] * 100)
    assert sum(granted for _, granted in grants) > 17


@pytest.mark.parametrize("rate_per_s", [0.5, 1, 3, 16, 80, 999])
def test_next_token_is_there_when_it_was_said_to_be_and_not_before(rate_per_s: float) -> None:
    bucket, _ = take(full_bucket(rate_per_s), NOW, 1)
    at = next_token_at(bucket, NOW)
    assert at > NOW
    assert take(bucket, at - 1, 1)[1] == 0
    assert take(bucket, at, 1)[1] == 1


def test_whole_rate_is_reached_by_waking_when_told() -> None:
    bucket, now, sent = full_bucket(16), NOW, 0
    while now < NOW + 60_000:
        bucket, granted = take(bucket, now, 1)
        sent += granted
        now = next_token_at(bucket, now)
    assert 0.95 * 960 <= sent <= 961


def test_a_full_bucket_has_its_token_now() -> None:
    assert next_token_at(full_bucket(16), NOW + 5) == NOW + 5


def test_tokens_given_back_can_be_taken_again_and_never_overflow() -> None:
    bucket, granted = take(full_bucket(16, burst=3), NOW, 3)
    assert take(bucket.give_back(granted - 1), NOW, 3)[1] == 2
    assert bucket.give_back(99).tokens == 3


def test_another_rate_counts_from_now_on() -> None:
    bucket = Bucket(1, 10, 0, NOW).at_rate(100, NOW + 2_000)
    assert take(bucket, NOW + 2_000, 10)[1] == 2
    assert take(bucket, NOW + 2_050, 10)[1] == 7


@pytest.mark.parametrize(
    ("full_per_s", "resumed_at", "elapsed_ms", "expected"),
    [
        (16, None, 0, 16),
        (16, NOW, 0, 1),
        (16, NOW, 30_000, 8.5),
        (16, NOW, 60_000, 16),
        (16, NOW, 9_999_999, 16),
        (16, NOW, -5_000, 1),
        (0.5, NOW, 0, 0.5),
    ],
)
def test_rate_ramps_up_within_a_minute_of_an_outage(
    full_per_s: float, resumed_at: int | None, elapsed_ms: int, expected: float
) -> None:
    assert ramped_rate(full_per_s, resumed_at, NOW + elapsed_ms) == pytest.approx(expected)


# -- one number for a fleet ------------------------------------------------------------------------


@given(rate=st.sampled_from([0.5, 1.0, 16.0, 80.0, 1_000.0]), gaps=st.lists(st.integers(0, 400), max_size=60))
def test_a_bucket_that_is_one_number_between_claims_grants_as_one_that_is_remembered(
    rate: float, gaps: list[int]
) -> None:
    now, tat, remembered = 1_000_000, 0.0, start_pace(rate, 1_000_000)
    for gap in gaps:
        now += gap
        remembered, granted = grant(remembered, 3, 0, now)
        shared, given = grant(at_tat(rate, Recovery(), 0, tat, now), 3, 0, now)
        tat = read_tat(shared)
        assert given == granted


def test_what_was_taken_and_not_used_is_there_for_the_next() -> None:
    pace, granted = grant(at_tat(100.0, Recovery(), 0, 0.0, 5_000), 5, 0, 5_000)
    assert granted == 5
    assert read_tat(settle_grant(pace, granted, 0, 5_000)) == 5_000
    assert read_tat(settle_grant(pace, granted, 2, 5_000)) == 5_020


def test_a_fleets_bucket_that_is_full_only_later_grants_nothing_yet() -> None:
    pace = at_tat(10.0, Recovery(), 7, 9_000.0, 5_000)
    assert grant(pace, 5, 0, 5_000)[1] == 0
    assert pace.paused_until == 7
    assert ready_at(pace, 5_000) == 9_000


def test_an_answer_that_says_nothing_of_the_provider_changes_no_pace() -> None:
    pace = start_pace(16.0, 0)
    assert note_attempt(pace, Rejected(Reason.PARAMETERS_REFUSED), None, 1) is pace
