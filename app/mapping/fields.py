"""The YAML file as written: one model a section. mapping.parse turns them into values that are ready for use."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale, UnknownLocaleError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationInfo,
    model_validator,
)

from app.mapping.problems import ask_similar, find_similar
from app.mapping.wording import CONSTANT, EXPRESSION, LIST, MAP
from app.model.delivery import Mode, OnUnknown, Reason
from app.values.duration import format_duration, parse_duration, parse_live_from
from app.values.phone import to_country
from app.values.stop_words import LONGEST_STOP_WORD, fold_words

LONGEST_VALID_MS = parse_duration("30d")  # WhatsApp itself gives up then
"""https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/time-to-live"""


class Fields(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """A section of the file: nothing is guessed, an unknown key is a fault."""


# -- values ---------------------------------------------------------------------------------------


def _check_expression(source: str, info: ValidationInfo) -> str:
    context: Any = info.context
    context["compile"](source)
    return source


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
        similar = find_similar(name, available_timezones(), cutoff=0.8)
        cure = f'did you mean "{similar}"?' if similar else "write a name such as Asia/Kolkata"
        raise ValueError(f"unknown timezone; {cure}") from None
    return name


def _check_locale(name: str) -> str:
    try:
        Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        raise ValueError("unknown locale; write language and country, such as en_IN") from None
    return name


def _check_language(code: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Z][A-Za-z]{1,3})?", code):
        raise ValueError("is no language of WhatsApp templates; write it as at WhatsApp, such as en, hi or en_US")
    return code


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


def _name_source(value: Any) -> str | None:
    return EXPRESSION if isinstance(value, str) else CONSTANT if isinstance(value, dict | ConstantFields) else None


def _name_collection(value: Any) -> str | None:
    return LIST if isinstance(value, list) else MAP if isinstance(value, dict) else None


class ConstantFields(Fields):
    """A fixed text instead of an expression: `{text: Acme}`."""

    text: str = Field(min_length=1, description="The text, sent as it stands here.")


ExpressionText = Annotated[str, Field(min_length=1), AfterValidator(_check_expression)]
ProviderName = Annotated[str, Field(min_length=1), AfterValidator(_check_provider)]
ValidFor = Annotated[str, AfterValidator(_check_valid_for)]
LiveFrom = Annotated[str, AfterValidator(_check_live_from)]
Language = Annotated[str, AfterValidator(_check_language)]
Only = Annotated[
    list[Annotated[str, AfterValidator(_check_number)]],
    Field(
        min_length=1,
        description="Only these numbers get a message; for anybody else it is recorded.",
        examples=[["+919800000001"]],
    ),
]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
SourceFields = Annotated[
    Annotated[ExpressionText, Tag(EXPRESSION)] | Annotated[ConstantFields, Tag(CONSTANT)],
    Discriminator(
        _name_source,
        custom_error_type="source",
        custom_error_message='must be an expression or {text: …}; a fixed value is written {text: "100"}',
    ),
]
VariablesFields = Annotated[
    Annotated[list[SourceFields], Tag(LIST)] | Annotated[dict[VariableName, SourceFields], Tag(MAP)],
    Discriminator(
        _name_collection,
        custom_error_type="variables",
        custom_error_message="must be a list of expressions, or names with expressions; such as [user_name, amount]",
    ),
]
ExpectedVariables = Annotated[
    Annotated[list[JsonValue], Tag(LIST)] | Annotated[dict[str, JsonValue], Tag(MAP)],
    Discriminator(
        _name_collection,
        custom_error_type="variables",
        custom_error_message="must be a list of values, or names with values; such as [Riya, 100]",
    ),
]


# -- sections -------------------------------------------------------------------------------------


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
    stop_words: list[Annotated[str, AfterValidator(_check_stop_word)]] = Field(
        default_factory=list,
        max_length=50,
        description="Replies that end marketing for whoever sends just that, beside stop, unsubscribe and the like.",
        examples=[["bas karo"]],
    )
    start_lifts: bool = Field(
        default=True, description="false: a reply of START does not bring marketing back; a person has to."
    )


class HeaderFields(Fields):
    """The variable part of a template's header: one of image, video, document, text."""

    image: SourceFields | None = Field(None, description="URL of an image.")
    video: SourceFields | None = Field(None, description="URL of a video.")
    document: SourceFields | None = Field(None, description="URL of a document.")
    text: SourceFields | None = Field(None, description="The text variable of a text header.")
    filename: SourceFields | None = Field(None, description="File name shown for a document.")

    @model_validator(mode="after")
    def _check_kind(self) -> HeaderFields:
        kinds = sorted(self.model_fields_set - {"filename"})
        if len(kinds) != 1:
            found = f"{' and '.join(kinds)} are given" if kinds else "none is given"
            raise ValueError(f"a header has exactly one of image, video, document, text, and here {found}; keep one")
        return self


class ButtonFields(Fields):
    """The variable end of a URL button."""

    index: int = Field(ge=0, le=9, description="Which button of the template, counted from 0.")
    url: SourceFields = Field(
        description="What follows the fixed part of the button's URL; it is URL-encoded.", examples=["order_id"]
    )


class SendsFields(Fields):
    """What an example has to send; only the keys given are compared."""

    to: str | None = Field(None, description="The recipient in E.164.", examples=["+919800000001"])
    variables: ExpectedVariables | None = Field(None, description="The filled variables, in order or by name.")
    text: str | None = Field(None, description="The whole body, as in config/templates.yaml.")
    provider: str | None = Field(None, description="The provider's name.")
    template: str | None = Field(None, description="The template's name or id.")
    language: str | None = Field(None, description="The template's language.")
    header: str | None = Field(None, description="The filled header: its URL or text.")
    buttons: list[str] | None = Field(None, description="The filled ends of the URL buttons, in order.")


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
    """What a route may have and `defaults:` may give to every route."""

    provider: ProviderName = Field("", description="A name under `providers:`.")
    language: Language = Field(
        "", description="Language of the template, as at WhatsApp.", examples=["en", "hi", "en_US"]
    )
    recipient: ExpressionText = Field(
        "",
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
    """What every route has unless it says otherwise."""


class RouteFields(SharedFields):
    """One message: a topic and a condition, the provider, the template, the variables."""

    event: str = Field(min_length=1, description="Nector's topic, such as walletreward_create.")
    template: str = Field(min_length=1, description="Gallabox: the template's name. BiteSpeed: its ID.")
    variables: VariablesFields = Field(
        default_factory=list,
        description="Expressions for {{1}}, {{2}}, … in order, or a mapping by name.",
        examples=[['user_name | default("there")', "amount | number"]],
    )
    when: Annotated[ExpressionText, BeforeValidator(_read_switch)] = Field(
        "",
        description="Only events for which this expression is true.",
        examples=["fiat_value | float > 0", 'user_tier == "Gold"'],
    )
    header: HeaderFields | None = Field(None, description="The variable part of the template's header.")
    buttons: list[ButtonFields] = Field(default_factory=list, description="The variable ends of its URL buttons.")
    valid_until: ExpressionText = Field("", description="Not sent after the instant it comes to.", examples=["expire"])
    dedup_by: ExpressionText = Field(
        "",
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
