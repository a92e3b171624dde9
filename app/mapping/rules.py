"""The sections of the YAML become values, and a route tells whether an event hits it, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from app.mapping import fields
from app.mapping.expression import Failed, Missing
from app.mapping.fields import ButtonSource, ExpressionText, Fields, HeaderSource, ReadAs
from app.mapping.provider import ProviderSettings
from app.mapping.template import Room
from app.model.delivery import Mode, OnUnknown, Reason
from app.model.event import Event
from app.model.message import NO_LIMITS, Limits
from app.model.value import dataclass
from app.sources import SOURCE


class Store(Fields):
    """The merchant: how numbers without a country code are read, and how money and dates are written."""

    country: fields.Country = Field(
        "IN", description="ISO 3166 code: the country of a mobile number that comes without one.", examples=["IN", "AE"]
    )
    timezone: fields.Timezone = Field(
        "Asia/Kolkata", description="IANA timezone in which dates are written.", examples=["Asia/Kolkata"]
    )
    locale: fields.LocaleName = Field(
        "en_IN", description="How numbers, money and dates are written.", examples=["en_IN", "hi_IN"]
    )
    landlines: Annotated[bool, ReadAs(Literal["refuse", "allow"], lambda written, _: written == "allow")] = Field(
        False,
        description="allow: a landline may be on WhatsApp, too; it gets messages like a mobile.",
        json_schema_extra={"default": "refuse"},
    )
    day_ends: fields.DayEnds = Field(
        "",
        description="When a valid_until without a time is over. Where written, midnight counts as no time, too.",
        examples=["24:00", "22:00"],
        json_schema_extra={"pattern": r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"},
    )
    stop_words: tuple[fields.StopWord, ...] = Field(
        (),
        max_length=50,
        description="Replies that end marketing for whoever sends just that, beside stop, unsubscribe and the like.",
        examples=[["bas karo"]],
    )
    start_lifts: bool = Field(
        default=True, description="false: a reply of START does not bring marketing back; a person has to."
    )


class SendsFields(Fields):
    """The message that an example expects; only the keys given are compared."""

    to: str | None = Field(None, description="The recipient in E.164.", examples=["+919800000001"])
    variables: fields.ExpectedVariables | None = Field(None, description="The filled variables, in order or by name.")
    text: str | None = Field(None, description="The whole body, as in config/templates.yaml.")
    provider: str | None = Field(None, description="The provider's name.")
    template: str | None = Field(None, description="The template's name or id.")
    language: str | None = Field(None, description="The template's language.")
    header: str | None = Field(None, description="The filled header: its URL or text.")
    buttons: list[str] | None = Field(None, description="What fills the buttons, in order.")
    limited_time_offer: str | None = Field(None, description="When the offer ends, as 2026-12-31T18:29:59.000Z.")


class ExampleFields(Fields):
    """An event, and what should come of it: `sends`, or `hits: false`, or `dead: REASON`."""

    event: dict[str, JsonValue] = Field(description="The event's JSON, with invented values.")
    sends: Annotated[Mapping[str, Any] | None, ReadAs(SendsFields | None, lambda sends, _: sends and dict(sends))] = (
        Field(None, description="What is sent; only the keys given are compared.")
    )
    hits: bool = Field(default=True, description="false: `when` keeps the event away from this route.")
    dead: Reason | None = Field(None, description="The reason for which nothing can be sent.")

    @model_validator(mode="after")
    def _check_expectation(self) -> ExampleFields:
        if len(self.model_fields_set & {"sends", "hits", "dead"}) > 1 and not (self.hits and self.dead is None):
            raise ValueError("an example expects one thing; keep one of sends, hits: false, dead")
        return self


class Example(ExampleFields):
    """An example with its place; its event and what it sends are as read, so that numbers keep their text."""

    line: int
    column: int


class RouteLimits(Fields):
    """A route sends at most so many messages in a time."""

    person: fields.LimitText | None = Field(
        None, description="At most so many to one person in a time; the next one waits.", examples=["10/d", "2/h"]
    )
    route: fields.LimitText | None = Field(
        None, description="At most so many by one route; then the route is on hold.", examples=["2000/h"]
    )


class LimitsFields(RouteLimits):
    """The relay sends at most so many messages in a time, whoever has them sent."""

    all: fields.LimitText | None = Field(
        None, description="At most so many in all; then their provider is on hold.", examples=["5000/h"]
    )


class DefaultsFields(Fields):
    """The values that every route has unless it says otherwise."""

    provider: fields.ProviderName = Field("", description="A name under `providers:`.")
    language: fields.LanguageText = Field(
        None,
        description="Language of the template, as at WhatsApp, or an expression with a fallback.",
        examples=["en", "hi", "en_US", 'customer.language | default("en")'],
    )
    recipient: fields.Recipient = Field(
        fields.RecipientFields(),
        description="The mobile number; default: the first of user_mobile, mobile, customer.mobile, lead.mobile.",
        examples=["customer.mobile"],
    )
    valid_for: fields.ValidFor = Field(
        86_400_000,
        description="Not sent when older than this: 90s, 6h, 7d; at most 30d.",
        examples=["6h", "24h", "7d"],
        json_schema_extra={"default": "24h"},
    )
    on_unknown: OnUnknown = Field(
        "hold", description="When nobody knows whether it was sent: hold it for a person, or resend (may send twice)."
    )
    mode: Mode = Field("live", description="shadow: record what would be sent, send nothing.")
    live_from: fields.LiveFrom = Field(
        None, description="Events before this instant are recorded only.", examples=["2026-10-01T00:00:00+05:30"]
    )
    only: fields.Only | None = None
    limits: RouteLimits = Field(
        default_factory=RouteLimits,
        description="What one route may send in a time; `person`: of this route's messages to one person.",
    )
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first within its route's turn.")


def _read_switch(value: Any) -> Any:
    # `when: false` is how people switch a route off; it reads as the expression it also is.
    return str(value).lower() if isinstance(value, bool) else value


class RouteFields(DefaultsFields):
    """One message: a topic and a condition, the provider, the template, the variables."""

    event: Annotated[str, AfterValidator(SOURCE.canonical_topic)] = Field(
        min_length=1, description="Nector's topic, such as walletreward_create."
    )
    template: str = Field(min_length=1, description="Gallabox: the template's name. BiteSpeed: its ID.")
    variables: fields.Variables = Field(
        (),
        description="Expressions for {{1}}, {{2}}, … in order, or a mapping by name.",
        examples=[['user_name | default("there")', "amount | number"]],
    )
    when: Annotated[ExpressionText | None, BeforeValidator(_read_switch)] = Field(
        None,
        description="Only events for which this expression is true.",
        examples=["fiat_value | float > 0", 'user_tier == "Gold"'],
    )
    header: HeaderSource | None = Field(None, description="The variable part of the template's header.")
    buttons: tuple[ButtonSource, ...] = Field((), description="What its buttons need.")
    limited_time_offer: ExpressionText | None = Field(
        None, description="The instant to which the template's offer counts down.", examples=["expire"]
    )
    valid_until: ExpressionText | None = Field(
        None, description="Not sent after the instant it comes to.", examples=["expire"]
    )
    dedup_by: ExpressionText | None = Field(
        None,
        description="The same value for the same route and recipient within 30 days is sent once.",
        examples=["order_id", "expire"],
    )
    examples: tuple[ExampleFields, ...] = Field((), description="Run by `nector-relay check`.")


class Route(RouteFields):
    """One entry of `routes:` with its name, its place, and what its template says. Durations are ms."""

    name: str
    rooms: Mapping[str, Room] = {}  # by language; none where its template is not known
    marketing: bool = True  # by its template's category; where that is not known, loyalty messages are
    examples: tuple[Example, ...] = ()
    line: int = 0
    column: int = 0

    @property
    def topic(self) -> str:
        """The event's topic under its one name, see Source.canonical_topic."""
        return self.event


