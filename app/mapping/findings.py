"""Findings gather the problems of a file while it is checked, with their places, each fault once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from app.mapping.document import Document
from app.mapping.problems import Path, Problem, list_leaves
from app.mapping.wording import describe_fault, find_meant, list_keys, locate_fault, name_owner

Model = TypeVar("Model", bound=BaseModel)


class Findings:
    """Collects the problems of one file. What lies under a silenced path is part of a fault already told."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems = list(document.problems)
        self._silenced = set(document.refused)

    def error(self, path: Path, message: str, hint: str = "", *, at: Literal["key", "value"] = "value") -> None:
        """Report a fault at a path."""
        self._add("error", path, message, hint, at)

    def warn(self, path: Path, message: str, hint: str = "", *, at: Literal["key", "value"] = "value") -> None:
        """Report a doubt at a path."""
        self._add("warning", path, message, hint, at)

    def silence(self, path: Path) -> None:
        """Report nothing more under `path`."""
        self._silenced.add(path)

    def is_silenced(self, path: Path) -> bool:
        """Tell whether what is wrong at `path` was told already."""
        return any(path[:length] in self._silenced for length in range(1, len(path) + 1))

    def has_errors(self) -> bool:
        """Tell whether the file cannot be used."""
        return any(problem.severity == "error" for problem in self.problems)

    def validate(
        self, model: type[Model], data: Mapping[str, Any], path: Path, context: Mapping[str, Any] | None = None
    ) -> Model | None:
        """Return `data` as `model`; None where not even its sound keys make one. Every fault is reported."""
        try:
            return _validate(model, data, context)
        except ValidationError as error:
            faults = error.errors(include_url=False)
        faulty: set[Any] = set()
        for fault in faults:
            place = locate_fault(fault, data)
            faulty.add(place[0] if place else None)
            lacks = fault["type"] == "missing" and (*path, *place[:-1]) in self.document.incomplete
            if not lacks and not self.is_silenced((*path, *place)):
                described = describe_fault(fault, place, data, model, path)
                if described is not None:
                    message, hint, at = described
                    self.error((*path, *place), message, hint, at=at)
            if fault["type"] == "extra_forbidden" and (
                meant := find_meant(str(place[-1]), list_keys(model, place[:-1]))
            ):
                self.silence((*path, *place[:-1], meant))  # what is said of its being missing is the same fault
        self._silenced |= {(*path, key) for key in faulty if key is not None}
        sound = {key: value for key, value in data.items() if key not in faulty}
        try:
            return _validate(model, sound, context)
        except ValidationError:
            return None

    def _add(
        self, severity: Literal["error", "warning"], path: Path, message: str, hint: str, at: Literal["key", "value"]
    ) -> None:
        place = self.document.find_place(path)
        mark = place.key if at == "key" or path not in self.document.places else place.value
        self.problems.append(Problem(severity, mark.line, mark.column, message, hint))


def _validate(model: type[Model], data: Mapping[str, Any], context: Mapping[str, Any] | None) -> Model:
    # As JSON, because only there "strict" still reads a list for a tuple and a text for an enum.
    return model.model_validate_json(json.dumps(data), strict=True, context=context)


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
    for path, value in list_leaves(data, (), _FOREIGN):
        if value is not None or findings.is_silenced(path):
            continue
        key = f'"{path[-1]}"' if isinstance(path[-1], str) else f'item {path[-1] + 1} of "{path[-2]}"'
        hint = "write one, or remove the key"
        if isinstance(path[-1], str) and path[-3:-2] == ("variables",):  # {user_name}, a mapping in YAML
            hint = f"an expression is written without braces: {path[-1]}"
        findings.error(path, f"{key} has no value {name_owner(path[:-1])}", hint, at="key")
        findings.silence(path)
