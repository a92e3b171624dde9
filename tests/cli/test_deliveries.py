"""`nector-relay deliveries` and `explain`, against a relay that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from app.cli.commands import COMMANDS
from app.cli.cures import CURES, find_cure
from app.core.models import Reason

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


@pytest.fixture
def sent(shop: Any) -> str:
    """The id of an accepted delivery."""
    delivery_id: str = shop.post({**COINS, "user_mobile": shop.new_number()})
    shop.wait_for(delivery_id, "read", field="receipt")
    return delivery_id


@pytest.fixture
def dead(shop: Any) -> str:
    """The id of a delivery without a message."""
    delivery_id: str = shop.post({"user_name": "Riya", "user_mobile": shop.new_number()})
    return delivery_id


def test_the_table_has_a_line_a_delivery_newest_first(run: Callable[..., Any], sent: str, dead: str) -> None:
    done = run("deliveries")
    assert (done.code, done.err) == (0, "")
    titles, *lines = done.out.splitlines()
    assert titles.split() == ["created", "id", "route", "provider", "recipient", "state", "receipt", "reason"]
    assert lines[0].split()[1:] == [dead, "coins-earned", "gallabox", "dead", "variable_missing"]
    number = next(place for place, line in enumerate(lines) if sent in line)
    assert number > 0
    assert re.search(rf"{sent}  coins-earned +gallabox +\+91\*+\d{{4}} +accepted +read", lines[number])


def test_the_dead_are_counted_by_reason_before_they_are_listed(run: Callable[..., Any], dead: str) -> None:
    done = run("deliveries", "--state", "dead")
    groups, rows = done.out.split("\n\n")
    titles, first, *_ = groups.splitlines()
    assert titles.split("  ")[0] == "count"
    assert titles.rstrip().endswith("what to do")
    assert re.search(
        rf"variable_missing +coins-earned +gallabox +{dead} +\S+ +`nector-relay explain ID` names it", groups
    )
    assert dead in rows
    assert int(first.split()[0]) >= 1
    alone = run("deliveries", "--state", "dead", "--by-reason", "--route", "coins-earned")
    assert dead in alone.out
    assert "created" not in alone.out
    assert run("deliveries", "--state", "dead", "--by-reason", "--route", "nothing").out == "no deliveries\n"


def test_the_groups_are_json_too_and_only_of_the_filters(run: Callable[..., Any], dead: str) -> None:
    def groups(*options: str) -> list[dict[str, Any]]:
        done = run("deliveries", "--state", "dead", "--by-reason", "--json", *options)
        found: list[dict[str, Any]] = json.loads(done.out)["reasons"]
        return found

    assert dead in [group["newest_id"] for group in groups()]
    assert groups("--route", "nothing") == groups("--provider", "bitespeed") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--by-reason goes with --state"),
        (("--state", "accepted"), "--by-reason goes with --state"),
        (("--state", "dead", "--event", "x"), "leave out the rest"),
    ],
)
def test_groups_of_what_has_none_are_1(run: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    done = run("deliveries", "--by-reason", *arguments)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_every_reason_has_a_cure_that_names_commands_of_ours() -> None:
    assert set(CURES) == {reason.value for reason in Reason}
    named = {name for cure in CURES.values() for name in re.findall(r"`nector-relay ([a-z-]+)", cure)}
    assert named <= set(COMMANDS)
    assert find_cure(None) == find_cure("of_a_newer_relay") == ""


def test_json_is_the_page_of_the_ops_api(run: Callable[..., Any], sent: str) -> None:
    page = json.loads(run("deliveries", "--json", "--limit", "500").out)
    assert set(page) == {"deliveries", "next_cursor"}
    assert sent in [row["id"] for row in page["deliveries"]]


def test_filters_are_passed_on(run: Callable[..., Any], sent: str, dead: str) -> None:
    def ids(*options: str) -> set[str]:
        return {row["id"] for row in json.loads(run("deliveries", "--json", *options).out)["deliveries"]}

    assert dead in ids("--state", "dead")
    assert sent not in ids("--state", "dead")
    assert {sent, dead} <= ids("--route", "coins-earned")
    assert ids("--route", "review-thanks") == set()
    assert ids("--provider", "bitespeed") == set()
    event_id = json.loads(run("explain", sent, "--json").out)["event_id"]
    assert ids("--event", event_id) == {sent}


def test_pages_follow_one_another(run: Callable[..., Any], sent: str, dead: str) -> None:
    first = run("deliveries", "--limit", "1")
    assert dead in first.out
    cursor = re.search(r"^more: --cursor (\S+)$", first.out, re.MULTILINE)
    assert cursor is not None
    second = run("deliveries", "--limit", "1", "--cursor", cursor[1])
    assert sent in second.out


def test_nothing_found_is_said_and_0(run: Callable[..., Any], shop: Any) -> None:
    del shop
    done = run("deliveries", "--route", "nothing")
    assert (done.code, done.out) == (0, "no deliveries\n")


def test_a_wrong_cursor_is_1_and_says_what_to_do(run: Callable[..., Any], shop: Any) -> None:
    del shop
    done = run("deliveries", "--cursor", "%%")
    assert done.code == 1
    assert "the cursor is not one of ours" in done.err


def test_explain_shows_facts_and_the_timeline(run: Callable[..., Any], sent: str) -> None:
    done = run("explain", sent)
    assert (done.code, done.err) == (0, "")
    facts, timeline = done.out.split("\n\n")
    told = dict(re.split(r" {2,}", line, maxsplit=1) for line in facts.splitlines())
    assert told["id"] == sent
    assert told["state"] == "accepted"
    assert told["event.topic"] == "walletreward_create"
    assert told["message.variables"] == "name: R***, coins: 1***"
    assert "None" not in facts
    assert "{" not in facts
    steps = [line.split()[1:3] for line in timeline.splitlines()[1:]]
    assert [step for step in steps if step[0] == "state"] == [
        ["state", "pending"],
        ["state", "sending"],
        ["state", "accepted"],
    ]
    assert ["receipt", "read"] in steps


def test_explain_of_a_delivery_without_a_message_says_why(run: Callable[..., Any], dead: str) -> None:
    done = run("explain", dead)
    assert done.code == 0
    assert re.search(r"^reason +variable_missing$", done.out, re.MULTILINE)
    assert "`amount`" in done.out


def test_an_unknown_id_is_1_and_said(run: Callable[..., Any], shop: Any) -> None:
    done = run("explain", "nothing")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"nector-relay: the relay at {shop.url} answered 404: no delivery has this id\n"


@pytest.mark.parametrize("name", ["", "../holds", "a/b?c=d#e", "..", "%2e%2e", "é"])
def test_what_can_be_no_id_is_1_and_said(run: Callable[..., Any], shop: Any, name: str) -> None:
    del shop
    done = run("explain", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"nector-relay: no delivery has the id {name!r}")
