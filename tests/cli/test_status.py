"""`nector-relay status`: one screen, and an exit code that a script can go by."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from app.cli import status as command
from app.delivery.status import LaneStatus, Status, list_needs
from tests.delivery.test_status import AT, DOWN, build, refuse, stop

WATCHED = 3
SCREEN = (80, 24)  # what a terminal has at least


def show(status: Status, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Return the exit code and the lines that a terminal of 80 columns shows."""
    out = StringIO()
    monkeypatch.setattr(
        command, "open_console", lambda: Console(file=out, width=80, force_terminal=True, color_system=None)
    )
    client: Any = type("Client", (), {"get": lambda _self, _path: status.model_dump()})()
    return command._show(client, as_json=False), out.getvalue().splitlines()


def test_a_relay_that_is_well_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {"accepted": 1_000, "reported": 998, "last_receipt_at": AT}
    lanes = [LaneStatus(provider=name, state="up", rate="16/s", **told) for name in ("gallabox", "bitespeed")]
    code, lines = show(build(lanes=lanes), monkeypatch)
    assert code == 0
    assert len(lines) < SCREEN[1]
    assert [line for line in lines if len(line) > SCREEN[0]] == []
    assert "nothing needs a person" in lines[-1]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (build(lanes=[DOWN]), ["gallabox", "down for", "8 waiting"]),
        (stop("credentials_refused"), ["provider:g: credentials_refused", "no end", "2 waiting"]),
        (refuse("webhook", "other"), ["3 webhook other", "mend it"]),
    ],
)
def test_what_needs_a_person_is_on_it_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, status: Status, said: list[str]
) -> None:
    needy = status.model_copy(update={"needs": list(list_needs(status))})
    code, lines = show(needy, monkeypatch)
    assert code == 1
    text = "\n".join(lines).replace("\ng ", "\ngallabox ")
    assert all(each in text for each in said)
    assert "needs you" in text


def test_json_is_the_answer_of_the_ops_api(run: Callable[..., Any], shop: Any) -> None:
    shop.post({"user_name": "Riya", "user_mobile": shop.new_number(), "amount": "5"})
    done = run("status", "--json")
    told = Status.model_validate(json.loads(done.out))
    assert (done.code, done.err) == (1 if told.needs else 0, "")
    assert told.last_event is not None


def test_it_is_watched_until_ctrl_c(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Client:
        def get(self, path: str) -> dict[str, Any]:
            asked.append(path)
            if len(asked) > WATCHED:
                raise KeyboardInterrupt
            return build().model_dump()

    monkeypatch.setattr(command, "open_client", Client)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    done = run("status", "--watch")
    assert (done.code, done.out.count("nothing needs a person")) == (130, WATCHED)
    asked.clear()
    assert [json.loads(line)["needs"] for line in run("status", "--watch", "--json").out.splitlines()] == [[]] * WATCHED


def test_where_no_relay_answers_it_exits_69(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RELAY_ADMIN_TOKEN", "token")
    done = run("status")
    assert (done.code, done.out) == (69, "")
    assert "no relay answers at http://127.0.0.1:9" in done.err
