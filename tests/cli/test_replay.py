"""`nector-relay replay`, against a relay that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

COINS = {"user_name": "Riya", "amount": "100"}


@pytest.fixture
def refused(shop: Any) -> dict[str, Any]:
    """A delivery that the provider refused; it would take it now."""
    # What others have had refused must not add up to a hold.
    shop.wait_for(shop.post({**COINS, "user_mobile": shop.new_number()}), "accepted")
    # Not "times": 1, which what an earlier test retried might meet first.
    shop.set_fault(gallabox={"fault": "status", "status": 422})
    delivery_id: str = shop.post({**COINS, "user_mobile": shop.new_number()})
    found: dict[str, Any] = shop.wait_for(delivery_id, "dead")
    shop.set_fault()
    return found


def test_a_plan_shows_what_would_be_sent_and_its_apply_sends_it(
    run: Callable[..., Any], shop: Any, refused: dict[str, Any]
) -> None:
    planned = run("replay", "--plan", "--event", refused["event_id"])
    assert (planned.code, planned.err) == (0, "")
    assert re.search(rf"^{refused['event_id']}  coins-earned +send +request_refused", planned.out, re.MULTILINE)
    assert "1 message would be sent\n" in planned.out
    assert len(json.loads(run("deliveries", "--event", refused["event_id"], "--json").out)["deliveries"]) == 1
    command = re.search(r"^to send them: nector-relay (replay --apply \S+)$", planned.out, re.MULTILINE)
    assert command is not None
    applied = run(*command[1].split())
    assert (applied.code, applied.err) == (0, "")
    assert applied.out.startswith("1 message will be sent\n")
    new = re.search(rf"^{refused['event_id']}  coins-earned +(\S+) +pending", applied.out, re.MULTILINE)
    assert new is not None
    assert shop.wait_for(new[1], "accepted")["event_id"] == refused["event_id"]
    again = run(*command[1].split())
    assert again.code == 1
    assert "applied already" in again.err
    later = run("replay", "--plan", "--event", refused["event_id"])
    assert later.code == 1
    assert "0 messages would be sent; not sent: 1 accepted" in later.out
    assert "to send them" not in later.out
    retried = run("retry", refused["id"])
    assert retried.code == 1
    assert "a later delivery of the same event does its work" in retried.out


def test_json_is_the_answer_of_the_ops_api(run: Callable[..., Any], refused: dict[str, Any]) -> None:
    plan = json.loads(run("replay", "--plan", "--state", "dead", "--route", "coins-earned", "--json").out)
    assert refused["event_id"] in [entry["event_id"] for entry in plan["entries"]]
    assert plan["counts"]["send"] >= 1
    applied = json.loads(run("replay", "--apply", plan["plan_id"], "--json").out)
    assert set(applied) == {"plan_id", "counts", "deliveries", "left_out"}
    assert len(applied["deliveries"]) == plan["counts"]["send"]


def test_what_changed_since_the_plan_is_named(run: Callable[..., Any], shop: Any, refused: dict[str, Any]) -> None:
    plan = json.loads(run("replay", "--plan", "--event", refused["event_id"], "--json").out)
    run("retry", refused["id"])
    shop.wait_for(refused["id"], "pending", "sending", "accepted")
    applied = run("replay", "--apply", plan["plan_id"])
    assert applied.code == 1
    assert re.match(r"0 messages will be sent; not sent: 1 (accepted|open)\n", applied.out)
    assert "left out" in applied.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--plan shows what would be sent"),
        (("--plan", "--apply", "x"), "--plan shows what would be sent"),
        (("--state", "dead"), "--plan shows what would be sent"),
        (("--plan",), "say which events"),
        (("--apply", "x", "--event", "y", "--since", "7d"), "leave out --event, --since"),
        (("--plan", "--event", "nothing"), "no event has the id that is number 1 of those given"),
        (("--plan", "--since", "yesterday"), "since: must be how long ago"),
        (("--plan", "--route", "nothing"), "it has coins-earned, "),
        (("--apply", "nothing"), "no plan has this id"),
    ],
)
def test_a_replay_that_does_not_say_what_is_1(
    run: Callable[..., Any], shop: Any, arguments: tuple[str, ...], said: str
) -> None:
    del shop
    done = run("replay", *arguments)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_an_unknown_state_is_2_and_says_which_there_are(run: Callable[..., Any]) -> None:
    done = run("replay", "--plan", "--state", "lost")
    assert done.code == 2
    assert "'unrouted'" in done.err


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    class Client:
        def send(self, *_: Any) -> dict[str, Any]:
            return answer

    monkeypatch.setattr("app.cli.replay.open_client", Client)


def make_entries(count: int, verdict: str) -> list[dict[str, Any]]:
    standard = {"topic": "t", "route": "a", "verdict": verdict, "reason": None, "detail": "", "delivery_id": None}
    return [{"event_id": f"e-{number}", **standard} for number in range(count)]


def test_a_plan_that_is_cut_short_says_so_and_lists_no_crowd(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = make_entries(3, "send") + make_entries(60, "accepted")
    answer_with(
        monkeypatch,
        {
            "plan_id": "p",
            "counts": {"send": 3, "accepted": 160},
            "complete": False,
            "unlisted": 100,
            "entries": entries,
        },
    )
    done = run("replay", "--plan", "--since", "7d")
    assert "and 110 more that are not sent; --json lists them\n" in done.out
    assert "3 messages would be sent; not sent: 160 accepted\n" in done.out
    assert "this is as much as one plan sends: apply it, then plan again for the rest\n" in done.out


def test_an_apply_lists_no_crowd(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": f"d-{number}", "event_id": "e", "route": "a", "provider": "p", "state": "pending"}
        for number in range(60)
    ]
    answer_with(monkeypatch, {"plan_id": "p", "counts": {"send": 60}, "deliveries": rows, "left_out": []})
    done = run("replay", "--apply", "p")
    assert "and 10 more; --json lists them\n" in done.out
    assert done.code == 0
