"""`${NAME}` in the YAML: filled from the environment, value by value, never as YAML text.

Filling parsed values and not the file's text means that nothing in a variable can add a key or a route.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.mapping.document import Document
from app.mapping.problems import Path, Problem, list_leaves

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
# A key that ends so holds a secret: api_key, apiKey, webhook_token, x-api-key, client-secret, Authorization.
_SECRET_ENDINGS = ("apikey", "secret", "token", "password", "authorization", "credentials", "authkey", "accesskey")
_PLACEHOLDER = re.compile(r"\$[a-z_]+")  # in a provider's `body:`, see providers/mapping.py


@dataclass(frozen=True, slots=True)
class Filled:
    """The file's data with its references filled. `unset`: the paths whose variable is missing; they keep `${NAME}`."""

    data: dict[str, Any]
    unset: frozenset[Path]
    problems: tuple[Problem, ...]


def fill_environment(document: Document, data: Mapping[str, Any], environment: Mapping[str, str]) -> Filled:
    """Return `data` with `${NAME}` and `${NAME:-default}` filled; `$${` stays `${`."""
    fill = _Filling(document, environment)
    filled = {key: fill.fill_value(value, (key,)) for key, value in data.items()}
    return Filled(filled, frozenset(fill.unset), tuple(fill.problems))


class _Filling:
    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self.unset: set[Path] = set()
        self.problems: list[Problem] = []
        self._document = document
        self._environment = environment

    def fill_value(self, value: Any, path: Path) -> Any:
        match value:
            case dict():
                return {key: self.fill_value(item, (*path, key)) for key, item in value.items()}
            case list():
                return [self.fill_value(item, (*path, index)) for index, item in enumerate(value)]
            case str() if "${" in value:
                return _REFERENCE.sub(lambda found: self._fill_reference(found, path), value)
            case _:
                return value

    def _fill_reference(self, found: re.Match[str], path: Path) -> str:
        name, default = found.groups()
        if found[0] == "$${":
            return "${"
        if name is None:
            self._report(path, "this ${…} cannot be read", "write ${NAME}, ${NAME:-default}, or $${ for the text ${")
            return found[0]
        # As in a shell, `:-` also stands in for a variable that is set and empty.
        value = self._environment.get(name, "") or default
        if value is not None:
            return value.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as half characters
        self.unset.add(path)
        hint = f"a property of the event is written without ${{ }}: {name}" if path[0] == "routes" else ""
        self._report(path, f"the environment variable {name} is not set", hint, unset=True)
        return found[0]

    def _report(self, path: Path, message: str, hint: str = "", *, unset: bool = False) -> None:
        mark = self._document.find_place(path).value
        self.problems.append(Problem("warning" if unset else "error", *mark, message, hint, unset))


def find_literal_secrets(document: Document, providers: Mapping[str, Any]) -> Iterator[tuple[Path, Problem]]:
    """Yield every secret of `providers:` that is written into the file. The text itself is never told."""
    for path, value in list_leaves(providers, ("providers",)):
        if is_secret_key(path) and not _is_from_environment(value):
            cure = f"write ${{{_suggest_variable(path)}}}"
            mark = document.find_place(path).value
            yield path, Problem("error", *mark, f'"{path[-1]}": a secret must come from the environment', cure)


def is_secret_key(path: Path) -> bool:
    """Tell whether the key at the end of `path` says that its value is a secret."""
    name = next((key for key in reversed(path) if isinstance(key, str)), "")
    return re.sub(r"[^a-z]", "", name.lower()).endswith(_SECRET_ENDINGS)


def _is_from_environment(value: Any) -> bool:
    """Tell whether a raw value leaves the secret to the environment (a default would be a literal, too)."""
    if not value or value is True:
        return True  # nothing that could be a secret; the type's own check speaks
    if not isinstance(value, str):
        return False
    references = [found for found in _REFERENCE.finditer(value) if found[1]]
    if any(found[2] for found in references):
        return False
    return bool(references) or _PLACEHOLDER.fullmatch(value) is not None


def _suggest_variable(path: Path) -> str:
    _, provider, *_ = path
    key = next(key for key in reversed(path) if isinstance(key, str))
    return re.sub(r"[^A-Z0-9]+", "_", f"{provider}_{key}".upper())
