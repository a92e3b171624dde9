"""`nector-relay hold`, `holds` and `release`, against a relay that runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from app.cli import status as command
from app.cli.client import OpsClient
from tests.delivery.test_status import AT, DOWN, build

SCOPES = ["route:review-thanks", "provider:bitespeed", "template:gallabox/review_thanks"]


@pytest.fixture(autouse=True)
def released(shop: Any) -> Iterator[None]:
    yield
    for scope in SCOPES:
        shop.call("DELETE", f"/holds/{scope}")


@pytest.fixture
def calm(shop: Any) -> None:
    """What an earlier test sent waits no more for its person's gap."""
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at and shop.call("GET", "/deliveries?state=pending").json()["deliveries"]:
        time.sleep(0.1)


@pytest.mark.usefixtures("calm")
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
    assert "there is no such hold; on hold: nothing" in done.err


def test_a_hold_shows_who_set_it_and_when_it_ends_and_without_a_scope_holds_are_listed(
    run: Callable[..., Any], shop: Any
) -> None:
    done = run("hold", "route:review-thanks", "--for", "2h", "--by", "asha", "--reason", "wrong text")
    assert re.fullmatch(r"route:review-thanks is on hold until 20\S+Z; waiting: 0 deliveries\n", done.out)
    listed = run("hold")
    assert re.search(r"^route:review-thanks +wrong text +20\S+Z +0 +asha +20\S+Z", listed.out, re.MULTILINE)
    assert run("holds").out == listed.out
    (row,) = json.loads(run("hold", "--json").out)["holds"]
    assert (row["by"], row["until"][:2]) == ("asha", "20")
    delivery_id = shop.post({"user_name": "Riya", "user_mobile": shop.new_number()}, topic="review_create")
    shop.wait_for(delivery_id, "held")
    story = " ".join(run("explain", delivery_id).out.split())
    assert f"set {row['since']} by hand (asha), until {row['until']}: wrong text" in story
    assert f"held behind route:review-thanks (wrong text, by asha, until {row['until']})" in story
    assert "do: nothing; it ends by itself. Sooner: `nector-relay release route:review-thanks`" in story
    run("release", "route:review-thanks", "--by", "ravi")
    assert "hold on route:review-thanks released: by hand (ravi)" in run("explain", delivery_id).out


def test_whoever_holds_is_the_user_of_the_shell(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "LOGNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "ravi")
    assert json.loads(run("hold", "provider:bitespeed", "--json").out)["by"] == "ravi"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["provider:bitespeed", "--for", "2"], "for: must be a duration such as 90s, 15m, 6h or 7d"),
        (["provider:bitespeed", "--for", "0h"], "for: must be more than nothing and at most 90d"),
        (["provider:bitespeed", "--for", "91d"], "for: must be more than nothing and at most 90d"),
        (["--for", "2h"], "say what to stop: provider:NAME"),
    ],
)
def test_an_end_that_cannot_be_is_1_and_holds_nothing(run: Callable[..., Any], given: list[str], said: str) -> None:
    done = run("hold", *given)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert run("holds").out == "nothing is on hold\n"


@pytest.mark.parametrize(("width", "lines"), [(60, 2), (200, 2)])
def test_a_terminal_of_any_width_shows_a_scope_whole(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, width: int, lines: int
) -> None:
    run("hold", "template:gallabox/review_thanks", "--for", "2h", "--by", "asha", "--reason", "wrong text")
    monkeypatch.setattr(command, "open_console", lambda: Console(force_terminal=True, width=width, color_system=None))
    shown = run("holds").out.splitlines()
    assert len(shown) == lines
    assert any(line.startswith("template:gallabox/review_thanks") for line in shown)
    assert all(said in "".join(shown) for said in ("wrong text", "asha", "until"))


def test_a_provider_that_is_down_is_named_though_nothing_is_on_hold(
    run: Callable[..., Any], shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del shop
    told = build(lanes=[DOWN]).model_dump()
    answers = {"/status": told, "/holds": {"holds": []}}
    monkeypatch.setattr(OpsClient, "get", lambda _self, path: answers[path])
    out = run("holds").out.splitlines()
    assert out == [f"g is down since {AT}, next probe {AT}, 8 waiting", "nothing is on hold"]
