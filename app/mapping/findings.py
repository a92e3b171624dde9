"""Findings gather the problems of a file while it is checked, with their places, each fault once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.mapping import Path, Problem, ask_similar, find_similar, list_leaves
from app.mapping.document import Document
from app.mapping.fields import ReadAs
from app.model.delivery import INTAKE_REASONS

Model = TypeVar("Model", bound=BaseModel)


class Findings:
    """Collects the problems of one file. What lies under a silenced path is part of a fault already told."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems = list(document.problems)
        self._silenced = set(document.refused)

    def error(self, path: Path, message: str, hint: str = "", *, at: Literal["key", "value"] = "value") -> None:
        """Report a fault at a path."""
        place = self.document.find_place(path)
        mark = place.key if at == "key" or path not in self.document.places else place.value
        self.problems.append(Problem("error", *mark, message, hint))

    def warn(self, path: Path, message: str, hint: str = "", *, at: Literal["key", "value"] = "value") -> None:
        """Report a doubt at a path."""
        self.error(path, message, hint, at=at)
        self.problems[-1] = replace(self.problems[-1], severity="warning")

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
            place = _locate_fault(fault, data)
            faulty.add(place[0] if place else None)
            lacks = fault["type"] == "missing" and (*path, *place[:-1]) in self.document.incomplete
            if not lacks and not self.is_silenced((*path, *place)):
                described = _describe_fault(fault, place, data, model, path)
                if described is not None:
                    message, hint, at = described
                    self.error((*path, *place), message, hint, at=at)
            if fault["type"] == "extra_forbidden" and (
                meant := _find_meant(str(place[-1]), _list_keys(model, place[:-1]))
            ):
                self.silence((*path, *place[:-1], meant))  # what is said of its being missing is the same fault
        self._silenced |= {(*path, key) for key in faulty if key is not None}
        sound = {key: value for key, value in data.items() if key not in faulty}
        try:
            return _validate(model, sound, context)
        except ValidationError:
            return None


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
        findings.error(path, f"{key} has no value {_name_owner(path[:-1])}", hint, at="key")
        findings.silence(path)


# -- pydantic's faults in our own words: the fault and its cure, never a value or an internal name --

Described = tuple[str, str, Literal["key", "value"]]

_SIMPLE = {
    "string_type": ("must be a text", "put it in quotes"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), ("must be a whole number", "")),
    "bool_type": ("must be true or false", ""),
    **dict.fromkeys(("list_type", "tuple_type"), ("must be a list", "write [a, b], or one `- a` a line")),
    **dict.fromkeys(
        ("dict_type", "model_type", "model_attributes_type"), ("must be a mapping", "write `key: value` below it")
    ),
    "string_too_short": ("must not be empty", ""),
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
# What to write instead, where the key itself tells more than its kind does.
_CURES = {
    "valid_for": "add the unit: 24h, 7d",
    "timeout": "add the unit: 10s",
    "header": "write {text: …}, {image: …}, {video: …} or {document: …}",
    "buttons": "write `- index: 0`, and `url: …` below it",
}
# Words of other tools, for keys of ours that are spelt quite differently.
_MEANT = {
    **dict.fromkeys(("topic", "trigger", "on"), "event"),
    **dict.fromkeys(("params", "parameters", "properties", "values", "placeholders"), "variables"),
    **dict.fromkeys(("if", "condition", "filter", "where"), "when"),
    **dict.fromkeys(("to", "phone", "mobile", "number"), "recipient"),
    **dict.fromkeys(("account", "channel", "integration"), "provider"),
    **dict.fromkeys(("ttl", "expires", "expires_in", "max_age"), "valid_for"),
    **dict.fromkeys(("input", "payload", "given"), "event"),
    **dict.fromkeys(("expect", "expected", "output"), "sends"),
}
_NAMES = {"routes": "route", "providers": "provider"}


def _locate_fault(fault: ErrorDetails, data: Any) -> Path:
    """Return where in `data` a fault lies, without pydantic's own additions to the path."""
    found: list[str | int] = []
    value = data
    for part in fault["loc"]:
        inside = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if part in inside:
            value = value[part]
            found.append(part)
    if fault["type"] == "missing":
        found.append(fault["loc"][-1])
    return tuple(found)


