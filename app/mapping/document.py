"""YAML text as plain data with the position of every key and value.

Built on ruamel.yaml's parser events rather than its node graph: half the time, and only the events tell
an alias from the value it repeats. Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema),
so that the country `NO` stays a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, NamedTuple, NoReturn

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError

from app.mapping import Path, Problem
from app.model.value import dataclass
from app.values.text import SentFloat

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32

# What YAML lets a text file hold, https://yaml.org/spec/1.2.2/#51-character-set
_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NO_COMMENT = re.compile(r"[ \t]+#[0-9{$]")
_CUT_TEXT = re.compile(r"[ \t]+#[\w{$]")
_QUOTE = "put the whole value in quotes"


class Mark(NamedTuple):
    """A place in the text, 1-based."""

    line: int
    column: int


class Place(NamedTuple):
    """The places of an entry's key and value; the same mark twice where it has no key."""

    key: Mark
    value: Mark


@dataclass(frozen=True, slots=True)
class Document:
    """A read file. `data` is None where it could not be read as a mapping; `problems` then say why."""

    data: dict[str, Any] | None
    places: Mapping[Path, Place] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    refused: frozenset[Path] = frozenset()  # values that could not be read, and stand as None
    incomplete: frozenset[Path] = frozenset()  # mappings that lack an entry whose key was refused

    def find_place(self, path: Path) -> Place:
        """Return the place of `path`, or of the nearest thing above it that stands in the file."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, Place(Mark(1, 1), Mark(1, 1)))


class _Unreadable(Exception):
    """The rest of the text cannot be read."""


def read_document(text: str) -> Document:
    """Return the text's data with positions, and every problem of its form. Never raises."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Document(None, problems=(Problem("error", 1, 1, f"the file is larger than {MAX_BYTES // 1024} KiB"),))
    if found := _UNPRINTABLE.search(text):
        line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
        problem = Problem("error", line, column, f"the character U+{ord(found.group()):04X} is not allowed in YAML")
        return Document(None, problems=(problem,))
    walk = _Walk(text)
    data = walk.read()
    return Document(data, walk.places, tuple(walk.problems), frozenset(walk.refused), frozenset(walk.incomplete))


