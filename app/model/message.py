"""A filled template for one recipient. Instants are ms since the Unix epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Variable:
    """A filled template variable; `name` is None where the template counts ({{1}}, {{2}}, …)."""

    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """A template's header: a media URL (with an optional file name) or a text."""

    kind: Literal["image", "video", "document", "text"]
    value: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A URL button's suffix after the template's fixed part, already URL-encoded."""

    index: int
    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """A filled template for one recipient, frozen at intake: never rendered again.

    `recipient` is E.164 with its plus sign (`+919800000001`); `recipient_name` may be empty.
    """

    recipient: str
    template: str
    recipient_name: str = ""
    language: str | None = None
    variables: tuple[Variable, ...] = ()
    header: Header | None = None
    buttons: tuple[Button, ...] = ()
