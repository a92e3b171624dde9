from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

OWN = "+919800000099"


def test_a_test_message_is_sent_and_watched_until_its_receipt(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", OWN)
    assert done.code == 0, done.text
    assert "accepted by gallabox, and then " in done.out.splitlines()[-1]
    assert "receipt" in done.out
    assert "+91******0099" in done.out
    assert "9800000099" not in done.text


def test_another_number_is_refused(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", "+919800000001")
    assert (done.code, done.out) == (1, "")
    assert "this number is not among those of RELAY_TEST_NUMBERS" in done.err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"fault": "status", "status": 400}, "not accepted: dead (request_refused)"),
        ({"fault": "hang"}, "not accepted: "),
    ],
)
def test_a_message_that_is_not_accepted_is_1(
    shop: Any, run: Callable[..., Any], fault: dict[str, Any], told: str
) -> None:
    shop.set_fault(bitespeed=fault)
    done = run("send-test", "coupon-ready", "--to", OWN, "--wait", "7s", "--json")
    shop.set_fault()
    assert done.code == 1
    assert json.loads(done.out)["state"] != "accepted"
    del told


def test_a_wait_that_is_no_duration_says_so(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", OWN, "--wait", "soon")
    assert (done.code, done.err.startswith("nector-relay: --wait ")) == (1, True)
