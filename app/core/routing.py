"""Routes: which of them an event hits, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.core.expressions import Expression
from app.core.models import Mode, OnUnknown


@dataclass(frozen=True, slots=True)
class Constant:
    """A fixed text in the YAML: `{text: Acme}`."""

    text: str


Source = Expression | Constant
"""Where a value comes from."""


@dataclass(frozen=True, slots=True)
class VariableSource:
    """A template variable; `name` is None where the route lists them by position."""

    name: str | None
    source: Source


@dataclass(frozen=True, slots=True)
class HeaderSource:
    """`header: {image: EXPR, filename: EXPR}`."""

    kind: Literal["image", "video", "document", "text"]
    source: Source
    filename: Source | None = None


@dataclass(frozen=True, slots=True)
class ButtonSource:
    """`buttons: [{index: 0, url: EXPR}]`."""

    index: int
    url: Source


@dataclass(frozen=True, slots=True)
class Example:
    """One `examples:` entry: an event, and what should come of it.

    `sends`: {to, variables, text, provider, …} as written, None if not given. `hits` False: the route must
    not fire. `dead`: the reason it must die with.
    """

    event: Mapping[str, Any]
    sends: Mapping[str, Any] | None
    hits: bool
    dead: str | None
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `routes:`, compiled. Durations are ms; `live_from` is an instant."""

    name: str
    topic: str  # canonical, see core.nector.canonical_topic
    provider: str
    template: str
    variables: tuple[VariableSource, ...] = ()
    when: Expression | None = None
    recipient: Expression | None = None  # None: the usual places, see core.phone
    language: str | None = None
    header: HeaderSource | None = None
    buttons: tuple[ButtonSource, ...] = ()
    valid_for_ms: int = 86_400_000
    valid_until: Expression | None = None
    dedup_by: Expression | None = None
    on_unknown: OnUnknown = "hold"
    mode: Mode = "live"
    live_from: int | None = None
    priority: int = 0
    examples: tuple[Example, ...] = ()
    line: int = 0
    column: int = 0
