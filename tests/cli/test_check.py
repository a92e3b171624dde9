"""`nector-relay check`: its exit codes, lines and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LINE = re.compile(r"^[^:\n]+:\d+:\d+: (error|warning): .+$")


def test_the_bundled_file_without_an_environment_has_warnings_only(run: Callable[..., Any]) -> None:
    done = run("check")
    assert done.code == 0
    *lines, summary = done.out.splitlines()
    assert lines
    assert all(LINE.match(line) and ": warning: the environment variable " in line for line in lines)
    assert re.fullmatch(r"config/relay\.yaml: 11 routes, (\d+) of \1 examples right, 0 errors, 6 warnings", summary)
    readings = ("as one of IN (`store.country`)", "as one of IN (`customer.country`)", "by its own code")
    assert done.err.splitlines() == [
        f"note: each number was read {', or '.join(readings)}",
        "note: valid_until (`expire`) is a whole day: until 24:00 in Asia/Kolkata",
    ]


def test_strict_makes_warnings_fail(run: Callable[..., Any]) -> None:
    assert run("check", "--strict").code == 1


def test_strict_without_a_warning_is_0(
    run: Callable[..., Any], serving_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in serving_environment.items():
        monkeypatch.setenv(name, value)
    done = run("check", "--strict")
    assert (done.code, len(done.out.splitlines())) == (0, 1)


def test_every_error_is_told_at_once_each_at_its_line(run: Callable[..., Any], edit: Callable[..., Path]) -> None:
    edit("template: coins_earned", "temlate: coins_earned")
    edit("event: coupon_create", "event: 7")
    edit("provider: bitespeed", "provider: bitespede")
    done = run("check")
    assert done.code == 1
    errors = [line for line in done.out.splitlines() if ": error: " in line]
    assert [re.match(r"config/relay\.yaml:(\d+):\d+: ", line) is not None for line in errors] == [True] * len(errors)
    assert len({line.split(":")[1] for line in errors}) >= 3
    assert 'did you mean "template"?' in done.out
    assert 'did you mean "bitespeed"?' in done.out
    assert done.out.splitlines()[-1].endswith("nothing was run")


def test_an_example_that_fails_shows_the_difference_at_its_line(
    run: Callable[..., Any], edit: Callable[..., Path]
) -> None:
    path = edit("variables: [Kabir, ACME-9K4M, 30 Nov]", "variables: [Kabir, ACME-9K4M, 31 Nov]")
    done = run("check")
    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if ": error: " in line]
    number = int(line.split(":")[1])
    assert "- event:" in path.read_text().splitlines()[number - 1]
    assert 'should be ["Kabir", "ACME-9K4M", "31 Nov"], and are ["Kabir", "ACME-9K4M", "30 Nov"]' in line
    assert "16 of 17 examples right, 1 error," in done.out


def test_json_holds_what_the_lines_say(run: Callable[..., Any], edit: Callable[..., Path]) -> None:
    edit("variables: [Kabir, ACME-9K4M, 30 Nov]", "variables: [Kabir, ACME-9K4M, 31 Nov]")
    done = run("check", "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert set(told) == {"problems", "examples"}
    assert told["examples"] == {"passed": 16, "failed": 1}
    assert {tuple(sorted(row)) for row in told["problems"]} == {
        ("column", "file", "hint", "line", "message", "severity")
    }
    lines = run("check").out.splitlines()[:-1]
    assert [f"{row['file']}:{row['line']}:{row['column']}: {row['severity']}: " for row in told["problems"]] == [
        re.match(r"[^ ]+ \w+: ", line)[0]  # type: ignore[index]  # every line has this form
        for line in lines
    ]


def test_a_path_wins_over_relay_config(run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_CONFIG", "config/relay.yaml")
    (folder / "other.yaml").write_text("version: 1\n")
    assert run("check", "other.yaml").out.startswith("other.yaml:")
    monkeypatch.setenv("RELAY_CONFIG_YAML", "version: 2\n")
    assert run("check", "other.yaml").out.startswith("other.yaml:")
    assert run("check").out.startswith("RELAY_CONFIG_YAML:1:")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.yaml", None, "cannot be read (No such file or directory)"),
        (".", None, "cannot be read (Is a directory)"),
        ("latin.yaml", "name: é".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_1_and_says_why(
    run: Callable[..., Any], folder: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    done = run("check", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"nector-relay: {name}: {said}")


@pytest.mark.parametrize(
    "text", ["", "\t", "- a", "version: 1", "a: &x 1\nb: *x", "{", "version: 1\nversion: 1", "\x00"]
)
def test_no_text_makes_it_stumble(run: Callable[..., Any], folder: Path, text: str) -> None:
    (folder / "odd.yaml").write_text(text)
    done = run("check", "odd.yaml")
    assert done.code == 1
    assert all(LINE.match(line) for line in done.out.splitlines()[:-1])


def test_a_literal_secret_is_an_error_that_does_not_tell_it(run: Callable[..., Any], edit: Callable[..., Path]) -> None:
    edit("api_key: ${GALLABOX_API_KEY}", "api_key: sk-canary-1")
    done = run("check")
    assert done.code == 1
    assert ': error: "api_key": a secret must come from the environment' in done.out
    assert "sk-canary-1" not in done.text


def test_a_fault_of_the_templates_is_told_at_its_own_file(run: Callable[..., Any], folder: Path) -> None:
    path = folder / "config/templates.yaml"
    path.write_text(path.read_text().replace("    body:", "    bodi:", 1))
    done = run("check")
    assert done.code == 1
    assert re.search(r"^config/templates\.yaml:\d+:\d+: error: .*bodi", done.out, re.MULTILINE)
    assert 'did you mean "body"?' in done.out


def test_a_templates_file_that_is_no_text_is_told(run: Callable[..., Any], folder: Path) -> None:
    (folder / "config/templates.yaml").write_bytes(b"\xff\xfe")
    done = run("check")
    assert done.code == 1
    assert "config/templates.yaml: is not UTF-8 text" in done.err


def test_without_templates_an_example_with_a_text_says_that_it_cannot_be_compared(
    run: Callable[..., Any], folder: Path
) -> None:
    (folder / "config/templates.yaml").unlink()
    done = run("check")
    assert done.code == 1
    assert 'template "coins_earned" is not in templates.yaml' in done.out


def test_github_gets_an_annotation_for_each_line(run: Callable[..., Any], edit: Callable[..., Path]) -> None:
    path = edit("template: coins_earned", "temlate: 100%")
    line = path.read_text().split("temlate")[0].count("\n") + 1
    done = run("check", "--format", "github")
    assert done.code == 1
    told = 'unknown key "temlate" in route "coins-earned"; did you mean "template"?'
    assert f"::error file=config/relay.yaml,line={line},col=5::{told}" in done.out.splitlines()
    assert "::warning file=config/relay.yaml,line=26,col=17::the environment variable" in done.out


def test_a_route_that_no_example_tries_is_named(run: Callable[..., Any], folder: Path) -> None:
    path = folder / "config/relay.yaml"
    path.write_text(
        path.read_text() + "  mine: {event: lead_create, template: review_thanks, variables: [user_name]}\n"
    )
    line = path.read_text().count("\n")
    cure = "add one below `examples:`; `nector-relay examples` writes them"
    done = run("check")
    assert (done.code, done.out.endswith(" 0 errors, 7 warnings\n")) == (0, True)
    assert f'config/relay.yaml:{line}:3: warning: no example tries route "mine"; {cure}\n' in done.out
    assert run("check", "--strict").code == 1


ABROAD = """\
version: 1
store: {day_ends: "22:00"}
providers:
  gallabox: {type: gallabox, channel_id: "${C}", api_key: "${K}", api_secret: "${S}"}
