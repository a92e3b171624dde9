"""The sources of a message's parts, as a route gives them for a variable, a header or a button."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, Discriminator, Field, GetPydanticSchema, Tag, ValidationInfo, model_validator
from pydantic_core import core_schema

from app.mapping.expression import Expression

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


Source = Expression | Constant
"""Where a value comes from."""


def _compile(source: str, info: ValidationInfo) -> Expression:
    context: Any = info.context
    compiled: Expression = context["compile"](source)
    return compiled


def _read_text(read: Callable[[str, ValidationInfo], Any], shortest: int | None = None) -> GetPydanticSchema:
    text = core_schema.str_schema(min_length=shortest, strict=True)
    return GetPydanticSchema(lambda _, __: core_schema.with_info_after_validator_function(read, text))


ExpressionText = Annotated[Expression, _read_text(_compile, 1)]
"""An expression of the file, compiled where it stands: what was checked is what is used."""
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

    @property
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

    @property
    def source(self) -> Source:
        """The value's source; in a file with faults perhaps None."""
        source: Source = getattr(self, self.kind)
        return source


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


LanguageText = Annotated[str | Expression, _read_text(_read_language)]
