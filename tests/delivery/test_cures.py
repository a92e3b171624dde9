"""Each reason has a cure."""

from __future__ import annotations

from app.delivery.status import CURES, find_cure
from app.model.delivery import Reason


def test_every_reason_has_a_cure_and_what_is_none_has_not() -> None:
    assert set(CURES) == {reason.value for reason in Reason}
    assert all(find_cure(reason) for reason in Reason)
    assert find_cure(None) == find_cure("of_a_newer_relay") == ""
