"""`nector-relay erase` and `export`, against a relay that runs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import people as privacy
from app.errors import OpsError

COINS = {"user_name": "Riya", "amount": "100"}


@pytest.fixture
def her(shop: Any) -> str:
    """The number of somebody who got a message."""
    number: str = shop.new_number()
    shop.wait_for(shop.post({**COINS, "user_mobile": number}), "accepted")
    return number


def test_an_export_is_written_for_its_owner_alone_and_over_nothing(
    run: Callable[..., Any], her: str, folder: Path
) -> None:
    path = folder / "her.json"
    done = run("export", "--phone", her, "--output", str(path))
    assert (done.code, done.out) == (0, f"{path}: 1 event, 1 delivery; unmasked, and readable by you alone\n")
    assert path.stat().st_mode & 0o777 == 0o600
    record = json.loads(path.read_text())
    assert record["events"][0]["body"]["user_mobile"] == her
    again = run("export", "--phone", her, "--output", str(path))
    assert again.code == 1
    assert "overwrites nothing" in again.err
    assert json.loads(path.read_text()) == record


def test_an_export_is_else_printed(run: Callable[..., Any], her: str) -> None:
    done = run("export", "--phone", her)
    assert done.code == 0
    assert json.loads(done.out)["phone"] == f"+91{her}"


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "her.json"
    path.write_text("mine")
    with pytest.raises(OpsError, match="overwrites nothing"):
        privacy._write_new(path, "{}")
    assert path.read_text() == "mine"


def test_erasing_says_what_it_did_and_twice_is_harmless(run: Callable[..., Any], her: str) -> None:
    done = run("erase", "--phone", her, "--yes")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            f"+91******{her[-4:]}: erased: 1 event, 1 delivery",
            "backups are not reached: delete those that are older",
        ],
    )
    again = run("erase", "--phone", her, "--yes")
    assert (again.code, again.out) == (0, "nothing is kept of this number\n")
    export = run("export", "--phone", her)
    assert (export.code, export.out, export.err) == (0, "", "nothing is kept of this number\n")


def test_without_a_terminal_yes_must_be_said(run: Callable[..., Any], her: str) -> None:
    done = run("erase", "--phone", her)
    assert done.code == 1
    assert "add --yes" in done.err
    assert run("export", "--phone", her).out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks_first(
    run: Callable[..., Any], her: str, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    done = run("erase", "--phone", her)
    assert done.code == code
    assert ("nothing was erased" in done.out) is bool(code)
    assert bool(run("export", "--phone", her).out) is bool(code)


@pytest.mark.parametrize("command", ["erase --yes", "export"])
def test_a_number_that_cannot_be_read_is_1_and_said(run: Callable[..., Any], shop: Any, command: str) -> None:
    del shop
    done = run(*command.split(), "--phone", "98000")
    assert done.code == 1
    assert "phone: the number is not a valid number in IN; write it with + and its country code" in done.err


ANSWER = {"phone": "+91******0041", "events": 2, "deliveries": 1, "open": 0, "log_emptied": True, "opt_out_kept": False}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"open": 2}, 1, "2 deliveries are being sent and left for now: run this again in a minute"),
        ({"open": 1, "events": 0, "deliveries": 0}, 1, "1 delivery is being sent and left for now"),
        ({"log_emptied": False}, 1, "the log of the database is being read (a backup?) and still holds it"),
        ({"opt_out_kept": True}, 0, "that they want no marketing stays known, as a hash"),
    ],
)
def test_what_is_left_is_said(
    run: Callable[..., Any], shop: Any, monkeypatch: pytest.MonkeyPatch, changes: Any, code: int, said: str
) -> None:
    del shop

    class Client:
        def send(self, *_: Any) -> dict[str, Any]:
            return {**ANSWER, **changes}

    monkeypatch.setattr(privacy, "open_client", Client)
    done = run("erase", "--phone", "9800000041", "--yes")
    assert done.code == code
    assert said in done.out
