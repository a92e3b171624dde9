"""Slips of the pen: what is well formed in a route, would be the same for every event, and is never meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.findings import Findings
from app.mapping.grammar import QUOTED_TEXTS
from app.mapping.parts import Constant, Source
from app.mapping.problems import Path
from app.mapping.template import LIMITS
from app.values.instant import parse_instant
from app.values.text import LINK_LIMIT, VALUE_LIMIT, clean_text, is_link, write_scalar

_INSTANTS = frozenset({"valid_until", "limited_time_offer"})
_DATE = re.compile(r"(?<![\w./-])(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[-/]\d{1,2}[-/]\d{2,4})(?![\w./-])")
_PLACE = re.compile(r"[^\W\d][\w.]*(?:/[\w.]+)+")
_FILE = re.compile(r"[^\W\d]\w*\.(?:pdf|png|jpe?g|gif|webp|mp4|3gp|mov|txt|csv|docx?|xlsx?|pptx?|zip)", re.IGNORECASE)
_DEFAULT = re.compile(r"\|\s*d(?:efault)?\(\s*([^\W\d_]+)\s*\)\s*$")

Fault = tuple[str, str]
"""What is wrong, and the cure."""


def check_slips(
    sources: Iterable[tuple[Path, Source]], known: Collection[str], timezone: str, findings: Findings
) -> None:
    """Report every slip once, and silence its place. `known`: the names that events may well hold."""
    for path, source in sources:
        if isinstance(source, Constant):
            fault = _find_constant_fault(str(path[4 if path[2] == "buttons" else 3]), source.text)
        elif source.names:
            fault = _find_name_fault(source, known)
        else:
            fault = _find_literal_fault(path, source, timezone)
        if fault is not None:
            findings.error(path, *fault)
            findings.silence(path)


def _find_constant_fault(key: str, text: str) -> Fault | None:
    shown = clean_text(text)
    limit = LINK_LIMIT if is_link(shown) or key == "url" else LIMITS.get(key, VALUE_LIMIT)
    if not shown:
        return "a fixed text cannot be empty", "write the text, or name a property"
    if "{{" in shown:
        return "{{ }} in a fixed text is sent as it stands", 'write an expression instead: "Dear " ~ user_name'
    if len(shown) > limit:
        return f"this text has {len(shown)} characters, and at most {limit} are sent", "shorten it"
    return None


def _find_literal_fault(path: Path, source: Expression, timezone: str) -> Fault | None:
    value, written = source.evaluate({}), source.source.strip()
    if path[-1] in _INSTANTS:
        if parse_instant(value, timezone, end_of_day=True) is not None:
            return None
        message = f"`{written}` is not a date: nothing would ever be sent"
        return message, "name a property, such as expire; a fixed date has two pairs of quotes: '\"2026-12-31\"'"
    if path[-1] in {"when", "recipient", "dedup_by"}:  # checks.py knows better what is wrong with these
        return None
    cure = f"a fixed text is written {{text: {written}}}"
    if isinstance(value, Missing | Failed):
        return f"`{written}` comes to nothing, whatever the event holds", cure
    if not isinstance(value, str) and write_scalar(value) != written:
        return f"`{written}` is arithmetic: every customer would read the same {write_scalar(value)}", cure
    return None


def _find_name_fault(source: Expression, known: Collection[str]) -> Fault | None:
    bare, written = QUOTED_TEXTS.sub('""', source.source), source.source.strip()
    if found := _DATE.search(bare):
        return f"`{found[0]}` is arithmetic, not a date", f'put it in quotes: "{found[0]}"'
    if _PLACE.fullmatch(written) and source.names.isdisjoint(known):
        cure = f"a fixed text is written {{text: {written}}}; a division has blanks around its /"
        return f"`{written}` would be a division", cure
    if _FILE.fullmatch(written) and written not in known:
        return f"`{written}` is read as a property of the event", f"a fixed text is written {{text: {written}}}"
    if (found := _DEFAULT.search(bare)) and found[1] not in known:
        message = f'"{found[1]}" is read as a property of the event, and may be missing, too'
        return message, f'a fixed text stands in quotes: default("{found[1]}")'
    return None
