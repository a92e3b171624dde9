"""The values that the YAML may hold are checked and made ready where they stand: what was checked is what is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale, UnknownLocaleError
from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from app.mapping import ask_similar
from app.mapping.expression import Expression
from app.model.message import LONGEST_STOP_WORD, Limit, fold_words
from app.model.value import dataclass
from app.values.instant import format_duration, parse_duration, parse_limit, parse_live_from
from app.values.phone import read_country, to_country, to_one_form

EXPRESSION, LIST, MAP = "~expression", "~list", "~map"
"""Names of the branches of a union; pydantic puts them into an error's path."""
_BRANCHES: Mapping[type, str] = {str: EXPRESSION, list: LIST, dict: MAP}


class Fields(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """A section of the file: nothing is guessed, an unknown key is a fault."""


def choose_branch(kind: str, told: str) -> Discriminator:
    """Return what chooses a union's branch by a value's kind, and tells `told` where there is none."""
    return Discriminator(lambda value: _BRANCHES.get(type(value)), custom_error_type=kind, custom_error_message=told)


class Constant(Fields):
    """A fixed text instead of an expression: `{text: Acme}`."""

    text: str = Field(min_length=1, description="The text, sent as it stands here.")

    def glance(self, _: Mapping[str, Any]) -> str:
        """Return nothing, which has its text written as it is to be shown; see Expression."""
        return ""


Source = Expression | Constant
"""A value comes from an expression, or is fixed."""


@dataclass(frozen=True, slots=True)
class ReadAs:
    """A field is `written` so in the file, and has the value that `read` makes of that."""

    written: Any
    read: Callable[[Any, ValidationInfo], Any]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = handler.generate_schema(self.written)
        return core_schema.with_info_after_validator_function(self.read, written)


def _compile(source: str, info: ValidationInfo) -> Expression:
    context: Any = info.context
    compiled: Expression = context["compile"](source)
    return compiled


ExpressionText = Annotated[Expression, ReadAs(Annotated[str, Field(min_length=1)], _compile)]
SourceText = Annotated[
    Annotated[ExpressionText, Tag(EXPRESSION)] | Annotated[Constant, Tag(MAP)],
    choose_branch("source", 'must be an expression or {text: …}; a fixed value is written {text: "100"}'),
]


@dataclass(frozen=True, slots=True)
class VariableSource:
    """A template variable; `name` is None where the route lists them by position."""

    name: str | None
    source: Source


class _OneOf(Fields):
    """A part that is filled by one key of several, and has perhaps another beside it."""

    rule: ClassVar[str]
    beside: ClassVar[str]

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        kinds = sorted(self.model_fields_set - {self.beside})
        if len(kinds) != 1:
            found = f"{' and '.join(kinds)} are given" if kinds else "none is given"
            raise ValueError(f"{self.rule}, and here {found}; keep one")
        return self

    @cached_property
    def kind(self) -> str:
        """The key that fills it."""
        return next(kind for kind in self.model_fields_set if kind != self.beside)


class LocationSource(Fields):
    """The place that a location header shows."""

    latitude: SourceText = Field(description="In degrees, such as 12.9716.")
    longitude: SourceText = Field(description="In degrees, such as 77.5946.")
    name: SourceText = Field(description="What the place is called.")
    address: SourceText = Field(description="Its address, on one line.")

    def list_sources(self) -> Iterator[tuple[str, Source]]:
        """Yield each key with what fills it."""
        for key in ("latitude", "longitude", "name", "address"):
            yield key, getattr(self, key)


class HeaderSource(_OneOf):
    """The variable part of a template's header: one of image, video, document, text, location."""

    rule = "a header has exactly one of image, video, document, text, location"
    beside = "filename"

    image: SourceText | None = Field(None, description="URL of an image.")
    video: SourceText | None = Field(None, description="URL of a video.")
    document: SourceText | None = Field(None, description="URL of a document.")
    text: SourceText | None = Field(None, description="The text variable of a text header.")
    location: LocationSource | None = Field(None, description="The place on the map.")
    filename: SourceText | None = Field(None, description="File name shown for a document.")

    def list_sources(self) -> Iterator[tuple[tuple[str, ...], Source]]:
        """Yield the path of each value below `header:`, with what fills it."""
        for key in sorted(self.model_fields_set):
            given = getattr(self, key)
            if isinstance(given, LocationSource):
                yield from (((key, name), source) for name, source in given.list_sources())
            elif given is not None:  # None: an empty place, reported where it stands
                yield (key,), given


class ButtonSource(_OneOf, json_schema_extra={"minProperties": 2, "maxProperties": 2}):
    """The value for a button of the template: one of url, copy_code, payload, otp, flow."""

    rule = "a button is filled with exactly one of url, copy_code, payload, otp, flow"
    beside = "index"

    index: int = Field(ge=0, le=9, description="Which button of the template, counted from 0.")
    url: SourceText | None = Field(
        None, description="What follows the fixed part of the button's URL; it is URL-encoded.", examples=["order_id"]
    )
    copy_code: SourceText | None = Field(None, description="The coupon's code that a tap copies.", examples=["value"])
    payload: SourceText | None = Field(None, description="What a quick reply sends back beside its text.")
    otp: SourceText | None = Field(None, description="The one-time password; the body shows the same.")
    flow: SourceText | None = Field(None, description="The token that the flow is opened with.")

    @cached_property
    def source(self) -> Source:
        """The value's source; in a file with faults perhaps None."""
        source: Source = getattr(self, self.kind)
        return source


_UNKNOWN_COUNTRY = "unknown country; write its ISO 3166 code of two letters, such as IN"


class RecipientFields(Fields):
    """The recipient in two parts; what is left out is looked for in the usual places."""

    number: ExpressionText | None = Field(None, description="The mobile number.", examples=["customer.phone"])
    country: SourceText | None = Field(
        None, description="Its country, for a number without one.", examples=["customer.country_code"]
    )

    @model_validator(mode="after")
    def _check_fixed(self) -> RecipientFields:
        if isinstance(self.country, Constant) and read_country(self.country.text) is None:
            raise ValueError(_UNKNOWN_COUNTRY)
        return self


Recipient = Annotated[
    RecipientFields,
    ReadAs(
        Annotated[
            Annotated[ExpressionText, Tag(EXPRESSION)] | Annotated[RecipientFields, Tag(MAP)],
            choose_branch("source", "must be an expression, or {number: …, country: …}"),
        ],
        lambda given, _: given if isinstance(given, RecipientFields) else RecipientFields.model_construct(number=given),
    ),
]


_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z][A-Za-z]{1,3})?")


