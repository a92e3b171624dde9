"""What all commands share: help, usage errors, and failures that are told in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from app.cli import COMMANDS, run_command

ROOT = Path(__file__).parents[2]


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
    assert "..." not in done.out.partition("\n")[2], "no sentence is cut"
    assert "Send deliveries again as they are.\n" in done.out


def test_help_speaks_of_files_and_numbers_and_of_no_type_in_python(run: Callable[..., Any]) -> None:
    for name in COMMANDS:
        assert not re.search(r"<(str|int|list|path|bool)|int range", run(name, "--help").out), name


def test_help_loads_no_command() -> None:
    code = "import sys; from app.cli import run_command; run_command(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert not {*done.stdout.split()} & {*COMMANDS.values(), "rich", "fastapi", "pydantic"}


def test_the_version_is_told(run: Callable[..., Any]) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"nector-relay {version('nector-relay')}\n")


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
        (("route",), "Missing argument 'EVENT.json|ID'"),
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


@pytest.mark.parametrize("name", ["schema", "route"])
def test_only_the_module_of_the_command_is_loaded(name: str) -> None:
    code = f"import sys; from app.cli import run_command; run_command([{name!r}, '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert {*done.stdout.split()} & {*COMMANDS.values()} == {COMMANDS[name]}


def test_python_m_app_is_the_same_command(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "schema"], cwd=Path(__file__).parents[2], capture_output=True, check=True
    )
    assert done.stdout.decode() == (folder / "config/relay.schema.json").read_text()


def break_schema(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr("app.cli.files.build_schema", fail)


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


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("schema",)])
def test_a_reader_that_has_gone_before_the_first_line_is_141_without_a_word(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "app", *arguments], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_reader_that_goes_away_ends_the_command_quietly(folder: Path) -> None:
    command = f"{Path(sys.executable).with_name('nector-relay')} schema | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=folder, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"{", b"")


@pytest.mark.parametrize("arguments", [("check", "config/relay.yaml"), ("--help",), ("check", "--help")])
def test_a_reader_that_is_gone_already_ends_it_as_its_signal_would(folder: Path, arguments: tuple[str, ...]) -> None:
    """What is written only at the end, too: 141 is what a shell says of SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [str(Path(sys.executable).with_name("nector-relay")), *arguments]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(command, cwd=folder, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith(b"note: ")]) == (141, [])


# -- completion ------------------------------------------------------------------------------------


@pytest.fixture
def complete(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return a function that says what bash is offered behind a line."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        monkeypatch.setenv("_NECTOR_RELAY_COMPLETE", "complete_bash")
        done = run()
        assert (done.code, done.err) == (0, "")
        return list(done.out.split())

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nector-relay pre", ["preview"]),
        ("nector-relay check --li", ["--live"]),
        ("nector-relay deliveries --state d", ["dead"]),
        ("nector-relay deliveries --route coupon", ["coupon-ready", "coupon-unused"]),
        ("nector-relay preview coins-e", ["coins-earned", "coins-expiring"]),
        ("nector-relay deliveries --provider ", ["bitespeed", "gallabox"]),
        ("nector-relay examples capture coupon_c", ["coupon_create"]),
        ("nector-relay hold provider:g", ["provider:gallabox"]),
        (
            "nector-relay hold template:gallabox/coins_e",
            ["template:gallabox/coins_earned", "template:gallabox/coins_expiring"],
        ),
        ("nector-relay preview nothing", []),
    ],
)
def test_a_shell_completes_commands_options_and_names_of_the_yaml(
    complete: Callable[[str], list[str]], line: str, offered: list[str]
) -> None:
    assert complete(line) == offered


def test_a_yaml_that_cannot_be_read_offers_nothing(complete: Callable[[str], list[str]], folder: Path) -> None:
    (folder / "config/relay.yaml").write_text("routes: [")
    assert complete("nector-relay preview co") == []


def test_a_command_needs_no_arguments_of_the_process() -> None:
    assert run_command(["--help"]) == 0
