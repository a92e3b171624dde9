"""`nector-relay route`: which routes an event hits, and why not."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "1250"}


@pytest.fixture
def write(folder: Path) -> Callable[..., str]:
    """Return a function that writes an event file and returns its name."""

    def write_event(content: Any, name: str = "event.json") -> str:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    return write_event


def test_a_hit_is_0_and_stands_first(run: Callable[..., Any], write: Callable[..., str]) -> None:
    done = run("route", write(COINS), "--topic", "walletreward_create")
    assert done.code == 0
    first, *others = done.out.splitlines()
    assert first == "HIT   coins-earned: gallabox sends coins_earned"
    assert others[0] == "      to +919800000001; name: Riya; coins: 1,250"
    assert len(others[1:]) == 10
    assert all(line.startswith("miss  ") for line in others[1:])


def test_a_hit_of_which_nothing_would_be_sent_is_1_and_says_why_as_preview_does(
    run: Callable[..., Any], write: Callable[..., str]
) -> None:
    name = write({"user_mobile": "98000", "fiat_value": "200", "value": "X"})
    done = run("route", name, "--topic", "coupon_create")
    assert done.code == run("preview", "coupon-ready", "--event", name).code == 1
    first, second, *_ = done.out.splitlines()
    assert first.startswith("DEAD  coupon-ready: bitespeed sends tpl_4711")
    assert second == (
        "      nothing is sent: dead, recipient_invalid: the recipient (`user_mobile`) is not a valid number in IN"
    )


def test_a_hit_that_is_only_recorded_says_so(
    run: Callable[..., Any], write: Callable[..., str], edit: Callable[..., Path]
) -> None:
    edit("mode: live", "mode: shadow")
    done = run("route", write(COINS), "--topic", "walletreward_create")
    assert done.code == 0
    assert done.out.splitlines()[1] == "      nothing is sent: shadow"


def test_no_hit_is_1_and_says_why(run: Callable[..., Any], write: Callable[..., str]) -> None:
    done = run("route", write({**COINS, "fiat_value": 0}), "--topic", "coupon_create")
    assert done.code == 1
    assert done.out.splitlines()[0] == ("miss  coupon-ready: `when: fiat_value | float > 0` is false  (fiat_value = 0)")


def test_a_condition_that_misses_something_names_it(run: Callable[..., Any], write: Callable[..., str]) -> None:
    done = run("route", write(COINS), "--topic", "coupon_create")
    assert done.code == 1
    assert "`when` is false, since `fiat_value` is missing  (fiat_value = null)" in done.out


def test_a_condition_that_breaks_is_shown_as_broken(
    run: Callable[..., Any], write: Callable[..., str], edit: Callable[..., Path]
) -> None:
    edit("when: fiat_value | float > 0", "when: 100 / fiat_value > 0 and title")
    done = run("route", write({**COINS, "fiat_value": 0, "title": "₹ off"}), "--topic", "coupon_create")
    assert done.code == 1
    assert done.out.startswith("FAIL  coupon-ready: `when` cannot be worked out: ")
    assert '(fiat_value = 0, title = "₹ off")' in done.out


def test_a_file_may_hold_its_topic(run: Callable[..., Any], write: Callable[..., str]) -> None:
    name = write({"topic": "walletreward_create", "payload": COINS})
    assert run("route", name).code == 0
    assert run("route", name, "--topic", "coupon_create").code == 1


def test_a_property_of_another_kind_than_usual_is_noted_and_never_shown(
    run: Callable[..., Any], write: Callable[..., str]
) -> None:
    name = write({**COINS, "user_name": ["Riya"], "amount": "soon"})
    done = run("route", name, "--topic", "walletreward_create")
    assert done.code == 1
    notes = ["`user_name` is a list, not a name", "`amount` is a text, not a number"]
    assert done.out.splitlines()[-2:] == [f"note: {note}" for note in notes]
    assert json.loads(run("route", name, "--topic", "walletreward_create", "--json").out)["notes"] == notes


def test_json_names_every_route_with_its_result(run: Callable[..., Any], write: Callable[..., str]) -> None:
    done = run("route", write({**COINS, "fiat_value": "1.50"}), "--topic", "coupon_create", "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["topic"] == "coupon_create"
    assert len(told["routes"]) == 11
    assert {row["route"]: row for row in told["routes"]}["coupon-ready"] == {
        "route": "coupon-ready",
        "result": "hit",
        "why": "bitespeed sends tpl_4711",
        "when": "fiat_value | float > 0",
        "reads": {"fiat_value": "1.50"},
        "state": "dead",
        "reason": "variable_missing",
        "detail": "variable 2 (`value`) is missing; variable 3 (`expire`) is missing",
        "to": None,
        "variables": {},
    }
    (hit,) = [
        row
        for row in json.loads(run("route", write(COINS), "--topic", "walletreward_create", "--json").out)["routes"]
        if row["result"] == "hit"
    ]
    assert (hit["state"], hit["to"]) == ("pending", "+919800000001")
    assert hit["variables"] == {"name": "Riya", "coins": "1,250"}


def test_a_stored_event_is_judged_by_the_relay_and_masked(run: Callable[..., Any], shop: Any) -> None:
    payload = {**COINS, "user_mobile": shop.new_number()}
    event = shop._post(shop.url, "walletreward_create", payload, **{"x-nector-delivery-id": "route-4711"}).json()
    for name in ("route-4711", event["event_id"], event["event_id"][-12:]):
        done = run("route", name)
        assert (done.code, done.err) == (0, "")
        first, second, *_ = done.out.splitlines()
        assert first == "HIT   coins-earned: gallabox sends coins_earned"
        assert second.endswith("; name: R***; coins: 1,***")
        assert payload["user_mobile"] not in done.out
    told = json.loads(run("route", "route-4711", "--json").out)
    assert (told["id"], told["topic"], len(told["routes"])) == (event["event_id"], "walletreward_create", 11)
    unknown = run("route", "nothing-4711")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no event has this id" in unknown.err
    assert "is no file, and a stored event has its topic" in run("route", "route-4711", "--topic", "x").err


def test_what_is_no_file_says_so_where_no_relay_runs(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_ADMIN_TOKEN", "token")
    monkeypatch.setenv("RELAY_URL", "http://127.0.0.1:9")
    done = run("route", "evnt")
    assert done.code == 1
    assert "evnt is no file, and of an event's id a relay is asked: no relay answers" in done.err


def test_an_event_comes_from_stdin(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(COINS).encode())))
    assert run("route", "-", "--topic", "walletreward_create").code == 0


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (COINS, (), "event.json holds a body without its topic: add --topic, e.g. --topic coupon_create"),
        ("{'a': 1}", ("--topic", "x"), "event.json: the body is not JSON at line 1, column 2"),
        ("", ("--topic", "x"), "event.json: the body is"),
        ("[]", ("--topic", "x"), "event.json: the body"),
        ('{"a": 1, "a": 2}', ("--topic", "x"), "event.json: the key `a` is there twice"),
        ('{"a": NaN}', ("--topic", "x"), "event.json: NaN is not JSON"),
        ({"topic": 7, "payload": COINS}, (), "without its topic"),
    ],
)
def test_an_event_that_cannot_be_read_is_1(
    run: Callable[..., Any], write: Callable[..., str], content: Any, options: tuple[str, ...], said: str
) -> None:
    done = run("route", write(content), *options)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(("name", "said"), [("missing.json", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_is_none_is_1(run: Callable[..., Any], name: str, said: str) -> None:
    done = run("route", name, "--topic", "x")
    assert (done.code, done.err) == (1, f"nector-relay: {name}: cannot be read ({said})\n")


def test_a_broken_yaml_is_1_with_its_lines(
    run: Callable[..., Any], write: Callable[..., str], edit: Callable[..., Path]
) -> None:
    edit("provider: bitespeed", "provider: bitespede")
    done = run("route", write(COINS), "--topic", "x")
    assert done.code == 1
    assert "config/relay.yaml cannot be used:\nconfig/relay.yaml:" in done.err


def test_a_topic_that_no_route_waits_for_is_told(run: Callable[..., Any], write: Callable[..., str]) -> None:
    done = run("route", write(COINS), "--topic", "walletreward_crate")
    assert (done.code, done.err) == (
        1,
        'no route waits for walletreward_crate; did you mean "walletreward_create"?\n',
    )
    assert run("route", write(COINS), "--topic", "x").err == "no route waits for x\n"