def is_language(code: str) -> bool:
    """Tell whether a text is a language code as at WhatsApp, such as en, hi or en_US."""
    return _LANGUAGE.fullmatch(code) is not None


def _read_language(text: str, info: ValidationInfo) -> str | Expression:
    """A bare code is itself; anything else is an expression, which must not come to nothing."""
    if is_language(text):
        return text
    cure = 'write it as at WhatsApp, such as en or hi_IN, or an expression such as customer.language | default("en")'
    try:
        expression = _compile(text, info)
    except ValueError:
        expression = None
    if expression is None or not expression.names or not expression.names <= expression.preferred:
        raise ValueError(f"is no language of WhatsApp templates, and no expression with a fallback; {cure}")
    return expression


LanguageText = Annotated[str | Expression | None, ReadAs(str, _read_language)]

LONGEST_VALID_MS = parse_duration("30d")  # WhatsApp itself gives up then
"""https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/time-to-live"""


def _check_provider(name: str, info: ValidationInfo) -> str:
    context: Any = info.context
    known = context["providers"]
    if known and name not in known:
        raise ValueError(f'unknown provider "{name}"; {ask_similar(name, known)}')
    return name


def _read_valid_for(text: str, _: ValidationInfo) -> int:
    duration_ms = parse_duration(text)
    if not 0 < duration_ms <= LONGEST_VALID_MS:
        raise ValueError(f"must be more than 0s and at most {format_duration(LONGEST_VALID_MS)}")
    return duration_ms


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, not a name, or a folder of them ("Asia")
        cure = ask_similar(name, available_timezones(), "write a name such as Asia/Kolkata", cutoff=0.8)
        raise ValueError(f"unknown timezone; {cure}") from None
    return name


def _is_locale(name: str) -> bool:
    try:
        return bool(Locale.parse(name))
    except (UnknownLocaleError, ValueError):
        return False


def _must(holds: Callable[[str], object], told: str) -> AfterValidator:
    """Return what refuses a text that does not hold, with the cure."""

    def check(text: str) -> str:
        if not holds(text):
            raise ValueError(told)
        return text

    return AfterValidator(check)


def _read_variables(given: Any, _: ValidationInfo) -> tuple[VariableSource, ...]:
    named = given.items() if isinstance(given, dict) else ((None, source) for source in given)
    return tuple(VariableSource(name, source) for name, source in named)


ProviderName = Annotated[str, Field(min_length=1), AfterValidator(_check_provider)]
Country = Annotated[str, _must(to_country, _UNKNOWN_COUNTRY), AfterValidator(to_country)]
Timezone = Annotated[str, AfterValidator(_check_timezone)]
LocaleName = Annotated[str, _must(_is_locale, "unknown locale; write language and country, such as en_IN")]
DayEnds = Annotated[
    str,
    _must(
        re.compile(r"(?!00:00)([01][0-9]|2[0-3]):[0-5][0-9]|24:00").fullmatch,
        'must be a time of day in quotes, such as "22:00"; "24:00" is the end of the day',
    ),
]
StopWord = Annotated[
    str,
    _must(
        lambda text: fold_words(text) and len(text) <= LONGEST_STOP_WORD,
        f"must be a word or a few, at most {LONGEST_STOP_WORD} characters, such as bas karo",
    ),
]
ValidFor = Annotated[int, ReadAs(str, _read_valid_for)]
LiveFrom = Annotated[int | None, ReadAs(str, lambda text, _: parse_live_from(text))]
LimitText = Annotated[Limit, ReadAs(str, lambda text, _: Limit(*parse_limit(text)))]
_NUMBER = _must(
    re.compile(r"\+[1-9][0-9]{7,14}").fullmatch, 'must be a number with its country code, in quotes: "+919800000001"'
)
Only = Annotated[
    frozenset[str],
    ReadAs(
        Annotated[list[Annotated[str, _NUMBER]], Field(min_length=1)],
        lambda numbers, _: frozenset(map(to_one_form, numbers)),
    ),
    Field(
        description="Only these numbers get a message; for anybody else it is recorded.", examples=[["+919800000001"]]
    ),
]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Variables = Annotated[
    tuple[VariableSource, ...],
    ReadAs(
        Annotated[
            Annotated[list[SourceText], Tag(LIST)] | Annotated[dict[VariableName, SourceText], Tag(MAP)],
            choose_branch(
                "variables", "must be a list of expressions, or names with expressions; such as [user_name, amount]"
            ),
        ],
        _read_variables,
    ),
]
ExpectedVariables = Annotated[
    Annotated[list[JsonValue], Tag(LIST)] | Annotated[dict[str, JsonValue], Tag(MAP)],
    choose_branch("variables", "must be a list of values, or names with values; such as [Riya, 100]"),
]
