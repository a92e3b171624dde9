from __future__ import annotations

import pytest

from app.delivery.decide import Decision
from app.delivery.pace import Pace, Recovery, shift_instants
from app.model.delivery import State
from app.outbox.values import LaneState
from app.values.rate import Bucket


@pytest.mark.parametrize("by_ms", [0, 3_600_000, -3_600_000])
def test_every_instant_moves_and_nothing_else(by_ms: int) -> None:
    decision = Decision(State.PENDING, None, 1_000, "provider:a", 2_000, 3_000)
    moved = Decision(State.PENDING, None, 1_000 + by_ms, "provider:a", 2_000 + by_ms, 3_000 + by_ms)
    assert shift_instants(decision, by_ms) == moved
    assert shift_instants(LaneState(1, 2, 3, None, 5), by_ms) == LaneState(1 + by_ms, 2 + by_ms, 3, None, 5 + by_ms)


def test_what_a_value_holds_moves_too() -> None:
    pace = Pace(16, Bucket(16, 1, 0.5, 1_000), Recovery(5, 2_000, None), 3_000)
    assert shift_instants(pace, 10) == Pace(16, Bucket(16, 1, 0.5, 1_010), Recovery(5, 2_010, None), 3_010)


def test_what_is_no_value_of_ours_stays() -> None:
    assert shift_instants(7, 10) == 7
    assert shift_instants(Bucket, 10) is Bucket