class _Walk:
    """One pass over the parser's events."""

    def __init__(self, text: str) -> None:
        self.places: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self.refused: set[Path] = set()
        self.incomplete: set[Path] = set()
        self._text = text
        self._last: events.Event | None = None
        self._events: Iterator[events.Event] = YAML(typ="safe", pure=True).parse(text)

    def read(self) -> dict[str, Any] | None:
        try:
            return self._read_stream()
        except MarkedYAMLError as error:
            self.problems.append(describe_syntax(error, self._last, self._text))
        except (OverflowError, ValueError):  # chr() of an escape such as "\U99999999", not caught by ruamel.yaml
            mark = _mark(self._last) if self._last else Mark(1, 1)
            self._report(mark, "an escape after this place names no character", 'write the character itself: "é"')
        except _Unreadable:
            pass
        return None

    def _read_stream(self) -> dict[str, Any] | None:
        data: Any = None
        has_begun = False
        while not isinstance(event := self._next(), events.StreamEndEvent):
            if isinstance(event, events.DocumentStartEvent):
                if has_begun:
                    self._report(_mark(event), "a second document starts here", "keep one document a file")
                    raise _Unreadable
                has_begun = True
            elif not isinstance(event, events.StreamStartEvent | events.DocumentEndEvent):
                data = self._read_node(event, (), None)
        if data is None:
            self._report(Mark(1, 1), "the file is empty", "start from config/relay.yaml of the release")
            return None
        if not isinstance(data, dict):
            mark = self.places[()].value
            self._report(mark, "the file must be a mapping", "write `version: 1` and the rest below it")
            return None
        return data

    def _next(self) -> events.Event:
        self._last = next(self._events)
        return self._last

    def _report(self, mark: Mark, message: str, hint: str = "") -> None:
        self.problems.append(Problem("error", *mark, message, hint))

    def _refuse_depth(self, mark: Mark) -> NoReturn:
        self._report(mark, f"nested deeper than {MAX_DEPTH} levels")
        raise _Unreadable

    def _read_node(self, event: events.Event, path: Path, key: Mark | None) -> Any:
        mark = _mark(event)
        self.places[path] = Place(key or mark, mark)
        if len(path) > MAX_DEPTH:
            self._refuse_depth(mark)
        if isinstance(event, events.AliasEvent):
            self._report(mark, "aliases (*name) are refused", "write the values out, or use defaults:")
            self.refused.add(path)
            return None
        if self._refuse_properties(event, mark):
            self.refused.add(path)
        if isinstance(event, events.ScalarEvent):
            self._refuse_cut(event, path)
            return self._read_scalar(event, mark)
        return self._read_mapping(path) if isinstance(event, events.MappingStartEvent) else self._read_list(path)

    def _refuse_properties(self, event: Any, mark: Mark) -> bool:
        """Report an anchor or a tag; True for a tag, which has swallowed what was meant as the value."""
        if event.anchor is not None:
            self._report(mark, "anchors (&name) are refused", "write the values out, or use defaults:")
        if event.tag is not None:
            hint = "quote the value if the ! belongs to it; a condition has `not`"
            self._report(mark, "tags (!name) are refused", hint)
        return event.tag is not None

    def _refuse_cut(self, event: events.ScalarEvent, path: Path) -> None:
        """Report a ` #` that can hardly begin a comment: one before a number, or before a word of a fixed text."""
        if event.style is not None or not event.value:
            return
        sign = _CUT_TEXT if path[-1:] == ("text",) else _NO_COMMENT
        if sign.match(self._text, event.end_mark.index):
            self._report(_mark(event), "` #` begins a comment: what follows it is cut off", _QUOTE)

    def _read_scalar(self, event: events.ScalarEvent, mark: Mark) -> Any:
        value: str = event.value
        if event.style is None:
            return read_scalar(value)
        if event.style == '"' and any("\ud800" <= character <= "\udfff" for character in value):
            self._report(mark, "half a surrogate pair is not a character", 'write the character itself: "🎉"')
            return ""
        return value

    def _read_list(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), events.SequenceEndEvent):
            items.append(self._read_node(event, (*path, len(items)), None))
        return items

    def _read_mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := self._next(), events.MappingEndEvent):
            mark = _mark(event)
            key = self._read_key(event, mark)
            if key is None:  # refused: its value is read only to pass over it
                self.incomplete.add(path)
                self._pass_over()
            elif key in entries:
                first = self.places[(*path, key)].key.line
                self._report(mark, f'"{key}" stands here twice', f"the first is on line {first}")
                self._pass_over()
            else:
                entries[key] = None
                entries[key] = self._read_node(self._next(), (*path, key), mark)
        return entries

    def _read_key(self, event: events.Event, mark: Mark) -> str | None:
        if not isinstance(event, events.ScalarEvent):
            hint = "an expression is written without {{ }}" if isinstance(event, events.MappingStartEvent) else ""
            self._report(mark, "a key must be a text", hint)
            self._pass_over(event)
            return None
        self._refuse_properties(event, mark)
        if event.style is None and event.value == "<<":
            self._report(mark, "merge keys (<<) are refused", "write the values out, or use defaults:")
            return None
        key = self._read_scalar(event, mark)
        if not isinstance(key, str):
            self._report(mark, f"the key {event.value} must be a text", f'write "{event.value}"')
            return None
        return key

    def _pass_over(self, event: events.Event | None = None) -> None:
        """Read a value for its end only: what stands in it is part of a fault that is already told."""
        depth = 0
        event = event or self._next()
        while (
            depth := depth
            + isinstance(event, events.CollectionStartEvent)
            - isinstance(event, events.CollectionEndEvent)
        ):
            if depth > MAX_DEPTH:
                self._refuse_depth(_mark(event))
            event = self._next()


