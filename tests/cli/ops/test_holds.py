"""`nector-relay hold`, `holds` and `release`, against a relay that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SCOPES = ["route:review-thanks", "provider:bitespeed", "template:gallabox/review_thanks"]


@pytest.fixture(autouse=True)
def released(shop: Any) -> Iterator[None]:
    yield
    for scope in SCOPES:
        shop.call("DELETE", f"/holds/{scope}")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_held_shown_and_released(run: Callable[..., Any], scope: str) -> None:
    assert run("holds").out == "nothing is on hold\n"
    done = run("hold", scope, "--reason", "wrong text")
    assert (done.code, done.out) == (0, f"{scope} is on hold; waiting: 0 deliveries\n")
    listed = run("holds")
    assert listed.code == 0
    assert re.search(rf"^{scope} +wrong text +20\S+Z +0", listed.out, re.MULTILINE)
    (row,) = json.loads(run("holds", "--json").out)["holds"]
    assert {"scope": scope, "reason": "wrong text", "deliveries": 0}.items() <= row.items()
    done = run("release", scope)
    assert (done.code, done.out) == (0, f"{scope} goes on\n")
    assert run("holds").out == "nothing is on hold\n"


def test_what_waits_is_counted_and_goes_on(run: Callable[..., Any], shop: Any) -> None:
    run("hold", "route:review-thanks")
    payload = {"user_name": "Riya", "user_mobile": shop.new_number()}
    delivery_id = shop.post(payload, topic="review_create")
    shop.wait_for(delivery_id, "held")
    assert run("hold", "route:review-thanks").out == "route:review-thanks is on hold; waiting: 1 delivery\n"
    assert delivery_id in run("deliveries", "--state", "held").out
    run("release", "route:review-thanks")
    shop.wait_for(delivery_id, "accepted")


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("route:nothing", "the YAML has no route of this name; it has coins-earned, "),
        ("shop:acme", "a scope is provider:NAME, route:NAME or template:PROVIDER/NAME"),
        ("route", "a scope is provider:NAME"),
        ("../deliveries", "a scope is provider:NAME"),
    ],
)
def test_a_scope_that_is_none_is_1_and_says_what_there_is(run: Callable[..., Any], scope: str, said: str) -> None:
    done = run("hold", scope)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_a_release_of_what_is_not_held_is_1(run: Callable[..., Any]) -> None:
    done = run("release", "route:review-thanks")
    assert done.code == 1
    assert "there is no such hold" in done.err
