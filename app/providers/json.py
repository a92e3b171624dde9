"""Reading JSON that others wrote: nothing here raises, whatever the bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

MAX_BYTES = 65_536
MAX_ID = 200
MS_FROM = 100_000_000_000  # a Unix time from here on counts milliseconds: as seconds it would be the year 5138
_STEPS = re.compile(r"[^.\[\]]+")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def parse_json(body: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Return the parsed JSON, or None where it is none, too long, too deep, or the literal null."""
    if len(body) > max_bytes:
        return None
    try:
        return json.loads(body.decode())
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


def walk_texts(value: Any, keys: frozenset[str], depth: int = 4) -> Iterator[str]:
    """Yield every text that stands under one of `keys`, down to `depth` levels of objects and arrays."""
    if depth == 0:
        return
    for item in as_items(value)[:20]:
        yield from walk_texts(item, keys, depth - 1)
    for key, item in as_mapping(value).items():
        if isinstance(item, str):
            if key in keys:
                yield item
        else:
            yield from walk_texts(item, keys, depth - 1)


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
