"""The YAML: read, checked and compiled into routes and templates.

A problem tells what is wrong with it, where, and the cure; never a secret or a customer's value.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

from app.model.value import dataclass

Path = tuple[str | int, ...]
"""A value's place in the file: ("routes", "coins-earned", "variables", 0)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a file. `line` and `column` are 1-based; `unset`: an environment variable is missing."""

    severity: Literal["error", "warning"]
    line: int
    column: int
    message: str
    hint: str = ""
    unset: bool = False


def format_problem(name: str, problem: Problem) -> str:
    """Return `config/relay.yaml:41:12: error: unknown key "temlate"; did you mean "template"?`."""
    hint = f"; {problem.hint}" if problem.hint else ""
    return f"{name}:{problem.line}:{problem.column}: {problem.severity}: {problem.message}{hint}"


MOST_SHOWN = 50


def cut_lines(lines: Sequence[str]) -> str:
    """Return the first lines, and how many more there are where nobody would read them all."""
    more = len(lines) - MOST_SHOWN
    return "\n".join([*lines[:MOST_SHOWN], f"and {more:,} more"] if more > 0 else lines)


def sort_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return them in the order of the file, each once."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column)))


def list_leaves(value: Any, path: Path, foreign: Collection[str] = ()) -> Iterator[tuple[Path, Any]]:
    """Yield what is neither a mapping nor a list, with its path; nothing of what stands below a `foreign` key."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in foreign or not isinstance(item, dict | list):
                yield from list_leaves(item, (*path, key), foreign)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from list_leaves(item, (*path, index), foreign)
    else:
        yield path, value


def find_similar(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that `word` was probably meant to be, None if none is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None


def ask_similar(
    word: str, known: Iterable[str], otherwise: str | None = None, *, cutoff: float = 0.6, quote: str = '"'
) -> str:
    """Return `did you mean "template"?` where a known word is near, else `otherwise`: by default the known words."""
    choices = list(known)
    similar = find_similar(word, choices, cutoff)
    if similar is not None:
        return f"did you mean {quote}{similar}{quote}?"
    if otherwise is not None:
        return otherwise
    return f"known: {quote_all(choices)}" if choices else ""


def quote_all(words: Iterable[str]) -> str:
    """Return `"a", "b"`."""
    return ", ".join(f'"{word}"' for word in words)
