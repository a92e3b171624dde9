"""The parts of a message as a route gives them: what fills a variable, a header, a button.

mapping/template.py says which kinds there are, message/components.py how each one's value is written and sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Discriminator, Field, GetPydanticSchema, Tag, ValidationInfo, model_validator
from pydantic_core import core_schema

from app.mapping.expression import Expression
from app.mapping.wording import EXPRESSION, MAP, name_branch


class Fields(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """A section of the file: nothing is guessed, an unknown key is a fault."""


Part = TypeVar("Part", bound=Fields)


class Constant(Fields):
    """A fixed text instead of an expression: `{text: Acme}`."""

    text: str = Field(min_length=1, description="The text, sent as it stands here.")


Source = Expression | Constant
"""Where a value comes from."""


def _compile(source: str, info: ValidationInfo) -> Expression:
    context: Any = info.context
    compiled: Expression = context["compile"](source)
    return compiled


ExpressionText = Annotated[
    Expression,
    GetPydanticSchema(
        lambda _, __: core_schema.with_info_after_validator_function(
            _compile, core_schema.str_schema(min_length=1, strict=True)
        )
    ),
]
"""An expression of the file, compiled where it stands: what was checked is what is used."""
SourceText = Annotated[
    Annotated[ExpressionText, Tag(EXPRESSION)] | Annotated[Constant, Tag(MAP)],
    Discriminator(
        name_branch,
        custom_error_type="source",
        custom_error_message='must be an expression or {text: …}; a fixed value is written {text: "100"}',
    ),
]


@dataclass(frozen=True, slots=True)
class VariableSource:
    """A template variable; `name` is None where the route lists them by position."""

    name: str | None
    source: Source


def _check_one(part: Part, rule: str, beside: str) -> Part:
    """Return a part that has one key and perhaps `beside`; raises ValueError for any other number of them."""
    kinds = sorted(part.model_fields_set - {beside})
    if len(kinds) != 1:
        found = f"{' and '.join(kinds)} are given" if kinds else "none is given"
        raise ValueError(f"{rule}, and here {found}; keep one")
    return part


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


class HeaderSource(Fields):
    """The variable part of a template's header: one of image, video, document, text, location."""

    image: SourceText | None = Field(None, description="URL of an image.")
    video: SourceText | None = Field(None, description="URL of a video.")
    document: SourceText | None = Field(None, description="URL of a document.")
    text: SourceText | None = Field(None, description="The text variable of a text header.")
    location: LocationSource | None = Field(None, description="The place on the map.")
    filename: SourceText | None = Field(None, description="File name shown for a document.")

    @model_validator(mode="after")
    def _check_kind(self) -> HeaderSource:
        return _check_one(self, "a header has exactly one of image, video, document, text, location", "filename")

    @property
    def kind(self) -> str:
        """Which header it fills."""
        return next(kind for kind in self.model_fields_set if kind != "filename")

    def list_sources(self) -> Iterator[tuple[tuple[str, ...], Source]]:
        """Yield the path of each value below `header:`, with what fills it."""
        for key in sorted(self.model_fields_set):
            given = getattr(self, key)
            if isinstance(given, LocationSource):
                yield from (((key, name), source) for name, source in given.list_sources())
            elif given is not None:  # None: an empty place, reported where it stands
                yield (key,), given


class ButtonSource(Fields, json_schema_extra={"minProperties": 2, "maxProperties": 2}):
    """What a button of the template needs: one of url, copy_code, payload, otp, flow."""

    index: int = Field(ge=0, le=9, description="Which button of the template, counted from 0.")
    url: SourceText | None = Field(
        None,
        description="What follows the fixed part of the button's URL; it is URL-encoded.",
        examples=["order_id"],
    )
    copy_code: SourceText | None = Field(None, description="The coupon's code that a tap copies.", examples=["value"])
    payload: SourceText | None = Field(None, description="What a quick reply sends back beside its text.")
    otp: SourceText | None = Field(None, description="The one-time password; the body shows the same.")
    flow: SourceText | None = Field(None, description="The token that the flow is opened with.")

    @model_validator(mode="after")
    def _check_kind(self) -> ButtonSource:
        return _check_one(self, "a button is filled with exactly one of url, copy_code, payload, otp, flow", "index")

    @property
    def kind(self) -> str:
        """The key that fills it."""
        return next(kind for kind in self.model_fields_set if kind != "index")

    @property
    def source(self) -> Source:
        """The value's source; in a file with faults perhaps None."""
        source: Source = getattr(self, self.kind)
        return source


# -- languages ------------------------------------------------------------------------------------

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


LanguageText = Annotated[
    str | Expression,
    GetPydanticSchema(
        lambda _, __: core_schema.with_info_after_validator_function(
            _read_language, core_schema.str_schema(strict=True)
        )
    ),
]
