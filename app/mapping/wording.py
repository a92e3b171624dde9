"""pydantic's faults in our own words: what is wrong and the cure, never a value or an internal name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, Discriminator
from pydantic_core import ErrorDetails

from app.mapping.problems import Path, ask_similar, find_similar

EXPRESSION, LIST, MAP = "~expression", "~list", "~map"
"""Names of the branches of a union; pydantic puts them into an error's path."""
_BRANCHES: Mapping[type, str] = {str: EXPRESSION, list: LIST, dict: MAP}

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


def choose_branch(kind: str, told: str) -> Discriminator:
    """Return what chooses a union's branch by a value's kind, and tells `told` where there is none."""
    return Discriminator(lambda value: _BRANCHES.get(type(value)), custom_error_type=kind, custom_error_message=told)


def locate_fault(fault: ErrorDetails, data: Any) -> Path:
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


def describe_fault(fault: ErrorDetails, place: Path, data: Any, model: type[BaseModel], path: Path) -> Described | None:
    """Return (message, hint, where to point); None where another fault of the same data already says it."""
    kind, context = fault["type"], fault.get("ctx", {})
    where = name_owner((*path, *place[:-1]))
    key = _name_key((*path, *place))
    if kind == "missing":
        return _describe_missing(place, data, model, where)
    if kind == "extra_forbidden":
        return f'unknown key "{place[-1]}" {where}', _correct_key(place, list_keys(model, place[:-1])), "key"
    if fault["loc"][-1:] == ("[key]",):
        return f'"{place[-1]}" is not a name {where}', "use letters, digits and _", "key"
    if kind in _SIMPLE:
        message, hint = _SIMPLE[kind]
        return f"{key} {message}", _CURES.get(str(place[-1]), hint) if place else hint, "value"
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        if not choices:
            return f"{key} must be {context['expected']}", "", "value"
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
    known = list_keys(model, place[:-1])
    unknown = [key for key in owner if key not in known] if isinstance(owner, Mapping) else []
    if unknown and (len(known) == 1 or any(find_meant(key, known) == place[-1] for key in unknown)):
        return None
    hint = "the properties stand below `event:`" if place[-1] == "event" and len(place) > 1 else ""
    return f'"{place[-1]}" is missing {where}', hint, "key"


def find_meant(key: str, known: Sequence[str]) -> str | None:
    """Return the key that was meant by one that is not known, None if that cannot be told."""
    meant = _MEANT.get(key.lower())
    return meant if meant in known else find_similar(key, known)


def _correct_key(place: Path, known: Sequence[str]) -> str:
    key = str(place[-1])
    if "|" in key:  # an expression that YAML took for a mapping
        return 'the argument of a filter stands in brackets: user_name | default("there")'
    if place[0] == "variables" and isinstance(place[-2], int) and find_similar(key, known) is None:
        return f"variables by name stand without dashes: `{key}: …`; a fixed text is {{text: …}}"
    return ask_similar(find_meant(key, known) or key, known)


def list_keys(model: type[BaseModel], place: Path) -> list[str]:
    """Return the keys that may stand at `place` inside a model."""
    models = [model]
    for part in place:
        fields = [found.model_fields[part] for found in models if isinstance(part, str) and part in found.model_fields]
        # An index or a free key stays inside the models that its list or mapping holds.
        models = [inner for field in fields for inner in _find_models(field.annotation)] if fields else models
    # What a model adds to the one it is made from comes first: `event` and `template` before `priority`.
    ordered = (key for found in models for key in (*found.__annotations__, *found.model_fields))
    known = {key for found in models for key in found.model_fields}
    return list(dict.fromkeys(key for key in ordered if key in known))


def _find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _find_models(inner)


def name_owner(path: Path) -> str:
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
