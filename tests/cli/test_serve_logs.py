"""What `serve` prints while much happens: every line in one form, each step with its ids, nothing of a customer."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.conftest import Program, make_folder
from tests.faults.fault_server import find_closed_port

NAME, COUPON = "Canaria", "CANARY-7Q2P"
COINS = {"user_name": NAME, "amount": "100", "value": COUPON}
NUMBERS = ("9800000081", "9800000082", "9800000083")
SECRETS = ("sandbox-nector-secret", "sandbox-admin-token", "sandbox-api-key", "sandbox-api-secret")
UVICORNS = {"Started server process", "Shutting down", "Finished server process"}
IDS = {
    "event.received": {"event_id", "deliveries", "routes", "providers", "recipients", "accept_ms"},
    "delivery.attempted": {"event_id", "delivery_id", "route", "provider", "recipient", "send_ms", "age_ms"},
    "receipt.received": {"event_id", "delivery_id", "route", "provider", "recipient", "status", "age_ms"},
}


@dataclass(frozen=True)
class Played:
    """A relay that has lived: all that it printed."""

    out: str
    err: str


@pytest.fixture(scope="module")
def play(
    tmp_path_factory: pytest.TempPathFactory,
    start_program: Callable[..., AbstractContextManager[Program]],
    serving_environment: Mapping[str, str],
    post_event: Callable[..., httpx2.Response],
) -> Callable[[str], Played]:
    """Return a function that runs a relay through a story at level debug, in a form of the log."""
    kept: dict[str, Played] = {}

    def run(style: str) -> Played:
        if style not in kept:
            kept[style] = tell(style)
        return kept[style]

    def tell(style: str) -> Played:
        here = make_folder(tmp_path_factory.mktemp(style) / "here")
        port = find_closed_port()
        url = f"http://127.0.0.1:{port}"
        options = ("--port", "0", "--relay-url", url)
        with start_program("sandbox", *options, folder=here, environment=serving_environment) as sandbox:
            at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
            given = {
                **serving_environment,
                "GALLABOX_BASE_URL": at,
                "BITESPEED_BASE_URL": f"{at}/bitespeed",
                "RELAY_LOG_FORMAT": style,
                "RELAY_LOG_LEVEL": "debug",
            }
            arguments = ("serve", "--host", "127.0.0.1", "--port", str(port))
            with start_program(*arguments, folder=here, environment=given) as program:
                program.wait_for(r"relay\.listening")
                live(program, url, at, here, post_event)
                assert program.stop() == 0
                return Played(program.out, program.err)

    return run


def live(program: Program, url: str, sandbox_url: str, folder: Path, post: Callable[..., httpx2.Response]) -> None:
    """Send what is right and wrong, let sends fail, reload a broken YAML, and wait until all of it is told."""
    topic = "walletreward_create"
    post(url, topic, {**COINS, "user_mobile": NUMBERS[0]}, **{"x-nector-delivery-id": "n-1"})
    post(url, topic, {**COINS, "user_mobile": NUMBERS[0]}, **{"x-nector-delivery-id": "n-1"})
    program.wait_for(r"receipt\.received[^\n]*read")
    post(url, topic, {**COINS, "user_mobile": f"{NUMBERS[1]}9"})
    post(url, f"topic {NUMBERS[1]}", {**COINS, "user_mobile": NUMBERS[1]})
    post(url, topic, f'{{"user_name": "{NAME}", "user_mobile": "{NUMBERS[1]}"'.encode())
    post(url, topic, b"x" * 70_000)
    fault = {"fault": "status", "status": 400, "body": json.dumps({"message": f"{NAME} +91{NUMBERS[1]}"})}
    assert httpx2.put(f"{sandbox_url}/sandbox/faults", json={"gallabox": fault}, trust_env=False).is_success
    post(url, topic, {**COINS, "user_mobile": NUMBERS[1]})
    program.wait_for(r"delivery\.attempted[^\n]*rejected")
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as raw:
        raw.sendall(f"NONSENSE {NAME} {NUMBERS[2]}\r\n\r\n".encode())
        raw.recv(1000)
    httpx2.get(f"{url}/deliveries?route={NUMBERS[2]}", trust_env=False)
    (folder / "config/relay.yaml").write_text(f"version: 1\nroutes: {NAME}\n")
    program.tell(signal.SIGHUP)
    program.wait_for(r"config\.refused")
    time.sleep(0.1)


# -- reading it back -------------------------------------------------------------------------------


def read_json(line: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line)
    assert list(fields)[:3] == ["at", "level", "event"]
    return fields


CONSOLE = re.compile(r"(?P<at>\d{4}-\d\d-\d\dT[\d:.]+Z) \[(?P<level>\w+) *\] (?P<event>.*?)(?= +\w+=|$)(?P<rest>.*)")


def read_console(line: str) -> dict[str, Any]:
    """Return the fields of a line for people; their values as text."""
    found = CONSOLE.fullmatch(line)
    assert found is not None, line
    rest = dict(part.partition("=")[::2] for part in shlex.split(found["rest"], posix=False) if "=" in part)
    return {"at": found["at"], "level": found["level"], "event": found["event"].strip(), **rest}


READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {"json": read_json, "console": read_console}


@pytest.fixture(params=sorted(READERS))
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def played(play: Callable[[str], Played], style: str) -> Played:
    return play(style)


@pytest.fixture
def lines(played: Played, style: str) -> list[dict[str, Any]]:
    return [READERS[style](line) for line in played.out.splitlines()]


def test_every_line_has_the_one_form_the_servers_own_included(lines: list[dict[str, Any]], played: Played) -> None:
    assert played.err == ""
    events = [re.sub(r" \[\d+\]$", "", line["event"]) for line in lines]
    assert set(events) >= UVICORNS
    assert {"relay.started", "config.refused", "event.refused", "relay.stopped"} <= set(events)
    assert all(line["level"] in {"debug", "info", "warning", "error", "critical"} for line in lines)


@pytest.mark.parametrize("step", IDS)
def test_a_line_of_a_step_has_its_ids(lines: list[dict[str, Any]], step: str) -> None:
    told = [line for line in lines if line["event"] == step]
    assert told
    assert [line for line in told if not IDS[step] <= set(line)] == []


def test_one_event_can_be_followed_through_its_lines(play: Callable[[str], Played]) -> None:
    lines = [read_json(line) for line in play("json").out.splitlines()]
    first = next(line for line in lines if line["event"] == "event.received")
    (id_,) = first["deliveries"]
    assert first["recipients"] == ["+91******0081"]
    assert (first["routes"], first["providers"]) == (["coins-earned"], ["gallabox"])
    attempt = next(line for line in lines if line.get("delivery_id") == id_)
    assert attempt["event_id"] == first["event_id"]
    assert attempt["recipient"] == "+91******0081"
    assert 0 <= attempt["send_ms"] <= attempt["age_ms"] + 5
    assert 0 <= first["accept_ms"] < 20_000
    receipts = [line for line in lines if line["event"] == "receipt.received" and line["delivery_id"] == id_]
    assert {line["status"] for line in receipts} >= {"delivered", "read"}
    assert {(line["event_id"], line["recipient"]) for line in receipts} == {(first["event_id"], "+91******0081")}
    assert all(line["age_ms"] >= 0 for line in receipts)


def test_nothing_of_a_customer_and_no_secret_is_printed_at_any_level(played: Played) -> None:
    assert find_leaks(played.out) == []


def find_leaks(text: str) -> list[str]:
    return [word for word in (NAME, COUPON, *NUMBERS, *SECRETS) if word.lower() in text.lower()]


def test_a_leak_would_be_found(play: Callable[[str], Played]) -> None:
    """The control."""
    assert find_leaks(play("json").out + f"to +91{NUMBERS[1]}: {NAME.upper()}") == [NAME, NUMBERS[1]]
