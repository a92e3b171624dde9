"""`nector-relay preview`: the message before a customer sees it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "1250"}
COINS_MESSAGE = """\
── coins-earned: gallabox · coins_earned
to +919800000001, read as one of IN (`store.country`)
╭─
│ Hi Riya, you just earned 1,250 coins. 🎉 They are
│ in your wallet, ready for your next order.
│ [ See my coins → https://acme.example/rewards ]
╰─
note: 91 of 1024 characters
"""


@pytest.fixture
def event(folder: Path) -> str:
    (folder / "event.json").write_text(json.dumps(COINS))
    return "event.json"


def titles(text: str) -> list[str]:
    return [line.removeprefix("── ").split(":")[0] for line in text.splitlines() if line.startswith("── ")]


def test_all_routes_are_shown_from_their_examples(run: Callable[..., Any]) -> None:
    done = run("preview")
    assert done.code == 0
    assert COINS_MESSAGE in done.out
    assert len(set(titles(done.out))) == 11
    assert "not sent" not in done.out


def test_one_route_is_shown(run: Callable[..., Any]) -> None:
    done = run("preview", "review-thanks")
    assert (done.code, titles(done.out)) == (0, ["review-thanks"])


def test_an_unknown_route_is_1_and_names_those_there_are(run: Callable[..., Any]) -> None:
    done = run("preview", "coin-earned")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("nector-relay: no route is named 'coin-earned'; there are coins-earned, coupon-ready, ")


def test_a_route_is_shown_with_an_event(run: Callable[..., Any], event: str) -> None:
    done = run("preview", "coins-earned", "--event", event)
    assert (done.code, done.out) == (0, f"{COINS_MESSAGE}\n")


def test_a_message_that_would_not_be_is_1_with_its_reason(run: Callable[..., Any], folder: Path) -> None:
    (folder / "event.json").write_text(json.dumps({**COINS, "amount": None}))
    done = run("preview", "coins-earned", "--event", "event.json")
    assert done.code == 1
    assert "not sent: variable_missing (variable coins (`amount`) is missing)" in done.out


def test_an_event_that_does_not_hit_the_route_says_so(run: Callable[..., Any], folder: Path) -> None:
    coupon = {**COINS, "value": "ACME-1", "expire": "2030-01-31", "fiat_value": 0}
    (folder / "event.json").write_text(json.dumps(coupon))
    done = run("preview", "coupon-ready", "--event", "event.json")
    assert done.code == 0
    assert "this event does not hit the route (`when: fiat_value | float > 0` is false); if it did:\nto +91" in done.out


def test_an_event_with_its_topic_is_shown_in_the_routes_for_it(run: Callable[..., Any], folder: Path) -> None:
    (folder / "event.json").write_text(json.dumps({"topic": "walletreward_create", "payload": COINS}))
    assert titles(run("preview", "--event", "event.json").out) == ["coins-earned"]
    (folder / "event.json").write_text(json.dumps({"topic": "lead_create", "payload": COINS}))
    done = run("preview", "--event", "event.json")
    assert (done.code, "no route waits for 'lead_create'" in done.err) == (1, True)


def test_an_event_on_stdin_is_read_once_for_all_routes(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(COINS).encode())))
    done = run("preview", "--event", "-")
    assert done.code == 1
    assert len(titles(done.out)) == 11
    assert COINS_MESSAGE in done.out


def test_a_template_that_nobody_knows_shows_its_variables(
    run: Callable[..., Any], edit: Callable[..., Path], event: str
) -> None:
    edit("template: coins_earned", "template: coins_new")
    done = run("preview", "coins-earned", "--event", event)
    assert done.code == 0
    assert "does not hold this template's text; its variables are:\n  1: Riya\n  2: 1,250\n" in done.out


def test_a_route_without_an_example_says_what_to_do(run: Callable[..., Any], edit: Callable[..., Path]) -> None:
    path = edit("  review-thanks:", "  review-thanks:")
    text = path.read_text()
    example = text[text.index("    examples:\n      - event: {rating: 5") : text.index("  # -- tiers")]
    edit(example, "\n")
    done = run("preview")
    assert done.code == 1
    assert "── review-thanks: gallabox · review_thanks\nno example that sends: add one" in done.out
    assert "tier-changed" in done.out


def test_a_value_that_looks_like_markup_stays_text(run: Callable[..., Any], folder: Path) -> None:
    (folder / "event.json").write_text(json.dumps({**COINS, "user_name": "[bold]{{7*7}}"}))
    assert "Hi [bold]{{7*7}}, you" in run("preview", "coins-earned", "--event", "event.json").out


def test_output_that_the_terminal_cannot_show_is_escaped(run_program: Callable[..., Any], folder: Path) -> None:
    done = run_program("preview", "review-thanks", folder=folder, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.err) == (0, "")
    assert "\\u2502 Thank you for your review, Riya!" in done.out


# -- kept as files, and as a page -----------------------------------------------------------------


@pytest.fixture
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


@pytest.mark.usefixtures("outside_ci")
def test_golden_files_are_written_once_and_then_compared(run: Callable[..., Any], folder: Path) -> None:
    done = run("preview", "--golden", "golden")
    assert (done.code, done.out.splitlines()[-1]) == (0, "golden: 11 right, 0 not")
    text = (folder / "golden/coins-earned.txt").read_text()
    assert text.startswith(
        "coins-earned: walletreward_create → gallabox · coins_earned · en · utility\n\n"
        "── example 1\nto +919800000001, read as one of IN (`store.country`)\n╭─\n"
    )
    again = run("preview", "--golden", "golden")
    assert (again.code, again.out) == (0, "golden: 11 right, 0 not\n")


@pytest.mark.usefixtures("outside_ci")
def test_a_message_that_changed_is_1_with_its_diff_until_it_is_taken_over(
    run: Callable[..., Any], folder: Path, edit: Callable[..., Path]
) -> None:
    run("preview", "--golden", "golden")
    (folder / "config/templates.yaml").write_text(
        (folder / "config/templates.yaml").read_text().replace("you just earned", "you have just earned")
    )
    changed = run("preview", "--golden", "golden")
    assert changed.code == 1
    assert "--- golden/coins-earned.txt" in changed.out
    assert "-│ Hi Riya, you just earned 1,250 coins. 🎉 They are\n" in changed.out
    assert "+│ Hi Riya, you have just earned 1,250 coins. 🎉\n" in changed.out
    assert changed.out.endswith(
        "golden: 10 right, 1 not; if that is meant, run `nector-relay preview --golden golden --update`\n"
    )
    edit("  review-thanks:", "  review-thank-you:")
    stale = run("preview", "--golden", "golden")
    assert "golden/review-thanks.txt: no route has its name" in stale.out
    taken = run("preview", "--golden", "golden", "--update")
    assert (taken.code, "removed golden/review-thanks.txt" in taken.out) == (0, True)
    assert run("preview", "--golden", "golden").code == 0


def test_in_ci_a_golden_file_that_nobody_committed_is_a_fault(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    done = run("preview", "--golden", "golden")
    assert (done.code, list((folder / "golden").iterdir())) == (1, [])
    assert "golden/coins-earned.txt: is not there\n" in done.out


@pytest.mark.usefixtures("outside_ci")
def test_one_routes_golden_file_is_compared_and_the_others_are_left(run: Callable[..., Any], folder: Path) -> None:
    run("preview", "--golden", "golden")
    assert run("preview", "coins-earned", "--golden", "golden").out == "golden: 1 right, 0 not\n"
    assert len(list((folder / "golden").iterdir())) == 11


def test_a_page_is_written(run: Callable[..., Any], folder: Path) -> None:
    done = run("preview", "--html", "page.html")
    assert (done.code, done.out) == (0, "wrote page.html\n")
    page = (folder / "page.html").read_text()
    assert "Hi Riya, you just earned 1,250 coins." in page
    assert page.count("<section>") == 11


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--update"], "--update writes the files of --golden DIR: name the folder"),
        (["--golden", "config/relay.yaml"], "config/relay.yaml: cannot be used (File exists)"),
        (["--html", "none/page.html"], "none/page.html: cannot be written (No such file or directory)"),
    ],
)
def test_what_cannot_be_written_is_1_and_says_so(run: Callable[..., Any], arguments: list[str], told: str) -> None:
    done = run("preview", *arguments)
    assert (done.code, done.err) == (1, f"nector-relay: {told}\n")
