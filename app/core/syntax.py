"""Text that is no YAML: what was probably meant, pointing at the mistake and not at where the parser noticed it."""

from __future__ import annotations

from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import Event, ScalarEvent

from app.core.problems import Problem

_SYNTAX = (
    ("found character '\\t'", "a tab cannot indent YAML", "use spaces"),
    ("quoted scalar: found unexpected end", "this quote is never closed", "close it on the same line"),
    ("mapping values are not allowed", 'a second ": " on this line', "quote the value, or check the indentation"),
    (
        "flow mapping",
        'this "{" mapping lacks a comma or its "}"',
        'close it, or quote a value that holds { } [ ] , such as "${NAME}"',
    ),
    (
        "flow sequence",
        'this "[" list lacks a comma or its "]"',
        'close it, or quote a value that holds { } [ ] , such as "${NAME}"',
    ),
    ("could not find expected ':'", 'a key needs ": " after it', "check the indentation"),
    ("that cannot start any token", "a value cannot start with this character", "quote the value"),
    ("unknown escape character", "this escape is not known in YAML", "use single quotes, or double the backslash"),
    ("block end", "this does not line up with what stands above it", "check the indentation and the quotes"),
)


def describe_syntax(error: MarkedYAMLError, last: Event | None, text: str) -> Problem:
    """Return the fault that ended the reading of `text`; `last`: the event before it."""
    if isinstance(last, ScalarEvent) and last.style in ('"', "'"):
        line, column = last.start_mark.line + 1, last.start_mark.column + 1
        if last.start_mark.line < last.end_mark.line:
            hint = f"it ends on line {last.end_mark.line + 1}, and what follows there makes no sense"
            return Problem("error", line, column, "this quote is not closed on its line", hint)
        if _is_right_behind(error, last):
            hint = "put the whole value in quotes of the other kind: '\"Gold\" == user_tier'"
            return Problem("error", line, column, "something follows the closing quote", hint)
    said = error.problem or ""
    mark = error.problem_mark or error.context_mark
    if "mapping values are not allowed" in said and (found := _explain_colon(text, mark.line, mark.column)):
        return found
    if "quoted scalar" in (error.context or "") or "while parsing a flow" in (error.context or ""):
        mark = error.context_mark if error.context_mark.line < mark.line else mark
    message, hint = next(
        ((message, hint) for start, message, hint in _SYNTAX if start in f"{error.context or ''}: {said}"),
        ("this cannot be read as YAML", "check the indentation and the quotes"),
    )
    return Problem("error", mark.line + 1, mark.column + 1, message, hint)


def _is_right_behind(error: MarkedYAMLError, last: ScalarEvent) -> bool:
    mark = error.problem_mark
    return "block" in (error.context or "") and mark is not None and mark.line == last.end_mark.line


def _explain_colon(text: str, line: int, column: int) -> Problem | None:
    """A colon where none can be: mostly the line above is to blame. None if this one has two. Marks are 0-based."""
    lines = text.split("\n")
    above = next((number for number in range(line - 1, -1, -1) if _has_content(lines[number])), None)
    if above is None or ": " in lines[line][:column]:
        return None
    indent, indent_above = _measure_indent(lines[line]), _measure_indent(lines[above])
    if "\xa0" in lines[above][:indent_above]:
        return Problem("error", above + 1, 1, "what indents this line is not only spaces (U+00A0)", "type it again")
    if not (": " in lines[above] or lines[above].rstrip().endswith(":")):
        hint = "write `key: value`, with a blank after the colon"
        return Problem("error", above + 1, indent_above + 1, 'this line has no ": "', hint)
    message = f"this line is indented otherwise than line {above + 1}"
    return Problem("error", line + 1, indent + 1, message, "let both begin in the same column")


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _measure_indent(line: str) -> int:
    """Return where a line's key begins: dashes of a list stand before it, too."""
    return len(line) - len(line.lstrip(" \xa0-"))
