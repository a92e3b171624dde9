"""Dotted paths into an event: keys of objects and indexes of lists, and nothing of Python's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.values.text import is_missing

Path = tuple[str | int, ...]


def look_up(payload: Mapping[str, Any], path: Path) -> Any | None:
    """Return what stands at `path`; None where nothing does, or a null, a blank, "null", "undefined" or NaN."""
    value: Any = payload
    for key in path:
        value = look_into(value, key)
        if value is None:
            return None
    return value


def look_into(value: Any, key: Any) -> Any | None:
    """Return one step down, None where it leads nowhere. A key named `items` is a value, never a method."""
    if isinstance(value, Mapping):
        found = value.get(key) if isinstance(key, str) else None
    elif isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
        found = value[key]
    else:
        return None
    return None if is_missing(found) else found


def write_path(path: Path) -> str:
    """Return a path as it is written: ("customer", "name") → "customer.name"."""
    return ".".join(str(key) for key in path)


def read_path(text: str) -> Path:
    """Return a written path: "items.0.name" → ("items", 0, "name")."""
    return tuple(int(key) if key.lstrip("-").isdecimal() else key for key in text.split("."))


def list_paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of a payload's keys, lists left out."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield prefix + name
            yield from list_paths(item, f"{prefix}{name}.")
