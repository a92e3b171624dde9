from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COINS = {"user_name": "Canaryname", "amount": "1250", "oddity": "a: b"}


@pytest.fixture
def recorded(shop: Any) -> Any:
    """The running relay, which has just recorded an event of coins."""
    before = len(shop.call("GET", "/examples").json()["examples"])
    shop.post({**COINS, "user_mobile": shop.new_number()})
    ends_at = time.monotonic() + 10
    while len(shop.call("GET", "/examples").json()["examples"]) <= before < 20 and time.monotonic() < ends_at:
        time.sleep(0.05)
    return shop


@pytest.mark.usefixtures("recorded")
def test_topics_are_listed_with_their_properties(run: Callable[..., Any]) -> None:
    done = run("examples", "list")
    assert done.code == 0
    assert "walletreward_create" in done.out
    assert all(name in done.out for name in ("amount", "oddity", "user_mobile", "user_name"))
    assert "Canaryname" not in done.out


@pytest.mark.usefixtures("recorded")
def test_a_captured_event_stands_under_its_route_and_is_right(
    run: Callable[..., Any], folder: Path, edit: Callable[..., Path]
) -> None:
    done = run("examples", "capture", "walletreward_create")
    assert done.code == 0
    first, example = done.out.split("\n", 1)
    assert first.endswith("with invented values; under `examples:` of route coins-earned:")
    assert "Canaryname" not in done.out
    assert "1,250" in example
    path = folder / "config/relay.yaml"
    at = path.read_text().index("    examples:\n") + len("    examples:\n")
    path.write_text(path.read_text()[:at] + example + path.read_text()[at:])
    checked = run("check")
    assert (checked.code, "18 of 18 examples right" in checked.out) == (0, True), checked.out
    del edit


@pytest.mark.usefixtures("recorded")
def test_pulled_events_are_what_check_holds_expressions_against(
    run: Callable[..., Any], folder: Path, edit: Callable[..., Path]
) -> None:
    done = run("examples", "pull")
    assert (done.code, done.out.startswith("config/recorded.json: ")) == (0, True)
    kept = json.loads((folder / "config/recorded.json").read_text())
    assert "walletreward_create" in kept
    assert run("check").code == 0
    edit(
        "    template: coins_earned\n    variables:", "    template: coins_earned\n    dedup_by: oddty\n    variables:"
    )
    told = run("check").out
    assert '"oddty" is in none of the recorded events of walletreward_create; did you mean "oddity"?' in told
    assert (
        'recorded events would, on route "coins-earned", be dead with variable_missing: dedup_by (`oddty`) is missing'
        in told
    )
    (folder / "config/recorded.json").write_text("[]")
    broken = run("check")
    assert (broken.code, "is not what `nector-relay examples pull` writes" in broken.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["capture"], "say which topic: `nector-relay examples capture TOPIC`"),
        (["list", "coupon_create"], "`examples list` takes neither a topic nor --route"),
        (["capture", "lead_update"], "no event of lead_update is recorded"),
        (["capture", "walletreward_create", "--route", "nobody"], "no route is named 'nobody'"),
        (
            ["capture", "walletreward_create", "--nth", "99"],
            "of walletreward_create recorded: --nth 1 is the newest",
        ),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_a_wrong_question_is_1_and_says_what_to_do(run: Callable[..., Any], arguments: list[str], told: str) -> None:
    done = run("examples", *arguments)
    assert (done.code, told in done.err) == (1, True), done.err