class FileFields(Fields):
    """The whole file. Sections are checked one by one, so that one fault does not hide the next."""

    version: Literal[1] = Field(description="Version of this format.")
    mode: Mode = Field("live", description="shadow: record what would be sent, send nothing.")
    only: fields.Only | None = None
    limits: LimitsFields = Field(
        default_factory=LimitsFields, description="What may be sent in a time: to one person, by one route, by all."
    )
    store: Store = Field(default_factory=Store, description="The merchant.")
    providers: dict[str, JsonValue] = Field(description="Accounts that send WhatsApp messages, by a name of yours.")
    defaults: DefaultsFields = Field(
        default_factory=DefaultsFields, description="Saves repetition: what every route has unless it says otherwise."
    )
    routes: dict[str, RouteFields] = Field(description="Which event sends which template, by a name of yours.")


@dataclass(frozen=True)
class Config:
    """A checked YAML file. `hash` names its version; `only`: the numbers (E.164) that get messages, None: all."""

    mode: str
    store: Store
    providers: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    hash: str
    only: frozenset[str] | None = None
    limits: Limits = NO_LIMITS

    def find_routes(self, topic: str) -> tuple[Route, ...]:
        """Return the routes that wait for a topic, under whichever of its names; in the order of the file."""
        return self._by_topic.get(SOURCE.canonical_topic(topic), ())

    @cached_property
    def _by_topic(self) -> Mapping[str, tuple[Route, ...]]:
        by_topic: dict[str, tuple[Route, ...]] = {}
        for route in self.routes:
            by_topic[route.event] = (*by_topic.get(route.event, ()), route)
        return by_topic


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


def match_route(route: Route, event: Event) -> Match:
    """Tell whether `event` is for `route`. One that reads something missing is false; unreadable is not missing."""
    if SOURCE.canonical_topic(event.topic) != route.event:
        return Miss(route, "topic", f"it waits for {route.event}")
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
