"""The relay asks this of a source, which posts events in its own way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from app.errors import Mistake, Refusal
from app.model.event import Act, Person
from app.model.value import dataclass
from app.sources.kinds import Properties


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
