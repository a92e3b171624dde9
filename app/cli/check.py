"""`nector-relay check`: everything that is wrong in the YAML, each with its line and its cure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from app.authoring.examples import Recorded, judge_recorded, run_examples
from app.cli.commands import Answer
from app.cli.sources import Reading, read_again, read_recordings, read_yaml
from app.cli.tables import count_nouns, open_console, show_waiting
from app.cli.templates import LiveTemplates, fetch_templates, find_drift
from app.clock import new_uuid7, read_clock
from app.mapping.problems import MOST_SHOWN, Problem, format_problem
from app.mapping.rules import Config
from app.settings import read_environment

_COLOURS = {"error": "red", "warning": "yellow", "": "green"}


def check(
    path: Annotated[Path | None, typer.Argument(help="The YAML file (else RELAY_CONFIG).")] = None,
    live: Annotated[bool, typer.Option("--live", help="Compare with the providers' approved templates.")] = False,
    style: Annotated[
        Literal["text", "github"], typer.Option("--format", help="github: annotations on the lines of a pull request.")
    ] = "text",
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
    config: Annotated[Path | None, typer.Option(help="The YAML file, as the other commands take it.")] = None,
) -> Answer:
    """Lint the YAML and run its examples. Exit 0 without an error, else 1."""
    with show_waiting("waiting for the providers' templates" if live else "running the examples"):
        checked = _check(config or path, live=live)
    shown, more = _cut(checked.problems)

    def show() -> None:
        console = open_console()
        for name, problem in shown:
            text = _paint(name, problem) if style == "text" else Text(_annotate(name, problem))
            console.print(text, soft_wrap=True)
        if more:
            told = f"and {more:,} more"
            print(told if style == "text" else f"::warning file={_escape(checked.name)}::{told}")
        for remark in checked.remarks:
            print(f"note: {remark}", file=sys.stderr)
        worst = next((one for one in ("error", "warning") if checked.count(one)), "")
        console.print(Text(_sum_up(checked), _COLOURS[worst]), soft_wrap=True)

    code = 1 if checked.count("error") or (strict and checked.count("warning")) else 0
    return Answer(_as_json(checked, shown, more), show, code)


@dataclass(frozen=True, slots=True)
class Checked:
    """A file came to this: `routes` is 0 where nothing could be run. `listed`: providers that gave their templates.

    `remarks`: what was made of the examples.
    """

    name: str
    problems: tuple[tuple[str, Problem], ...]  # (file, problem)
    routes: int = 0
    passed: int = 0
    failed: int = 0
    listed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def count(self, severity: str) -> int:
        """Return how many problems are so bad."""
        return sum(problem.severity == severity for _, problem in self.problems)


def _check(path: Path | None, *, live: bool) -> Checked:
    environment = read_environment()
    read = read_yaml(path, environment)
    found: list[tuple[str, Problem]] = []
    answered = LiveTemplates({})
    recorded = read_recordings(read.sources)
    if live and read.parsed.config is not None:
        answered = fetch_templates(read.parsed.config.providers)
        drift = find_drift(read.templates, answered.templates, answered.listed)
        found += [(read.sources.templates_name, problem) for problem in drift]
        for name, fault in answered.faults:
            problem = Problem("error", *read.find_provider(name), f'provider "{name}" {fault}')
            found.append((read.sources.name, problem))
    if answered.listed or recorded:
        read = read_again(read, environment, answered.templates, answered.listed, recorded)
    config = read.parsed.config
    found += read.list_problems()
    if config is None:
        return Checked(read.sources.name, tuple(_sort(found)), listed=answered.listed)
    return _run(read, config, found, answered.listed, recorded)


def _run(
    read: Reading, config: Config, found: list[tuple[str, Problem]], listed: tuple[str, ...], recorded: Recorded
) -> Checked:
    name, now = read.sources.name, read_clock()
    results = run_examples(config, read.templates.templates, now, new_uuid7)
    failed = sum(bool(result.problems) for result in results)
    found += [(name, problem) for result in results for problem in (*result.problems, *result.warnings)]
    readings = dict.fromkeys(result.reading for result in results if result.reading)
    told = [f"each number was read {', or '.join(readings)}"] if readings else []
    remarks = tuple(dict.fromkeys([*told, *(remark for result in results for remark in result.remarks)]))
    found += [(name, problem) for problem in judge_recorded(config, recorded, now)]
    for route in (route for route in config.routes if not route.examples):
        cure = "add one below `examples:`; `nector-relay examples` writes them"
        fault = Problem("warning", route.line, route.column, f'no example tries route "{route.name}"', cure)
        found.append((name, fault))
    return Checked(name, tuple(_sort(found)), len(config.routes), len(results) - failed, failed, listed, remarks)


def _sort(problems: Iterable[tuple[str, Problem]]) -> list[tuple[str, Problem]]:
    """Return them file by file, each from its top."""
    return sorted(dict.fromkeys(problems), key=lambda told: (told[0], told[1].line, told[1].column))


def _cut(problems: Sequence[tuple[str, Problem]]) -> tuple[Sequence[tuple[str, Problem]], int]:
    """Return the first problems, errors before warnings, in their order, and how many more there are."""
    if len(problems) <= MOST_SHOWN:
        return problems, 0
    first = sorted(problems, key=lambda told: told[1].severity != "error")[:MOST_SHOWN]
    return _sort(first), len(problems) - MOST_SHOWN


def _paint(name: str, problem: Problem) -> Text:
    """Return a problem's line, its place bold and how bad it is in colour."""
    line = format_problem(name, problem)
    place = f"{name}:{problem.line}:{problem.column}: "
    text = Text(line)
    text.stylize("bold", 0, len(place))
    text.stylize(_COLOURS[problem.severity], len(place), len(place) + len(problem.severity))
    return text


def _annotate(name: str, problem: Problem) -> str:
    """Return a workflow command, which GitHub shows at the line.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message
    """
    text = problem.message + (f"; {problem.hint}" if problem.hint else "")
    place = f"file={_escape(name)},line={problem.line},col={problem.column}"
    return f"::{problem.severity} {place}::{text.replace('%', '%25')}"


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


def _sum_up(checked: Checked) -> str:
    told = f"{count_nouns(checked.count('error'), 'error')}, {count_nouns(checked.count('warning'), 'warning')}"
    if checked.listed:
        told += f"; compared with what {' and '.join(checked.listed)} lists now"
    if not checked.routes:
        return f"{checked.name}: {told}; nothing was run"
    examples = f"{checked.passed} of {count_nouns(checked.passed + checked.failed, 'example')} right"
    return f"{checked.name}: {count_nouns(checked.routes, 'route')}, {examples}, {told}"


def _as_json(checked: Checked, shown: Sequence[tuple[str, Problem]], more: int) -> dict[str, object]:
    keys = ("line", "column", "severity", "message", "hint")
    rows = [{"file": name, **{key: getattr(problem, key) for key in keys}} for name, problem in shown]
    examples = {"passed": checked.passed, "failed": checked.failed}
    return {"problems": rows, **({"more": more} if more else {}), "examples": examples}
