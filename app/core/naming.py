"""Names and empty places: faults that any section of the file can have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.core.findings import Findings
from app.core.problems import Path
from app.core.wording import name_owner

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# What stands under these keys is other people's JSON, in which null is a value.
_FOREIGN = frozenset({"event", "sends", "body", "headers"})


def check_name(name: str, path: Path, findings: Findings) -> None:
    """Report a route's or provider's name that cannot stand in a URL, a label or a command line."""
    if not _NAME.fullmatch(name):
        kind = str(path[0]).removesuffix("s")
        suggestion = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64]
        hint = "use a-z, 0-9, - and _" + (f', such as "{suggestion}"' if suggestion else "")
        findings.error(path, f'"{name}" cannot name a {kind}', hint, at="key")


def report_empty(data: Mapping[str, Any], findings: Findings) -> None:
    """Report every key that has no value, and nothing else about it."""
    for path in _list_empty(data, ()):
        if findings.is_silenced(path):
            continue
        key = f'"{path[-1]}"' if isinstance(path[-1], str) else f'item {path[-1] + 1} of "{path[-2]}"'
        hint = "write one, or remove the key"
        if isinstance(path[-1], str) and path[-3:-2] == ("variables",):  # {user_name}, a mapping in YAML
            hint = f"an expression is written without braces: {path[-1]}"
        findings.error(path, f"{key} has no value {name_owner(path[:-1])}", hint, at="key")
        findings.silence(path)


def _list_empty(value: Any, path: Path) -> Iterator[Path]:
    match value:
        case None:
            yield path
        case dict():
            for key, item in value.items():
                if key not in _FOREIGN or item is None:
                    yield from _list_empty(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _list_empty(item, (*path, index))
        case _:
            pass