routes:
  mine:
    event: order_create
    provider: gallabox
    template: t
    valid_until: expire
    variables: [total | money]
    examples:
      - event: {mobile: 917-555-0143, total: 5, currency: USD, expire: 2026-12-31, default_address: {country_code: US}}
        sends: {to: "+19175550143", variables: [₹5]}
"""


def test_what_was_made_of_an_example_is_told(run: Callable[..., Any], folder: Path) -> None:
    (folder / "abroad.yaml").write_text(ABROAD)
    done = run("check", "abroad.yaml")
    assert done.err.splitlines() == [
        "note: each number was read as one of US (`default_address.country_code`)",
        "note: valid_until (`expire`) is a whole day: until 22:00 in Asia/Kolkata",
    ]
    assert 'abroad.yaml:13:9: warning: example 1 of route "mine": variable 1 shows INR' in done.out
    assert "1 of 1 example right" in done.out


# -- colours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({}, False)]
)
def test_how_bad_a_problem_is_has_its_colour_on_a_terminal_only(
    run: Callable[..., Any],
    edit: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    coloured: bool,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    edit("template: coins_earned\n", "templat: coins_earned\n")
    out = run("check").out
    assert ("\x1b[31merror\x1b[0m: " in out) is coloured
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", out) is not None or not coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert re.search(r"^config/relay\.yaml:\d+:\d+: error: .*\"templat\"", plain, re.MULTILINE)
    assert "\x1b" not in out or given


def test_of_very_many_problems_50_are_told_errors_first_and_how_many_more(
    run: Callable[..., Any], folder: Path
) -> None:
    unset = "\n".join(f"  a{number}: ${{NOBODY_SETS_{number}}}" for number in range(30))
    unknown = "\n".join(f"k{number}: 1" for number in range(300))
    (folder / "many.yaml").write_text(f"version: 1\nstore:\n{unset}\n{unknown}\n")
    lines = run("check", "many.yaml").out.splitlines()
    assert len(lines) == 52
    assert all(": error: " in line for line in lines[:50])
    more = int(lines[50].removeprefix("and ").removesuffix(" more"))
    assert 280 < more < 400
    told = json.loads(run("check", "many.yaml", "--json").out)
    assert (len(told["problems"]), told["more"]) == (50, more)
    github = run("check", "many.yaml", "--format", "github").out.splitlines()
    assert (len(github), github[50]) == (52, f"::warning file=many.yaml::and {more} more")
    refused = run("preview", "--config", "many.yaml")
    assert re.search(r"\nand [0-9]+ more\n?$", refused.err)
