"""The relay asks this of a source, which posts events in its own way.

Its models name the kinds of an event's properties. A model describes and never refuses: what is of another kind is
noted by the property's name, and the event goes on as it was sent. Whatever needs that property then says so itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from app.errors import Mistake, Refusal
from app.model.event import Act, Person
from app.model.value import dataclass


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


class Verified(NamedTuple):
    """The recipe by which a body's signature holds."""

    recipe: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as its source sent it.

    `topic` under its one name; `source_id`: the source's own id of this webhook, the same on each of its retries;
    `sent_at`: ms since the epoch; numbers in `payload` keep their text; `notes`: properties of another kind than usual.
    """

    topic: str
    source_id: str | None
    sent_at: int | None
    payload: dict[str, Any]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A sender of events. A module that has all of this is one: see app/sources/__init__.py."""

    name: str
    """What its path ends with (`/webhooks/NAME`), and what its events are stored under."""
    title: str
    """What people call it."""
    topics: Mapping[str, str]
    """Every topic that is known, under its one name, with what it tells."""
    spellings: Mapping[str, str]
    """Other names of topics, each with the one name."""
    properties: Mapping[str, Collection[str]]
    """By topic: dotted paths that its event may well hold. An open list: others may come."""
    aims: Mapping[str, Act]
    """By topic: what a message about it is meant to bring about; for any other topic: an order."""
    tellers: Mapping[Act, str]
    """By act: the topic whose events tell of it; where none has come, nobody knows."""
    cures: Mapping[Mistake, str]
    """What to do where a webhook's secret does not fit."""

    def find_model(self, topic: str, /) -> type[Properties]:
        """Return what the events of a topic are expected to hold."""

    def canonical_topic(self, text: str, /) -> str:
        """Return the topic under its one name; a text that is no known topic comes back stripped."""

    def find_mistake(self, headers: Mapping[str, str], secrets: Sequence[str], /) -> Mistake | None:
        """Return what is wrong with a webhook's secret, before its body is read; None if it fits one of `secrets`.

        The names in `headers` are lower case, here and below. Never raises.
        """

    def verify(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Sequence[str],
        /,
        *,
        only: str = "",
        thorough: bool = False,
    ) -> Verified | Mistake:
        """Return the recipe by which the body is signed with one of `secrets`, or why there is none. Never raises.

        `only`: no other recipe counts. `thorough`: every likely content is tried, and not the raw body alone.
        """

    def read_topic(self, headers: Mapping[str, str], /) -> str:
        """Return the topic that a webhook's headers name, "" if none."""

    def read(self, headers: Mapping[str, str], body: bytes, /) -> Envelope | Refusal:
        """Return the event in a webhook, or what is wrong with it. Never raises."""

    def find_person(self, payload: Mapping[str, Any], /) -> Person:
        """Return whom an event is about."""

    def read_acts(self, topic: str, payload: Mapping[str, Any], /) -> tuple[Act, ...]:
        """Return what an event tells that its customer did; () for most. `topic` under its one name."""
