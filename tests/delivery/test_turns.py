"""Whose turn it is, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery.pace import Turns

PERSON = "+919800000001"
NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("after_ms", "wait_s"),
    [(0, 6), (10, 5.99), (5_999, 0.001), (6_000, 0), (60_000, 0), (-3_600_000, 12)],
)
def test_a_person_hears_from_a_provider_every_six_seconds(after_ms: int, wait_s: float) -> None:
    turns = Turns()
    assert turns.take(PERSON, NOW) == 0
    assert turns.take("+919800000002", NOW) == 0
    assert turns.take(PERSON, NOW + after_ms) == wait_s  # the last: a clock that was set back an hour


def test_messages_to_one_person_queue_up() -> None:
    turns = Turns()
    assert [turns.take(PERSON, NOW) for _ in range(3)] == [0, 6, 12]


def test_what_left_later_than_it_was_to_counts_from_then() -> None:
    turns = Turns()
    turns.take(PERSON, NOW)
    assert turns.take(PERSON, NOW) == 6
    turns.leave(PERSON, NOW + 8_000)  # the process stood still for 2 s
    assert turns.take(PERSON, NOW + 8_000) == 6


def test_one_that_leaves_lets_nobody_past_who_waits_behind_it() -> None:
    turns = Turns()
    assert [turns.take(PERSON, NOW) for _ in range(3)] == [0, 6, 12]
    turns.leave(PERSON, NOW + 6_000)
    assert turns.take(PERSON, NOW + 6_000) == 12


def test_turns_move_along_when_the_clock_is_set_back() -> None:
    turns = Turns()
    turns.take(PERSON, NOW)
    turns.shift(-3_600_000, NOW - 3_600_000)
    assert turns.take(PERSON, NOW - 3_599_990) == 5.99


def test_turns_that_were_taken_since_the_clock_was_set_back_stay() -> None:
    turns = Turns()
    assert [turns.take(PERSON, NOW - 3_600_000) for _ in range(2)] == [0, 6]
    turns.shift(-3_600_000, NOW - 3_599_000)
    assert turns.take(PERSON, NOW - 3_599_000) == 11


def test_turns_that_are_over_are_forgotten() -> None:
    turns = Turns()
    for number in range(5_000):
        turns.take(f"person {number}", NOW + number * 10)
    assert len(turns._left) <= 2 * 6_000 / 10


def test_a_crowd_is_not_looked_through_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Counted(dict[str, int]):
        def items(self) -> Any:
            nonlocal looked
            looked += len(self)
            return super().items()

    turns = Turns()
    for number in range(20_000):  # all within the gap
        monkeypatch.setattr(turns, "_left", Counted(turns._left) if type(turns._left) is dict else turns._left)
        turns.take(f"person {number}", NOW)
    assert looked < 3 * 20_000
