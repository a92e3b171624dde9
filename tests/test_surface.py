"""What others hold on to changes only by a line in a commit: `python -m tests.surface` writes it anew."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.outside import ROOT
from tests.surface import PATH, find_log_events, show_surface

CONTRACT = (ROOT / "docs/contract.md").read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_surface_is_what_was_written_down() -> None:
    assert json.loads(show_surface()) == json.loads(PATH.read_text())


def test_no_name_of_a_log_line_is_worked_out() -> None:
    assert [event for event in json.loads(PATH.read_text())["log_events"] if event.startswith("<")] == []


def test_control_a_log_line_and_a_metric_are_found_wherever_they_stand() -> None:
    source = 'self._log.warning("a.b" if x else "a.c", detail=1)\nprint("d.e")\nlog.info(name)'
    assert [name for node in ast.walk(ast.parse(source)) for name in find_log_events(node)] == ["a.b", "a.c", "<name>"]


def read_section(title: str) -> str:
    return CONTRACT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def read_list(text: str) -> list[str]:
    """Return the names that stand between dots, in their order; what prose names is none of them."""
    lists = re.findall(r"`[^`]+`(?:\s*·\s*`[^`]+`)+", text)
    return [name for each in lists for name in re.findall(r"`([^`]+)`", each)]


def read_surface(name: str) -> Collection[str]:
    return [str(each) for each in json.loads(PATH.read_text())[name]]


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Settings", ["settings"]),
        ("States", ["states", "receipt_states"]),
        ("Reasons", ["reasons"]),
        ("Exit codes", ["exit_codes"]),
        ("Metrics", ["metrics"]),
        ("Log events", ["log_events"]),
    ],
)
def test_the_contract_names_what_the_surface_has(title: str, names: list[str]) -> None:
    assert read_list(read_section(title)) == [each for name in names for each in read_surface(name)]


def test_the_contract_names_every_key_of_the_yaml() -> None:
    keys = {key.split(" = ")[0] for key in read_surface("yaml_keys")}
    parts = re.findall(r"^- `(\w+)`: (.+)$", read_section("YAML keys"), re.MULTILINE)
    listed = [f"{part}.{key}" for part, text in parts for key in re.findall(r"`([^`]+)`", text)]
    assert sorted(listed) == sorted(keys)


def test_the_contract_names_every_path_with_every_answer_that_is_described() -> None:
    section = read_section("HTTP paths")
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([\d, ]+) \|", section, re.MULTILINE))
    paths = json.loads(PATH.read_text())["paths"]
    assert set(rows) == set(paths)
    shared = set(re.findall(r"\d{3}", section.split("The ops API")[1]))
    for path, described in paths.items():
        own = set(rows[path].split(", "))
        assert set(described["answers"]) <= (own if "webhooks" in path else own | shared), path
