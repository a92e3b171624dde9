"""The kinds of an event's properties, which a source's models name.

A model describes and never refuses: what is of another kind is noted by the property's name, and the event goes on as
it was sent. Whatever needs that property then says so itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo


class Kind(StrEnum):
    """A property is expected to be of this kind, as a note puts it."""

    TEXT = "a text"
    NUMBER = "a number"
    INSTANT = "a date"
    NAME = "a name"
    MOBILE = "a mobile number"
    COUNTRY = "a country"
    ID = "an id"
    OWN_ID = "the source's own id"
    OBJECT = "an object"
    ANY = "anything"


_Digits = Annotated[str, Field(pattern=r"\d|^\s*$")]
Text = Annotated[str | int | float | None, Kind.TEXT]
Number = Annotated[int | float | _Digits | None, Kind.NUMBER]
Instant = Annotated[_Digits | int | float | None, Kind.INSTANT]
Name = Annotated[str | int | float | None, Kind.NAME]
Mobile = Annotated[_Digits | int | None, Kind.MOBILE]
Country = Annotated[str | int | dict[str, Any] | None, Kind.COUNTRY]
Id = Annotated[str | int | None, Kind.ID]
OwnId = Annotated[str | int | None, Kind.OWN_ID]
Anything = Annotated[Any, Kind.ANY]


class Properties(BaseModel):
    """An object of an event may hold these; every property may be missing, and others may come."""

    # Strict: a `true` is no number. Built when first asked for: a start has no use of most families.
    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)


def list_properties(
    model: type[BaseModel], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Kind, FieldInfo]]:
    """Yield every property of a model in its order, those of an object after the object."""
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        inner = next((each for each in get_args(field.annotation) if _is_model(each)), None)
        yield path, next((each for each in field.metadata if isinstance(each, Kind)), Kind.OBJECT), field
        if inner is not None:
            yield from list_properties(inner, path)


def find_notes(model: type[BaseModel], payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note for each property that is of another kind; it has the property's name, and never its value."""
    try:
        model.__pydantic_validator__.validate_python(payload)
    except ValidationError as error:
        kinds = {path: kind for path, kind, _ in list_properties(model)}
        notes = {}  # a property of several kinds has a fault for each of them
        for fault in error.errors(include_url=False, include_context=False):
            if fault["type"] == "invalid_key":  # one that is no text: JSON has none, a caller's dict may
                continue
            path = next(path for depth in (2, 1) if (path := tuple(map(str, fault["loc"][:depth]))) in kinds)
            notes[path] = f"`{'.'.join(path)}` is {_name_kind(fault['input'])}, not {kinds[path]}"
        return tuple(notes.values())
    return ()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _name_kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return "a number"
