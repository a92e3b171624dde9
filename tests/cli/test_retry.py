"""`nector-relay retry`, against a relay that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

COINS = {"user_name": "Riya", "amount": "100"}


@pytest.fixture
def refused(shop: Any) -> str:
    """The id of a delivery that the provider refused; it would take it now."""
    # Not "times": 1, which what an earlier test retried might meet first.
    shop.set_fault(gallabox={"fault": "status", "status": 422})
    delivery_id: str = shop.post({**COINS, "user_mobile": shop.new_number()})
    shop.wait_for(delivery_id, "dead")
    shop.set_fault()
    return delivery_id


def test_a_refused_delivery_is_sent_again(run: Callable[..., Any], shop: Any, refused: str) -> None:
    done = run("retry", refused)
    assert (done.code, done.out) == (0, "1 delivery will be sent again\n")
    assert shop.wait_for(refused, "accepted")["attempts"] == 2


def test_all_of_a_state_and_a_route_are_sent_again(run: Callable[..., Any], shop: Any, refused: str) -> None:
    assert run("retry", "--state", "dead", "--route", "nothing").code == 1
    done = run("retry", "--state", "dead", "--route", "coins-earned")
    assert done.code == 0
    assert "will be sent again" in done.out
    assert shop.wait_for(refused, "pending", "sending", "accepted")


def test_what_cannot_be_sent_again_is_1_and_named(run: Callable[..., Any], refused: str) -> None:
    done = run("retry", refused, "nothing")
    assert done.code == 1
    assert done.out == ("1 delivery will be sent again\nnothing: not sent again: no delivery has this id\n")
    assert run("retry", refused).out.startswith("0 deliveries will be sent again\n")


def test_of_a_state_it_is_said_how_many_were_not_sent_and_why(run: Callable[..., Any], shop: Any, refused: str) -> None:
    shop.post({"user_name": "Riya", "user_mobile": shop.new_number()})
    done = run("retry", "--state", "dead")
    assert done.code == 0
    first, *others = done.out.splitlines()
    assert first.endswith("will be sent again")
    assert any("not sent again: it has no message" in line for line in others)
    assert shop.wait_for(refused, "pending", "sending", "accepted")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either ids or --state dead|unknown|expired"),
        (("a", "--state", "dead"), "give either ids or --state dead|unknown|expired"),
        (("a", "--route", "b"), "--route goes with --state"),
    ],
)
def test_a_retry_that_does_not_say_what_is_1(run: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    done = run("retry", *arguments)
    assert done.code == 1
    assert said in done.err