def read_scalar(value: str) -> str | int | float | bool | None:
    """Return what a plain (unquoted) scalar means by the core schema of YAML 1.2."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] in "-+.0123456789" and len(value) < 1000:  # noqa: PLR2004 -- longer than any number a person writes
        if _INTEGER.fullmatch(value):
            return int(value, 0) if value[:2] in ("0o", "0x") else int(value)
        if _FLOAT.fullmatch(value):
            return SentFloat(value)
    return value


def _mark(event: events.Event) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


_CLOSE = 'close it, or quote a value that holds { } [ ] , such as "${NAME}"'
_SYNTAX = (
    ("found character '\\t'", "a tab cannot indent YAML", "use spaces"),
    ("quoted scalar: found unexpected end", "this quote is never closed", "close it on the same line"),
    ("mapping values are not allowed", 'a second ": " on this line', "quote the value, or check the indentation"),
    ("flow mapping", 'this "{" mapping lacks a comma or its "}"', _CLOSE),
    ("flow sequence", 'this "[" list lacks a comma or its "]"', _CLOSE),
    ("could not find expected ':'", 'a key needs ": " after it', "check the indentation"),
    ("that cannot start any token", "a value cannot start with this character", "quote the value"),
    ("unknown escape character", "this escape is not known in YAML", "use single quotes, or double the backslash"),
    ("block end", "this does not line up with what stands above it", "check the indentation and the quotes"),
)


def describe_syntax(error: MarkedYAMLError, last: events.Event | None, text: str) -> Problem:
    """Return the fault that ended the reading of `text`; `last`: the event before it."""
    is_quoted = isinstance(last, events.ScalarEvent) and last.style in ('"', "'")
    if last is not None and is_quoted and last.start_mark.line < last.end_mark.line:
        hint = f"it ends on line {last.end_mark.line + 1}, and what follows there makes no sense"
        return Problem("error", *_mark(last), "this quote is not closed on its line", hint)
    said = error.problem or ""
    mark = error.problem_mark or error.context_mark
    if found := _explain_split(error, text):
        return found
    if "mapping values are not allowed" in said and (found := _explain_colon(text, mark.line, mark.column)):
        return found
    if "quoted scalar" in (error.context or "") or "while parsing a flow" in (error.context or ""):
        mark = error.context_mark if error.context_mark.line < mark.line else mark
    message, hint = next(
        ((message, hint) for start, message, hint in _SYNTAX if start in f"{error.context or ''}: {said}"),
        ("this cannot be read as YAML", "check the indentation and the quotes"),
    )
    return Problem("error", mark.line + 1, mark.column + 1, message, hint)


# What stands before the place at which YAML no longer understands an expression without quotes.
_SPLIT_BY_COMMA = re.compile(r"\[(?:.*, *)?(?P<item>[^,\[\]\"']*\([^()]*[\"']),")
_SPLIT_BY_COLON = re.compile(r"(?P<item>[^\s:\"'-][^:]*~ *[\"'][^\"']*):\s")
_SPLIT_BY_QUOTE = re.compile(
    r"""[\s-]*(?:\w[\w-]*:\s+)?(?P<item>(?P<quote>["'])[^"']*(?P=quote)\s*[^\s#,:\]}"'](?:.*\S)?)\s*$"""
)
_LONGEST_LINE = 1_000  # of a line that is looked into: two patterns take the square of its length


def _explain_split(error: MarkedYAMLError, text: str) -> Problem | None:
    """An expression that its own comma or colon has split: in a list of [ ], or where a mapping may begin."""
    lines = text.split("\n")
    for number in {mark.line for mark in (error.context_mark, error.problem_mark) if mark and mark.line < len(lines)}:
        line = lines[number][:_LONGEST_LINE]
        if found := _SPLIT_BY_QUOTE.match(line):
            other = "'" if found["item"][0] == '"' else '"'
            message = "something follows the closing quote"
            hint = f"put the whole value in quotes of the other kind: {other}{found['item']}{other}"
        elif found := _SPLIT_BY_COMMA.search(line):
            message, hint = "a comma inside [ ] ends the item", "put the expression in quotes, or write one `- ` a line"
        elif found := _SPLIT_BY_COLON.search(line):
            message, hint = '": " inside a value begins a mapping', _QUOTE
        else:
            continue
        return Problem("error", number + 1, found.start("item") + 1, message, hint)
    return None


def _explain_colon(text: str, line: int, column: int) -> Problem | None:
    """A colon where none can be: mostly the line above is to blame. None if this one has two. Marks are 0-based."""
    lines = text.split("\n")
    above = next((at for at in range(line - 1, -1, -1) if lines[at].lstrip()[:1] not in {"", "#"}), None)
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


def _measure_indent(line: str) -> int:
    """Return where a line's key begins: dashes of a list stand before it, too."""
    return len(line) - len(line.lstrip(" \xa0-"))
