"""`nector-relay check`: everything that is wrong in the YAML, each with its line and its cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.sources import read_yaml
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
    name, parsed, templates = read_yaml(path)
    problems = list(parsed.problems)
    passed = failed = 0
    if parsed.config is not None:
        for result in run_examples(parsed.config, templates, read_clock(), new_uuid7):
            failed, passed = failed + bool(result.problems), passed + (not result.problems)
            problems += result.problems
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    if as_json:
        print(json.dumps(_as_json(name, problems, passed, failed), ensure_ascii=False, indent=2))
    else:
        for problem in problems:
            print(format_problem(name, problem))
        routes = len(parsed.config.routes) if parsed.config else 0
        print(_sum_up(name, routes, passed, failed, errors, warnings))
    return 1 if errors or (strict and warnings) else 0


def _sum_up(name: str, routes: int, passed: int, failed: int, errors: int, warnings: int) -> str:
    if not routes:
        return f"{name}: {_count(errors, 'error')}, {_count(warnings, 'warning')}; nothing was run"
    examples = f"{passed} of {_count(passed + failed, 'example')} right"
    return f"{name}: {_count(routes, 'route')}, {examples}, {_count(errors, 'error')}, {_count(warnings, 'warning')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _as_json(name: str, problems: list[Problem], passed: int, failed: int) -> dict[str, object]:
    rows = [
        {
            "file": name,
            "line": problem.line,
            "column": problem.column,
            "severity": problem.severity,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in problems
    ]
    return {"problems": rows, "examples": {"passed": passed, "failed": failed}}
