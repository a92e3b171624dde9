"""The YAML file as written: one model a section. mapping.parse turns them into values that are ready for use."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale, UnknownLocaleError
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, Tag, ValidationInfo, model_validator

from app.mapping.parts import (
    EXPRESSION,
    LIST,
    MAP,
    ButtonSource,
    Constant,
    ExpressionText,
    Fields,
    HeaderSource,
    LanguageText,
    SourceText,
    choose_branch,
)
from app.mapping.problems import ask_similar
from app.model.delivery import Mode, OnUnknown, Reason
from app.values.country import read_country, to_country
from app.values.duration import format_duration, parse_duration, parse_live_from
from app.values.stop_words import LONGEST_STOP_WORD, fold_words

LONGEST_VALID_MS = parse_duration("30d")  # WhatsApp itself gives up then
"""https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/time-to-live"""


def _check_provider(name: str, info: ValidationInfo) -> str:
    context: Any = info.context
    known = context["providers"]
    if known and name not in known:
        raise ValueError(f'unknown provider "{name}"; {ask_similar(name, known)}')
    return name


def _check_valid_for(text: str) -> str:
    if not 0 < parse_duration(text) <= LONGEST_VALID_MS:
        raise ValueError(f"must be more than 0s and at most {format_duration(LONGEST_VALID_MS)}")
    return text


def _check_country(code: str) -> str:
    country = to_country(code)
    if country is None:
        raise ValueError("unknown country; write its ISO 3166 code of two letters, such as IN")
    return country


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, not a name, or a folder of them ("Asia")
        cure = ask_similar(name, available_timezones(), "write a name such as Asia/Kolkata", cutoff=0.8)
        raise ValueError(f"unknown timezone; {cure}") from None
    return name


def _check_locale(name: str) -> str:
    try:
        Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        raise ValueError("unknown locale; write language and country, such as en_IN") from None
    return name


def _check_day_ends(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00", text) or text == "00:00":
        raise ValueError('must be a time of day in quotes, such as "22:00"; "24:00" is the end of the day')
    return text


def _check_live_from(text: str) -> str:
    parse_live_from(text)
    return text


def _check_number(text: str) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{7,14}", text):
        raise ValueError('must be a number with its country code, in quotes: "+919800000001"')
    return text


def _check_stop_word(text: str) -> str:
    if not fold_words(text) or len(text) > LONGEST_STOP_WORD:
        raise ValueError(f"must be a word or a few, at most {LONGEST_STOP_WORD} characters, such as bas karo")
    return text


def _read_switch(value: Any) -> Any:
    # `when: false` is how people switch a route off; it reads as the expression it also is.
    return str(value).lower() if isinstance(value, bool) else value


ProviderName = Annotated[str, Field(min_length=1), AfterValidator(_check_provider)]
ValidFor = Annotated[str, AfterValidator(_check_valid_for)]
LiveFrom = Annotated[str, AfterValidator(_check_live_from)]
Only = Annotated[
    list[Annotated[str, AfterValidator(_check_number)]],
    Field(
        min_length=1,
        description="Only these numbers get a message; for anybody else it is recorded.",
        examples=[["+919800000001"]],
    ),
]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
VariablesFields = Annotated[
    Annotated[list[SourceText], Tag(LIST)] | Annotated[dict[VariableName, SourceText], Tag(MAP)],
    choose_branch("variables", "must be a list of expressions, or names with expressions; such as [user_name, amount]"),
]
ExpectedVariables = Annotated[
    Annotated[list[JsonValue], Tag(LIST)] | Annotated[dict[str, JsonValue], Tag(MAP)],
    choose_branch("variables", "must be a list of values, or names with values; such as [Riya, 100]"),
]


class StoreFields(Fields):
    """The merchant: how numbers without a country code are read, and how money and dates are written."""

    country: Annotated[str, AfterValidator(_check_country)] = Field(
        "IN", description="ISO 3166 code: the country of a mobile number that comes without one.", examples=["IN", "AE"]
    )
    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        "Asia/Kolkata", description="IANA timezone in which dates are written.", examples=["Asia/Kolkata"]
    )
    locale: Annotated[str, AfterValidator(_check_locale)] = Field(
        "en_IN", description="How numbers, money and dates are written.", examples=["en_IN", "hi_IN"]
    )
    landlines: Literal["refuse", "allow"] = Field(
        "refuse", description="allow: a landline may be on WhatsApp, too; it gets messages like a mobile."
    )
    day_ends: Annotated[str, AfterValidator(_check_day_ends)] = Field(
        "",
        description="When a valid_until without a time is over. Where written, midnight counts as no time, too.",
        examples=["24:00", "22:00"],
        json_schema_extra={"pattern": r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"},
    )
    stop_words: list[Annotated[str, AfterValidator(_check_stop_word)]] = Field(
        default_factory=list,
        max_length=50,
        description="Replies that end marketing for whoever sends just that, beside stop, unsubscribe and the like.",
        examples=[["bas karo"]],
    )
    start_lifts: bool = Field(
        default=True, description="false: a reply of START does not bring marketing back; a person has to."
    )


class RecipientFields(Fields):
    """The recipient in two parts; what is left out is looked for in the usual places."""

    number: ExpressionText | None = Field(None, description="The mobile number.", examples=["customer.phone"])
    country: SourceText | None = Field(
        None, description="Its country, for a number without one.", examples=["customer.country_code"]
    )

    @model_validator(mode="after")
    def _check_fixed(self) -> RecipientFields:
        if isinstance(self.country, Constant) and read_country(self.country.text) is None:
            raise ValueError("unknown country; write its ISO 3166 code of two letters, such as IN")
        return self


class SendsFields(Fields):
    """The message that an example expects; only the keys given are compared."""

    to: str | None = Field(None, description="The recipient in E.164.", examples=["+919800000001"])
    variables: ExpectedVariables | None = Field(None, description="The filled variables, in order or by name.")
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
    sends: SendsFields | None = Field(None, description="What is sent; only the keys given are compared.")
    hits: bool = Field(default=True, description="false: `when` keeps the event away from this route.")
    dead: Reason | None = Field(None, description="The reason for which nothing can be sent.")

    @model_validator(mode="after")
    def _check_expectation(self) -> ExampleFields:
        if len(self.model_fields_set & {"sends", "hits", "dead"}) > 1 and not (self.hits and self.dead is None):
            raise ValueError("an example expects one thing; keep one of sends, hits: false, dead")
        return self


class SharedFields(Fields):
    """The keys that a route may have and `defaults:` may give to every route."""

    provider: ProviderName = Field("", description="A name under `providers:`.")
    language: LanguageText = Field(
        "",
        description="Language of the template, as at WhatsApp, or an expression with a fallback.",
        examples=["en", "hi", "en_US", 'customer.language | default("en")'],
    )
    recipient: Annotated[
        Annotated[ExpressionText, Tag(EXPRESSION)] | Annotated[RecipientFields, Tag(MAP)],
        choose_branch("source", "must be an expression, or {number: …, country: …}"),
    ] = Field(
        RecipientFields(),
        description="The mobile number; default: the first of user_mobile, mobile, customer.mobile, lead.mobile.",
        examples=["customer.mobile"],
    )
    valid_for: ValidFor = Field(
        "24h", description="Not sent when older than this: 90s, 6h, 7d; at most 30d.", examples=["6h", "24h", "7d"]
    )
    on_unknown: OnUnknown = Field(
        "hold", description="When nobody knows whether it was sent: hold it for a person, or resend (may send twice)."
    )
    mode: Mode = Field("live", description="shadow: record what would be sent, send nothing.")
    live_from: LiveFrom = Field(
        "", description="Events before this instant are recorded only.", examples=["2026-10-01T00:00:00+05:30"]
    )
    only: Only | None = None
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first within its route's turn.")


class DefaultsFields(SharedFields):
    """The values that every route has unless it says otherwise."""


class RouteFields(SharedFields):
    """One message: a topic and a condition, the provider, the template, the variables."""

    event: str = Field(min_length=1, description="Nector's topic, such as walletreward_create.")
    template: str = Field(min_length=1, description="Gallabox: the template's name. BiteSpeed: its ID.")
    variables: VariablesFields = Field(
        default_factory=list,
        description="Expressions for {{1}}, {{2}}, … in order, or a mapping by name.",
        examples=[['user_name | default("there")', "amount | number"]],
    )
    when: Annotated[ExpressionText | None, BeforeValidator(_read_switch)] = Field(
        None,
        description="Only events for which this expression is true.",
        examples=["fiat_value | float > 0", 'user_tier == "Gold"'],
    )
    header: HeaderSource | None = Field(None, description="The variable part of the template's header.")
    buttons: list[ButtonSource] = Field(default_factory=list, description="What its buttons need.")
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
    examples: list[ExampleFields] = Field(default_factory=list, description="Run by `nector-relay check`.")


class FileFields(Fields):
    """The whole file. Sections are checked one by one, so that one fault does not hide the next."""

    version: Literal[1] = Field(description="Version of this format.")
    mode: Mode = Field("live", description="shadow: record what would be sent, send nothing.")
    only: Only | None = None
    store: StoreFields = Field(default_factory=StoreFields, description="The merchant.")
    providers: dict[str, JsonValue] = Field(description="Accounts that send WhatsApp messages, by a name of yours.")
    defaults: DefaultsFields = Field(
        default_factory=DefaultsFields, description="Saves repetition: what every route has unless it says otherwise."
    )
    routes: dict[str, RouteFields] = Field(description="Which event sends which template, by a name of yours.")
