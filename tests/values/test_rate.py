from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values.rate import Bucket, next_token_at, ramped_rate, take

NOW = 1_790_000_000_000


def full_bucket(rate_per_s: float, burst: float = 1) -> Bucket:
    return Bucket(rate_per_s, burst, burst, NOW)


def run(bucket: Bucket, naps: list[int], wanted: int = 1_000) -> list[tuple[int, int]]:
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
    grants = run(full_bucket(rate_per_s), naps)
    for start, _ in grants:
        in_a_second = sum(granted for at, granted in grants if start <= at < start + 1_000)
        assert in_a_second <= rate_per_s + 1


def test_control_a_bucket_filled_to_a_second_would_spike() -> None:
    grants = run(full_bucket(16, burst=16), [10] * 100)
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
