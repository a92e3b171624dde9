"""`--json`: every command that prints says the same to programs, in one stable shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import COMMANDS
from tests.cli.test_backup import outbox
from tests.cli.test_templates import live

__all__ = ["live", "outbox"]  # fixtures

WITHOUT = {
    "serve": "goes on; its lines are JSON already",
    "sandbox": "goes on; GET /sandbox/messages",
    "schema": "is JSON",
    "echo": "prints YAML, which is what is asked for",
    "export": "is JSON",
}


def read(run: Callable[..., Any], *arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.code == code, done.text
    return json.loads(done.out)


def test_every_command_has_it_but_those_that_need_none(run: Callable[..., Any]) -> None:
    assert {name for name in COMMANDS if "--json" not in run(name, "--help").out} == set(WITHOUT)


def test_a_preview(run: Callable[..., Any], folder: Path) -> None:
    (route,) = read(run, "preview", "coins-earned")["routes"]
    assert {name: route[name] for name in ("route", "provider", "template")} == {
        "route": "coins-earned", "provider": "gallabox", "template": "coins_earned",
    }  # fmt: skip
    first = route["messages"][0]
    assert (first["sent"], first["to"], first["variables"]) == (True, "+919800000001", ["Riya", "1,250"])
    assert "Hi Riya, you just earned 1,250 coins." in " ".join(first["text"].replace("│", "").split())
    (folder / "event.json").write_text('{"topic": "walletreward_create", "payload": {"user_mobile": "1"}}')
    (route,) = read(run, "preview", "--event", "event.json", code=1)["routes"]
    (message,) = route["messages"]
    assert (message["sent"], message["text"]) == (False, None)
    assert message["fault"].startswith("recipient_invalid")


def test_pulled_templates(run: Callable[..., Any], live: Path) -> None:
    del live
    told = read(run, "templates", "pull")
    assert (told["file"], told["faults"], told["cannot"]) == ("config/templates.yaml", [], ["bitespeed"])
    (pulled,) = told["pulled"]
    assert pulled == {
        "provider": "gallabox", "templates": pulled["templates"], "new": [], "changed": [], "gone": [], "left_out": [],
    }  # fmt: skip
    assert pulled["templates"] > 5


def test_recorded_examples(run: Callable[..., Any], shop: Any) -> None:
    shop.post({"user_name": "Riya", "user_mobile": shop.new_number(), "amount": "50"})
    topics = {row["topic"]: row for row in read(run, "examples", "list")["topics"]}
    assert {"topic", "events", "newest", "properties"} == topics["walletreward_create"].keys()
    assert "user_mobile" in topics["walletreward_create"]["properties"]
    captured = read(run, "examples", "capture", "walletreward_create", "--route", "coins-earned")
    assert captured.keys() == {"topic", "at", "event", "examples"}
    assert captured["examples"]["coins-earned"].lstrip().startswith("- event:")
    pulled = read(run, "examples", "pull")
    assert pulled == {"file": "config/recorded.json", "events": pulled["events"], "topics": len(topics)}


def test_a_capture(run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_NECTOR_SECRETS", "invented")
    hashed = hashlib.sha256(b"invented").hexdigest()
    (folder / "capture.txt").write_text(f"x-nector-webhook-secret: {hashed}\n\n{{}}")
    assert read(run, "verify-capture", "capture.txt", code=1) == {
        "secret": "x-nector-webhook-secret: holds (the hex SHA-256 of the secret)",
        "hmac": "x-nector-webhook-hmac: is not there; write",
        "explained": False,
        "settings": {"RELAY_NECTOR_HMAC": "off"},
    }


def test_a_backup(run: Callable[..., Any], outbox: Path) -> None:
    del outbox
    told = read(run, "backup", "copy.db")
    assert told == {"file": "copy.db", "events": 0, "deliveries": 0, "bytes": told["bytes"]}


def test_what_changes_the_relay(run: Callable[..., Any], shop: Any) -> None:
    assert read(run, "hold", "route:coins-earned")["scope"] == "route:coins-earned"
    assert read(run, "release", "route:coins-earned") == {"scope": "route:coins-earned", "released": True}
    assert read(run, "retry", "nothing", code=1) == {
        "retried": [], "skipped": {"not_found": 1}, "why": {"nothing": "not_found"},
    }  # fmt: skip
    assert read(run, "erase", "--phone", shop.new_number(), "--yes")["deliveries"] == 0
