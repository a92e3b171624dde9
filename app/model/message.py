"""A filled template for one recipient. Instants are ms since the Unix epoch, UTC."""

from __future__ import annotations

from typing import ClassVar, Literal

from app.model.delivery import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A filled template variable; `name` is None where the template counts ({{1}}, {{2}}, …)."""

    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """A template's header: a media URL (with an optional file name) or a text."""

    kind: str  # image, video, document or text
    value: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A template's header that shows a place on the map; degrees are texts, as they were sent."""

    kind: ClassVar[Literal["location"]] = "location"
    filename: ClassVar[None] = None

    latitude: str
    longitude: str
    name: str
    address: str

    @property
    def value(self) -> str:
        """Return what the customer reads below the map."""
        return f"{self.name}, {self.address}"


@dataclass(frozen=True, slots=True)
class Button:
    """A button is filled by a URL's suffix (already URL-encoded), a code, a payload or a token, by `kind`."""

    index: int
    value: str
    kind: str = "url"


@dataclass(frozen=True, slots=True)
class Message:
    """A filled template for one recipient, frozen at intake: never rendered again.

    `recipient` is E.164 with its plus sign (`+919800000001`); `recipient_name` may be empty. `offer_ends_at`: when a
    limited-time offer is over.
    """

    recipient: str
    template: str
    recipient_name: str = ""
    language: str | None = None
    variables: tuple[Variable, ...] = ()
    header: Header | Location | None = None
    buttons: tuple[Button, ...] = ()
    offer_ends_at: int | None = None
