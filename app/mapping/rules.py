"""Routes: which of them an event hits, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.parts import ButtonSource, HeaderSource, Source, VariableSource
from app.mapping.provider import ProviderSettings
from app.mapping.template import Room
from app.model.delivery import Mode, OnUnknown
from app.model.event import Event
from app.sources import SOURCE
from app.values.path import look_up, read_path


@dataclass(frozen=True, slots=True)
class Example:
    """One `examples:` entry: an event, and what it sends (as written), or `hits` False, or the reason it is dead."""

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
    topic: str  # canonical, see Source.canonical_topic
    provider: str
    template: str
    variables: tuple[VariableSource, ...] = ()
    when: Expression | None = None
    recipient: Expression | None = None  # None: the usual places, see message.recipient
    country: Source | None = None  # the recipient's; None: the nearest in the event, else the store's
    language: str | Expression | None = None
    header: HeaderSource | None = None
    buttons: tuple[ButtonSource, ...] = ()
    offer: Expression | None = None  # the end of a limited-time offer
    rooms: Mapping[str, Room] = field(default_factory=dict)  # by language; none where its template is not known
    valid_for_ms: int = 86_400_000
    valid_until: Expression | None = None
    dedup_by: Expression | None = None
    on_unknown: OnUnknown = "hold"
    mode: Mode = "live"
    live_from: int | None = None
    only: frozenset[str] | None = None  # E.164; None: everybody
    priority: int = 0
    marketing: bool = True  # by its template's category; where that is not known, loyalty messages are
    examples: tuple[Example, ...] = ()
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """The event is for this route."""

    route: Route


@dataclass(frozen=True, slots=True)
class Miss:
    """The event is not for this route; `detail` names fields, never values."""

    route: Route
    why: Literal["topic", "when"]
    detail: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Nobody can tell whether the event is for this route."""

    route: Route
    detail: str


Match = Hit | Miss | Broken


@dataclass(frozen=True, slots=True)
class Explanation:
    """One route's answer, for people. `reads`: what its condition read, (dotted path, value or None)."""

    match: Match
    condition: str
    reads: tuple[tuple[str, Any], ...]


class RouteTable:
    """Routes by topic, built once for each version of the YAML; in the order of the file."""

    __slots__ = ("_by_topic",)

    def __init__(self, routes: Iterable[Route]) -> None:
        by_topic: dict[str, tuple[Route, ...]] = {}
        for route in routes:
            topic = SOURCE.canonical_topic(route.topic)
            by_topic[topic] = (*by_topic.get(topic, ()), route)
        self._by_topic = by_topic

    def for_topic(self, topic: str) -> tuple[Route, ...]:
        """Return the routes that wait for a topic, under whichever of its names."""
        return self._by_topic.get(SOURCE.canonical_topic(topic), ())


def match_route(route: Route, event: Event) -> Match:
    """Tell whether `event` is for `route`. One that reads something missing is false; unreadable is not missing."""
    if SOURCE.canonical_topic(event.topic) != SOURCE.canonical_topic(route.topic):
        return Miss(route, "topic", f"it waits for {route.topic}")
    if route.when is None:
        return Hit(route)
    value = route.when.evaluate(event.payload)
    if isinstance(value, Failed):
        return Broken(route, f"`when` cannot be worked out: {value.detail}")
    if isinstance(value, Missing) and value.unreadable:
        return Broken(route, f"`when` cannot be worked out: `{value.name}` {value.why}")
    if isinstance(value, Missing):
        return Miss(route, "when", f"`when` is false, since `{value.name}` {value.why}")
    # Numbers may come as texts, and so may truth.
    is_true = value.strip().casefold() not in {"false", "0"} if isinstance(value, str) else bool(value)
    return Hit(route) if is_true else Miss(route, "when", f"`when: {route.when.source}` is false")


def explain_routes(routes: Sequence[Route], event: Event) -> tuple[Explanation, ...]:
    """Return for every route whether the event hits it, and what its condition read."""
    return tuple(_explain_route(route, event) for route in routes)


def _explain_route(route: Route, event: Event) -> Explanation:
    match = match_route(route, event)
    if route.when is None or (isinstance(match, Miss) and match.why == "topic"):
        return Explanation(match, route.when.source if route.when else "", ())
    reads = tuple((name, look_up(event.payload, read_path(name))) for name in sorted(route.when.names))
    return Explanation(match, route.when.source, reads)


@dataclass(frozen=True, slots=True)
class Store:
    """The merchant: how to read a number without a country code, and how to write money and dates."""

    country: str = "IN"  # ISO 3166 alpha-2
    timezone: str = "Asia/Kolkata"
    locale: str = "en_IN"
    landlines: bool = False  # whether they get messages, too
    day_ends: str = ""  # when a date without a time is over ("22:00"); "": with the day
    stop_words: tuple[str, ...] = ()  # beside those of values.stop_words
    start_lifts: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """A checked YAML file. `hash` names its version; `only`: the numbers (E.164) that get messages, None: all."""

    mode: str
    store: Store
    providers: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    hash: str
    only: frozenset[str] | None = None
