"""`nector-relay sandbox`: the fake providers as a command."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.cli.demo import read_templates
from app.sandbox.app import FollowedTemplates

MESSAGE = {
    "channelId": "sandbox-channel",
    "channelType": "whatsapp",
    "recipient": {"name": "Riya", "phone": "919800000001"},
    "whatsapp": {
        "type": "template",
        "template": {"templateName": "review_thanks", "bodyValues": {"name": "Riya"}},
    },
}
BUBBLE = "╭─\n│ Thank you for your review, Riya! We read every\n│ one of them. 💛\n╰─\n"
KEYS = {"apikey": "sandbox-key", "apisecret": "sandbox-secret"}


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_what_it_takes_as_a_customer_sees_it_and_ends_with_0(
    folder: Path, start_program: Callable[..., Any], serving_environment: dict[str, str], told: signal.Signals
) -> None:
    options = ("--port", "0", "--relay-url", "")
    with start_program("sandbox", *options, folder=folder, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (http://127\.0\.0\.1:\d+)\n")[1]
        assert sandbox.out.startswith("the sandbox knows 11 templates; receipts go to nowhere\n")
        answer = httpx2.post(f"{at}/devapi/messages/whatsapp", json=MESSAGE, headers=KEYS, trust_env=False)
        assert answer.status_code == 202
        assert sandbox.wait_for("gallabox → \\+919800000001  review_thanks\n")
        assert BUBBLE in sandbox.out
        assert sandbox.stop(told) == 0
        assert sandbox.err == ""


def test_another_key_than_the_relays_is_refused(
    folder: Path, start_program: Callable[..., Any], serving_environment: dict[str, str]
) -> None:
    with start_program("sandbox", "--port", "0", folder=folder, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        keys = {**KEYS, "apikey": "another"}
        answer = httpx2.post(f"{at}/devapi/messages/whatsapp", json=MESSAGE, headers=keys, trust_env=False)
        assert answer.status_code in {401, 403}


def test_a_fault_from_the_start_is_met(
    folder: Path, start_program: Callable[..., Any], serving_environment: dict[str, str]
) -> None:
    options = ("--port", "0", "--relay-url", "", "--fault", "gallabox=503:1")
    with start_program("sandbox", *options, folder=folder, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        answers = [
            httpx2.post(f"{at}/devapi/messages/whatsapp", json=MESSAGE, headers=KEYS, trust_env=False).status_code
            for _ in range(2)
        ]
        assert answers == [503, 202]


@pytest.mark.parametrize("fault", ["gallabox=bang", "shop=500", "gallabox", "gallabox=500:x", "gallabox=700"])
def test_a_fault_that_nobody_knows_is_1_and_says_which_there_are(run: Callable[..., Any], fault: str) -> None:
    done = run("sandbox", "--port", "0", "--fault", fault)
    assert done.code == 1
    assert f'"{fault}" is not understood; write gallabox=503 or bitespeed=hang:2' in done.err


def test_a_taken_port_is_1_and_says_what_to_do(run: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("sandbox", "--port", str(port))
    assert done.code == 1
    said = f"the sandbox cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port"
    assert done.err == f"nector-relay: {said}\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory); name another with --templates"),
        (b"\xff", "is not UTF-8 text"),
        (b"version: 1\ntemplates: {gallabox: {a: {bodi: x}}}\n", "cannot be used:\nodd.yaml:2:"),
    ],
)
def test_templates_that_cannot_be_used_are_1(
    run: Callable[..., Any], folder: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (folder / "odd.yaml").write_bytes(content)
    done = run("sandbox", "--port", "0", "--templates", "odd.yaml")
    assert (done.code, done.out) == (1, "")
    assert f"nector-relay: odd.yaml: {said}".replace(": cannot be used", " cannot be used") in done.err


def test_templates_that_change_are_read_again_and_what_cannot_be_used_changes_nothing(folder: Path) -> None:
    path, told = folder / "config/templates.yaml", list[str]()
    texts = FollowedTemplates(path, read_templates, told.append)
    assert len(texts) == 11
    assert ("gallabox", "new_one") not in texts
    written = path.read_text()
    path.write_text(written.replace("    coins_earned:", "    new_one: {body: Hello.}\n    coins_earned:", 1))
    assert texts["gallabox", "new_one"].body == "Hello."
    assert told == [f"read {path} again: 12 templates"]
    path.write_text("templates: []\n")
    assert len(texts) == len(list(texts)) == 12
    assert told[1].endswith("the texts of before stay in use")
    path.unlink()
    assert ("gallabox", "new_one") in texts
    assert len(told) == 3
