"""`nector-relay deliveries` and `explain`, against a relay that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from app.cli import COMMANDS
from app.cli import deliveries as command
from app.cli.client import OpsClient
from app.delivery.status import CURES, find_cure
from app.model.delivery import Reason

TITLES = ["route", "provider", "recipient", "state", "receipt", "reason"]
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
    assert run("deliveries", "--state", "dead", "--by-reason", "--provider", "bitespeed").code == 0
    wrong = run("deliveries", "--state", "dead", "--by-reason", "--route", "coins-earnd")
    assert (wrong.code, wrong.out) == (1, "")
    assert "did you mean 'coins-earned'?" in wrong.err


def test_the_groups_are_json_too_and_only_of_the_filters(run: Callable[..., Any], dead: str) -> None:
    def groups(*options: str) -> list[dict[str, Any]]:
        done = run("deliveries", "--state", "dead", "--by-reason", "--json", *options)
        found: list[dict[str, Any]] = json.loads(done.out)["reasons"]
        return found

    assert dead in [group["newest_id"] for group in groups()]
    assert dead not in [group["newest_id"] for group in groups("--provider", "bitespeed")]


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
    assert {sent, dead} <= ids("--provider", "gallabox")
    assert not {sent, dead} & ids("--provider", "bitespeed")
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
    done = run("deliveries", "--until", "300d")
    assert (done.code, done.out) == (0, "no deliveries\n")


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [
        ("--route", "coins-earnd", "coins-earned"),
        ("--route", "COINS-EARNED", "coins-earned"),
        ("--provider", "galabox", "gallabox"),
        ("--template", "coins_earnt", "coins_earned"),
        ("--topic", "walletreward_creat", "walletreward_create"),
        ("--reason", "variable_mising", "variable_missing"),
    ],
)
def test_a_name_that_never_was_is_told(run: Callable[..., Any], shop: Any, option: str, wrong: str, right: str) -> None:
    del shop
    done = run("deliveries", option, wrong)
    assert (done.code, done.out) == (1, "")
    assert f"{option[2:]}: there is no {wrong!r}; did you mean {right!r}?" in done.err


@pytest.mark.parametrize("option", ["--route", "--provider", "--template", "--topic", "--reason"])
def test_a_word_that_is_near_to_no_name_is_not_repeated(run: Callable[..., Any], shop: Any, option: str) -> None:
    del shop
    done = run("deliveries", option, "Zubeida-9800000042")
    assert (done.code, done.out) == (1, "")
    assert f"{option[2:]}: there is no such {option[2:]}; known: " in done.err
    assert "Zubeida" not in done.err


def test_a_person_is_found_by_a_number_that_stands_in_no_url(
    run: Callable[..., Any], shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = shop.new_number()
    asked: list[tuple[str, str]] = []
    send = OpsClient.send

    def note(client: OpsClient, method: str, path: str, *given: Any, **options: Any) -> Any:
        asked.append((method, path))
        return send(client, method, path, *given, **options)

    monkeypatch.setattr(OpsClient, "send", note)
    ids = {shop.post({**COINS, "user_mobile": number}), shop.post({"user_name": "Riya", "user_mobile": number})}
    found = json.loads(run("deliveries", "--phone", number, "--since", "1h", "--json").out)["deliveries"]
    assert {row["id"] for row in found} == ids  # also the one that is dead and has no recipient
    assert asked == [("POST", "/deliveries/find")]
    wrong = run("deliveries", "--phone", "98000")
    assert (wrong.code, wrong.out) == (1, "")
    assert "98000" not in wrong.err


def test_an_id_goes_by_its_end_and_an_event_by_what_its_source_calls_it(run: Callable[..., Any], shop: Any) -> None:
    payload = {"user_name": "Riya", "user_mobile": shop.new_number()}
    named = {"x-nector-delivery-id": "riya-4711"}
    answer = shop._post(shop.url, "walletreward_create", payload, **named).json()
    event, dead = answer["event_id"], answer["deliveries"][0]["id"]
    for name in (dead[-12:], dead[-12:].upper(), event, event[-12:], "riya-4711"):
        assert json.loads(run("explain", name, "--json").out)["id"] == dead, name
    assert run("deliveries", "--event", "riya-4711").out.count(dead) == 1
    done = run("retry", dead[-12:])
    assert f"{dead}: not sent again" in done.out


def test_the_list_is_followed_until_ctrl_c(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(("route", "provider", "recipient", "reason", "receipt"), "")
    row |= {"created_at": "2026-11-27T03:00:00.000Z", "state": "pending"}
    old, new = {**row, "id": "old"}, {**row, "id": "new"}
    pages = [[old], [old], [new, {**old, "state": "accepted"}]]

    class Client:
        def get(self, _path: str, _query: Any) -> dict[str, Any]:
            if not pages:
                raise KeyboardInterrupt
            return {"deliveries": pages.pop(0), "next_cursor": None}

    monkeypatch.setattr(command, "open_client", Client)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    kept = list(pages)
    done = run("deliveries", "--follow")
    told = [line.split()[1:] for line in done.out.splitlines()]
    assert done.code == 130
    assert told == [["id", *TITLES], ["old", "pending"], ["old", "accepted"], ["new", "pending"]]
    pages.extend(kept)
    lines = run("deliveries", "--follow", "--json").out.splitlines()
    assert [(one["id"], one["state"]) for one in map(json.loads, lines)] == [
        ("old", "pending"), ("old", "accepted"), ("new", "pending"),
    ]  # fmt: skip


def test_an_event_without_a_route_has_a_page_of_its_own(run: Callable[..., Any], shop: Any) -> None:
    shop._post(shop.url, "lead_create", {"user_name": "Riya"})
    done = run("explain", "--last")
    assert done.code == 0
    assert ": unrouted\n" in done.out
    assert "today's YAML has no route for lead_create" in done.out
    assert "`nector-relay replay --plan --event " in done.out


def test_a_wrong_cursor_is_1_and_says_what_to_do(run: Callable[..., Any], shop: Any) -> None:
    del shop
    done = run("deliveries", "--cursor", "%%")
    assert done.code == 1
    assert "the cursor is not one of ours" in done.err


def test_explain_tells_a_deliverys_story(run: Callable[..., Any], sent: str) -> None:
    done = run("explain", sent)
    assert (done.code, done.err) == (0, "")
    head, *steps = done.out.splitlines()
    assert head == f"delivery {sent}: accepted, read"
    assert re.search(r"route coins-earned → gallabox, config/relay\.yaml:\d+ \(config [0-9a-f]{12}\)$", steps[1])
    assert re.search(r"name: R\*\*\*, coins: 1\*\*\*$", steps[2])
    assert [line.split("  ")[-1] for line in steps if "receipt: " in line][-1] == "receipt: read"
    assert steps[-1] == "do:  nothing"


def test_explain_takes_an_event_or_a_providers_message_too(run: Callable[..., Any], sent: str, dead: str) -> None:
    whole = json.loads(run("explain", sent, "--json").out)
    for name in (whole["event_id"], whole["provider_message_id"]):
        assert run("explain", name).out.splitlines()[0] == f"delivery {sent}: accepted, read"
        assert json.loads(run("explain", name, "--json").out) == whole
    assert whole["config"]["in_force"] is True
    assert dead not in str(whole)


def test_explain_of_an_event_of_several_tells_each(
    run: Callable[..., Any], shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [shop.post({**COINS, "user_mobile": shop.new_number(), "amount": None}) for _ in range(2)]
    rows = [{"id": id_} for id_ in reversed(ids)]
    get = OpsClient.get

    def list_two(client: OpsClient, path: str, query: Any = None) -> dict[str, Any]:
        return {"deliveries": rows} if query else get(client, path)

    monkeypatch.setattr(OpsClient, "get", list_two)
    done = run("explain", "event-of-two")
    assert [line for line in done.out.splitlines() if line.startswith("delivery ")] == [
        f"delivery {id_}: dead" for id_ in ids
    ]
    assert len(done.out.split("\n\n")) == 2
    assert [row["id"] for row in json.loads(run("explain", "event-of-two", "--json").out)["deliveries"]] == ids


def test_explain_of_a_delivery_without_a_message_says_why(run: Callable[..., Any], dead: str) -> None:
    done = run("explain", dead)
    assert done.code == 0
    assert "  dead: variable_missing (variable coins (`amount`) is missing)\n" in done.out


@pytest.mark.parametrize("name", ["nothing", "wamid.HBg==", "a b"])
def test_an_unknown_id_is_1_and_says_what_to_try(run: Callable[..., Any], shop: Any, name: str) -> None:
    del shop
    done = run("explain", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        f"nector-relay: no delivery has the id {name!r}, and none is of an event or a provider's"
    )
    assert "`nector-relay deliveries` lists them" in done.err


@pytest.mark.parametrize("name", ["", "../holds", "a/b?c=d#e", "..", "%2e%2e", "é"])
def test_what_can_be_no_id_is_1_and_said(run: Callable[..., Any], shop: Any, name: str) -> None:
    del shop
    done = run("explain", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"nector-relay: no delivery has the id {name!r}")
