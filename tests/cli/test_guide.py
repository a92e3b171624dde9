"""The commands of the mapping guide and of the README's "Add a route", each as it stands there, against the sandbox."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COUPON = {"user_name": "Riya", "value": "ACME-7Q2P", "fiat_value": 200, "expire": "2030-12-31"}
# What is left out, and where it is tried: the rest of a page's commands run here.
ELSEWHERE = {
    "cp .env.example .env": "no command of ours; the fixture sets the same values",
}


def list_commands() -> Iterator[str]:
    guide = (ROOT / "docs/mapping-guide.md").read_text()
    for block in re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        yield from (line.partition("  #")[0].strip() for line in block.splitlines())
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Add a route\n")[2].partition("\n## ")[0]
    yield from re.findall(r"`(nector-relay [^`]+)`", section)


COMMANDS = list(dict.fromkeys(list_commands()))


@pytest.fixture
def user(shop: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, serving_environment: Any) -> Path:
    """A folder with a route of the user's own, an event of theirs, and a relay that has seen a coupon."""
    monkeypatch.delenv("CI", raising=False)  # the pages speak to a person, who has golden files written
    for name, value in serving_environment.items():
        monkeypatch.setenv(name, value)
    for name, value in (("GALLABOX_BASE_URL", shop.sandbox_url), ("RELAY_URL", shop.url)):
        monkeypatch.setenv(name, value)
    event = {**COUPON, "user_mobile": shop.new_number()}
    (folder / "event.json").write_text(json.dumps(event))
    shop.post(event, "coupon_create")
    ends_at = time.monotonic() + 10
    while "coupon_create" not in shop.call("GET", "/examples").text and time.monotonic() < ends_at:
        time.sleep(0.05)
    return folder


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ELSEWHERE])
def test_a_command_of_the_page_does_what_it_says(command: str, run: Callable[..., Any]) -> None:
    filled = (
        command.replace("my-route", "coins-earned").replace("NUMBER", "+919800000099").replace("TOPIC", "coupon_create")
    )
    done = run(*shlex.split(filled)[1:])
    told = [line for line in done.err.splitlines() if not line.startswith("note: ")]  # which `check` says of examples
    assert (done.code, told) == (0, []), done.text
    assert done.out


def test_the_pages_hold_commands_of_every_step() -> None:
    said = " ".join(COMMANDS)
    steps = (
        "check",
        "route",
        "preview",
        "templates pull",
        "examples capture",
        "send-test",
        "--golden",
        "--format github",
    )
    assert [step for step in steps if step not in said] == []
    assert set(ELSEWHERE) <= set(COMMANDS)
