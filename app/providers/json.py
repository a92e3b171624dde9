"""Reading JSON that others wrote: nothing here raises, whatever the bytes."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

MAX_BYTES = 65_536
MAX_ID = 200
MS_FROM = 100_000_000_000  # a Unix time from here on counts milliseconds: as seconds it would be the year 5138
_STEPS = re.compile(r"[^.\[\]]+")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
MAX_LEVELS = 16  # objects, lists and texts around a value: an error of Meta's in four wrappings of each kind
_ITEMS = 20
_DECODER = json.JSONDecoder()
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def parse_json(body: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Return the parsed JSON, or None where it is none, too long, too deep, or the literal null.

    A byte order mark before it is none of its own: some servers write one.
    """
    if len(body) > max_bytes:
        return None
    try:
        return json.loads(body.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        return None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_items(value: Any) -> Sequence[Any]:
    """Return the value if it is an array, else an empty one."""
    return value if isinstance(value, list) else ()


def read_path(value: Any, path: str) -> Any:
    """Return what stands at `path` (`data.id`, `messages[0].id`), None where nothing does."""
    for step in _STEPS.findall(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:6]) < len(value):
            value = value[int(step[:6])]
        else:
            return None
    return value


def first_text(value: Any, paths: Sequence[str]) -> str | None:
    """Return the first of `paths` that holds a text or a whole number that can serve as an id or a word."""
    return next((text for path in paths if (text := as_text(read_path(value, path))) is not None), None)


def as_text(value: Any) -> str | None:
    """Return a text or whole number as clean text of at most 200 characters, None for anything else or nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**MAX_ID else None
    text = clean_text(value).strip()
    return text if 0 < len(text) <= MAX_ID else None


def clean_text(text: str) -> str:
    """Return the text on one line and free of what a store or a terminal would choke on."""
    return _LONE_SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", text))


class Place(NamedTuple):
    """A value in a JSON answer: its key, folded (`Error_Code` is `errorcode`), and the object and keys around it."""

    key: str
    value: Any
    fields: Mapping[str, Any]
    inside: tuple[str, ...]


def walk_places(value: Any, inside: tuple[str, ...] = (), levels: int = MAX_LEVELS) -> Iterator[Place]:
    """Yield what stands in a value in the order written, down to some levels of objects, lists and JSON in a text.

    A text in a list goes by the list's key. At most the first 20 items of a list are looked at.
    """
    if levels == 0:
        return
    if isinstance(value, str):
        yield from walk_places(read_embedded(value), inside, levels - 1)
    elif isinstance(value, list):
        for item in value[:_ITEMS]:
            if isinstance(item, str) and inside:
                yield Place(inside[-1], item, {}, inside[:-1])
            yield from walk_places(item, inside, levels - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            key = name.lower().replace("_", "").replace("-", "")
            yield Place(key, item, value, inside)
            if isinstance(item, dict | list | str):
                yield from walk_places(item, (*inside, key), levels - 1)


def read_embedded(text: str) -> Any:
    """Return the first JSON object that a text holds, None where it holds none."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        return _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def first_instant(value: Any, paths: Sequence[str]) -> int | None:
    """Return the first of `paths` that holds an instant, as `read_instant` reads it."""
    return next((at for path in paths if (at := read_instant(read_path(value, path))) is not None), None)


def read_instant(value: Any) -> int | None:
    """Return a Unix time in s or ms (number or text) or an ISO 8601 time with a zone as ms, None if it is neither."""
    if isinstance(value, str):
        return _read_instant_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MS_FROM * 1000:
        return None
    return int(value) if value >= MS_FROM else int(value * 1000)


def _read_instant_text(text: str) -> int | None:
    if re.fullmatch(r"[0-9]{1,14}", text):
        return read_instant(int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read_instant(moment.timestamp()) if moment.tzinfo is not None else None
