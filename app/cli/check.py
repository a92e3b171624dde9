"""`nector-relay check`: everything that is wrong in the YAML, each with its line and its cure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from app.cli.sources import read_yaml
from app.cli.wording import count_nouns
from app.clock import read_clock
from app.core.config import Problem, format_problem
from app.core.linting import run_examples
from app.ids import new_uuid7


def check(
    path: Annotated[Path | None, typer.Argument(help="The YAML file (else RELAY_CONFIG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for editors and CI.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
) -> int:
    """Lint the YAML and run its examples. Exit 0 without an error, else 1."""
    checked = _check(path)
    if as_json:
        print(json.dumps(_as_json(checked), ensure_ascii=False, indent=2))
    else:
        for name, problem in checked.problems:
            print(format_problem(name, problem))
        print(_sum_up(checked))
    return 1 if checked.count("error") or (strict and checked.count("warning")) else 0


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file came to: `routes` is 0 where nothing could be run."""

    name: str
    problems: tuple[tuple[str, Problem], ...]  # (file, problem)
    routes: int = 0
    passed: int = 0
    failed: int = 0

    def count(self, severity: str) -> int:
        """Return how many problems are so bad."""
        return sum(problem.severity == severity for _, problem in self.problems)


def _check(path: Path | None) -> Checked:
    read = read_yaml(path)
    name, config = read.sources.name, read.parsed.config
    if config is None:
        return Checked(name, tuple(read.list_problems()))
    results = run_examples(config, read.templates.templates, read_clock(), new_uuid7)
    failed = sum(bool(result.problems) for result in results)
    found = read.list_problems() + [(name, problem) for result in results for problem in result.problems]
    return Checked(name, tuple(_sort(found)), len(config.routes), len(results) - failed, failed)


def _sort(problems: Iterable[tuple[str, Problem]]) -> list[tuple[str, Problem]]:
    """Return them file by file, each from its top."""
    return sorted(dict.fromkeys(problems), key=lambda told: (told[0], told[1].line, told[1].column))


def _sum_up(checked: Checked) -> str:
    told = f"{count_nouns(checked.count('error'), 'error')}, {count_nouns(checked.count('warning'), 'warning')}"
    if not checked.routes:
        return f"{checked.name}: {told}; nothing was run"
    examples = f"{checked.passed} of {count_nouns(checked.passed + checked.failed, 'example')} right"
    return f"{checked.name}: {count_nouns(checked.routes, 'route')}, {examples}, {told}"


def _as_json(checked: Checked) -> dict[str, object]:
    rows = [
        {
            "file": name,
            "line": problem.line,
            "column": problem.column,
            "severity": problem.severity,
            "message": problem.message,
            "hint": problem.hint,
        }
        for name, problem in checked.problems
    ]
    return {"problems": rows, "examples": {"passed": checked.passed, "failed": checked.failed}}
