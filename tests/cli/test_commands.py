"""What all commands share: help, usage errors, and failures that are told in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import commands, run_command
from app.cli.commands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_says_what_a_command_does_and_explains_every_option(
    run: Callable[..., Any], name: str, option: str
) -> None:
    done = run(name, option)
    assert (done.code, done.err) == (0, "")
    usage, _, about, *rest = done.out.splitlines()
    assert usage.startswith(f"Usage: nector-relay {name} ")
    assert len(about.split()) >= 4
    options = re.split(r"\n  (?=-)", "\n".join(rest).partition("Options:")[2])[1:]
    assert all(len(re.split(r" {2,}|\n", option.strip())) >= 2 for option in options), options


def test_help_lists_every_command(run: Callable[..., Any]) -> None:
    done = run("--help")
    assert done.code == 0
    assert all(f"\n  {name} " in done.out for name in COMMANDS)


def test_without_a_command_the_help_is_shown(run: Callable[..., Any]) -> None:
    done = run()
    assert done.code == 2
    assert "Usage: nector-relay [OPTIONS] COMMAND" in done.text
    assert "deliveries" in done.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("chek",), "No such command 'chek'. Did you mean 'check'"),
        (("deliverys",), "Did you mean 'deliveries'"),
        (("serve", "--prot", "1"), "No such option: --prot"),
        (("serve", "--port", "x"), "Invalid value for '--port'"),
        (("serve", "--port", "70000"), "Invalid value for '--port'"),
        (("route",), "Missing argument 'EVENT.json'"),
        (("explain",), "Missing argument 'ID'"),
        (("deliveries", "--state", "lost"), "is not one of 'pending', 'held'"),
        (("deliveries", "--limit", "0"), "Invalid value for '--limit'"),
        (("retry", "--state", "accepted"), "is not one of 'dead', 'unknown', 'expired'"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what(
    run: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("name", ["check", "route", "schema", "serve", "explain"])
def test_only_the_module_of_the_command_is_loaded(name: str) -> None:
    assert [command.name for command in commands.build_commands([name]).registered_commands] == [name]


def test_python_m_app_is_the_same_command(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "schema"], cwd=Path(__file__).parents[2], capture_output=True, check=True
    )
    assert done.stdout.decode() == (folder / "config/relay.schema.json").read_text()


def break_schema(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr("app.cli.mapping.schema.build_schema", fail)


def test_a_fault_of_ours_is_70_with_its_place_and_none_of_its_text(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_schema(monkeypatch, ValueError("canary +919800000001"))
    done = run("schema")
    assert (done.code, done.out) == (70, "")
    assert done.err.startswith("nector-relay: unexpected failure: ValueError at test_commands.py:")
    assert "canary" not in done.err


def test_an_interrupted_command_is_130(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    break_schema(monkeypatch, KeyboardInterrupt())
    assert run("schema").code == 130


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's own")  # noqa: PTH110  # at collection
def test_a_full_disk_under_the_output_is_told_in_one_line(folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("nector-relay")), "schema"],
            cwd=folder, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.decode() == "nector-relay: No space left on device\n"


def test_a_reader_that_goes_away_ends_the_command_quietly(folder: Path) -> None:
    command = f"{Path(sys.executable).with_name('nector-relay')} schema | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=folder, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_command_needs_no_arguments_of_the_process() -> None:
    assert run_command(["--help"]) == 0