def _describe_fault(
    fault: ErrorDetails, place: Path, data: Any, model: type[BaseModel], path: Path
) -> Described | None:
    """Return (message, hint, where to point); None where another fault of the same data already says it."""
    kind, context = fault["type"], fault.get("ctx", {})
    where = _name_owner((*path, *place[:-1]))
    key = _name_key((*path, *place))
    if kind == "missing":
        return _describe_missing(place, data, model, where)
    if kind == "extra_forbidden":
        return f'unknown key "{place[-1]}" {where}', _correct_key(place, _list_keys(model, place[:-1])), "key"
    if fault["loc"][-1:] == ("[key]",):
        return f'"{place[-1]}" is not a name {where}', "use letters, digits and _", "key"
    if kind in _SIMPLE:
        message, hint = _SIMPLE[kind]
        return f"{key} {message}", _CURES.get(str(place[-1]), hint) if place else hint, "value"
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        if not choices:
            return f"{key} must be {context['expected']}", "", "value"
        choices = [*INTAKE_REASONS] if place[-1] == "dead" else choices
        written = _step_into(data, place)
        hint = ask_similar(written if isinstance(written, str) else "", choices)
        return f"{key} has an unknown value {where}", hint, "value"
    if kind in _BOUNDS:
        name, said = _BOUNDS[kind]
        return f"{key} is out of range: {said} {context[name]}", "", "value"
    if kind in ("value_error", "source", "variables"):
        told = str(context["error"]) if kind == "value_error" else fault["msg"]
        message, _, hint = told.partition("; ")
        return f"{key}: {message}", hint, "value"
    return f"{key} is not valid {where}", "", "value"


def _describe_missing(place: Path, data: Any, model: type[BaseModel], where: str) -> Described | None:
    """A key that is misspelt is told once, as unknown; not a second time as missing."""
    owner = _step_into(data, place[:-1])
    known = _list_keys(model, place[:-1])
    unknown = [key for key in owner if key not in known] if isinstance(owner, Mapping) else []
    if unknown and (len(known) == 1 or any(_find_meant(key, known) == place[-1] for key in unknown)):
        return None
    hint = "write `version: 1`" if place == ("version",) else ""
    hint = "the properties stand below `event:`" if place[-1] == "event" and len(place) > 1 else hint
    return f'"{place[-1]}" is missing {where}', hint, "key"


def _find_meant(key: str, known: Sequence[str]) -> str | None:
    """Return the key that was meant by one that is not known, None if that cannot be told."""
    meant = _MEANT.get(key.lower())
    return meant if meant in known else find_similar(key, known)


def _correct_key(place: Path, known: Sequence[str]) -> str:
    key = str(place[-1])
    if "|" in key:  # an expression that YAML took for a mapping
        return 'the argument of a filter stands in brackets: user_name | default("there")'
    if place[0] == "variables" and isinstance(place[-2], int) and find_similar(key, known) is None:
        return f"variables by name stand without dashes: `{key}: …`; a fixed text is {{text: …}}"
    return ask_similar(_find_meant(key, known) or key, known)


def _list_keys(model: type[BaseModel], place: Path) -> list[str]:
    """Return the keys that may stand at `place` inside a model."""
    models = [model]
    for part in place:
        fields = [found.model_fields[part] for found in models if isinstance(part, str) and part in found.model_fields]
        # An index or a free key stays inside the models that its list or mapping holds.
        written = [each for field in fields for each in (field.annotation, *field.metadata)]
        models = [inner for each in written for inner in _find_models(each)] if fields else models
    # What a model adds to the one it is made from comes first: `event` and `template` before `priority`.
    ordered = (key for found in models for key in (*found.__annotations__, *found.model_fields))
    known = {key for found in models for key in found.model_fields}
    return list(dict.fromkeys(key for key in ordered if key in known))


def _find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in (annotation.written,) if isinstance(annotation, ReadAs) else get_args(annotation):
        yield from _find_models(inner)


def _name_owner(path: Path) -> str:
    """Return `in route "coins-earned"`, `in store`, or `at the top of the file`."""
    if not path:
        return "at the top of the file"
    section = str(path[0])
    return f'in {_NAMES[section]} "{path[1]}"' if section in _NAMES and len(path) > 1 else f"in {section}"


def _name_key(path: Path) -> str:
    last = path[-1]
    if isinstance(last, int):
        name = next((part for part in reversed(path) if isinstance(part, str)), "")
        return f'"{name}" item {last + 1}'
    return f'"{last}"'


def _step_into(data: Any, place: Path) -> Any:
    for part in place:
        data = data[part]
    return data
