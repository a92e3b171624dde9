"""The seam inside the sandbox: its settings, what each fake vendor does, and WhatsApp's rules, which all pass on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.mapping.template import (
    BODY_LIMIT,
    HEADER_LIMIT,
    FilledTemplate,
    Template,
    Templates,
    fill_template,
    find_button_kind,
    find_language,
    find_placeholders,
)
from app.model.message import Button, Header, Location, ReceiptStatus, Variable
from app.model.value import dataclass
from app.sandbox.faults import VendorName


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """An expected credential left "" means: any that is not empty. Every `_provider` is a name of the YAML.

    `relay_url` is where receipts go, None for nowhere. `faults` as in `parse_faults`. `hang_ms`: for how long a
    hanging request is kept at most.
    """

    relay_url: str | None = None
    receipts: bool = True
    read_receipts: bool = True
    receipt_delay_ms: int = 20
    hang_ms: int = 60_000
    faults: str = ""
    gallabox_provider: str = "gallabox"
    gallabox_channel_id: str = ""
    gallabox_account_id: str = ""
    gallabox_api_key: str = field(default="", repr=False)
    gallabox_api_secret: str = field(default="", repr=False)
    gallabox_webhook_secret: str = field(default="", repr=False)
    bitespeed_provider: str = "bitespeed"
    bitespeed_channel_id: str = ""
    bitespeed_user_id: str = ""
    bitespeed_webhook_token: str = field(default="", repr=False)

    @classmethod
    def expect(cls, environment: Mapping[str, str], *, relay_url: str | None, faults: str = "") -> Self:
        """Return settings that expect the very credentials which the relay in this environment sends."""
        names = [one.name for one in fields(cls) if one.name.startswith(("gallabox_", "bitespeed_"))]
        given: Any = {name: environment[name.upper()] for name in names if name.upper() in environment}
        return cls(relay_url=relay_url, faults=faults, **given)


@dataclass(frozen=True, slots=True)
class Order:
    """A request that the vendor would take. `recipient` is E.164 with its plus sign."""

    delivery_id: str | None
    template: str
    recipient: str
    recipient_name: str
    variables: tuple[str, ...]
    filled: FilledTemplate


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the vendor would not take; `code` is WhatsApp's, where it has one for this."""

    status: int
    message: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One receipt as the vendor posts it to the merchant's webhook."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


class Vendor(Protocol):
    """One fake vendor. `kind` is the name of its faults, `provider` its name in the YAML."""

    kind: VendorName
    provider: str

    def read(self, headers: Mapping[str, str], body: bytes) -> Order | Refusal:
        """Check a request as the vendor would. Header names are lower case."""

    def accept(self, message_id: str) -> tuple[int, Mapping[str, Any]]:
        """Return status and body of the answer to an accepted request."""

    def refuse(self, refusal: Refusal) -> tuple[int, Mapping[str, Any]]:
        """Return status and body of the answer to a refused request."""

    def report(self, order: Order, message_id: str, status: ReceiptStatus, at: int) -> Report:
        """Return the receipt of a message that reached `status` at this instant."""


Phone = Annotated[str, Field(pattern=r"^[0-9]{8,15}$")]
Filled = Annotated[str, Field(pattern=r"\S")]


class Wire(BaseModel, extra="forbid", strict=True, frozen=True, alias_generator=to_camel):
    """A piece of a vendor's body: an unknown field or another type is refused by name."""


AnyWire = TypeVar("AnyWire", bound=Wire)


def read_body(model: type[AnyWire], headers: Mapping[str, str], body: bytes) -> AnyWire | Refusal:
    """Return a request's JSON; else what the vendor says of its first fault, by the path of the field."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return Refusal(415, "Content-Type must be application/json")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "body"
    match first["type"]:
        case "json_invalid":
            return Refusal(400, "The body is not valid JSON")
        case "extra_forbidden":
            return Refusal(400, f'"{where}" is not allowed')
        case "missing":
            return Refusal(400, f'"{where}" is required')
        case _:
            return Refusal(400, f'"{where}": {first["msg"]}')


# -- WhatsApp's rules for what may go into a template, as the vendors pass them on -------------------
# https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components

# Meta's text says more than 4 blanks; vendors differ on exactly 4, so the sandbox takes the stricter reading.
_BAD_SPACE = re.compile(r"[\n\r\t]| {4,}")
_STATUS_CODES = {"paused": 132015, "disabled": 132016}


def find_template(templates: Templates, provider: str, id_: str, language: str | None) -> Template | Refusal:
    """Return the provider's template if it may be sent, in the language asked for."""
    template = templates.get((provider, id_))
    if template is None:
        return Refusal(400, "Template not found", 132001)
    version = find_language(template, language)
    if version is None:
        return Refusal(400, f"Template does not exist in the translation {language}", 132001)
    if version.status.lower() != "approved":
        return Refusal(400, f"Template is {version.status}", _STATUS_CODES.get(version.status.lower(), 132001))
    return version


def make_order(
    template: Template,
    variables: Sequence[Variable],
    header: Header | Location | None = None,
    buttons: Sequence[Button] = (),
    offer_ends_at: int | None = None,
    *,
    delivery_id: str | None,
    digits: str,
    name: str = "",
) -> Order | Refusal:
    """Return the message that these parameters make, or what WhatsApp would say against them."""
    refusal = (
        _check_count(template, variables)
        or _check_texts([(f"body parameter {number}", it.value) for number, it in enumerate(variables, start=1)])
        or _check_header(template, header)
        or _check_buttons(template, buttons)
    )
    if refusal is None and template.offer_expires != (offer_ends_at is not None):
        refusal = Refusal(400, "(#132012) Parameter format does not match: limited_time_offer", 132012)
    if refusal is not None:
        return refusal
    filled = fill_template(template, variables, header, buttons, offer_ends_at)
    if template.header_kind == "text" and len(filled.header) > HEADER_LIMIT:
        return Refusal(400, f"(#132005) Translated text too long: header {len(filled.header)}", 132005)
    if len(filled.body) > BODY_LIMIT:
        return Refusal(400, f"(#132005) Translated text too long: {len(filled.body)} > {BODY_LIMIT}", 132005)
    values = tuple(variable.value for variable in variables)
    return Order(delivery_id, template.id, f"+{digits}", name, values, filled)


def _check_count(template: Template, variables: Sequence[Variable]) -> Refusal | None:
    expected = template.variables
    places = [*expected, *map(str, range(len(expected) + 1, len(variables) + 1))]
    names = [variable.name or place for variable, place in zip(variables, places, strict=False)]
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    told = [f"{word} {', '.join(those)}" for word, those in (("missing", missing), ("unexpected", unknown)) if those]
    if not told:
        return None
    text = "Number of parameters does not match the expected number of params"
    return Refusal(400, f"(#132000) {text}: {'; '.join(told)}", 132000)


def _check_texts(texts: Sequence[tuple[str, str]]) -> Refusal | None:
    for where, text in texts:
        if not text.strip():
            return Refusal(400, f"(#131008) Required parameter is missing: {where} is blank", 131008)
        if _BAD_SPACE.search(text):
            told = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            return Refusal(400, f"(#132018) {told}: {where}", 132018)
    return None


def _check_header(template: Template, header: Header | Location | None) -> Refusal | None:
    kind = template.header_kind
    wanted = kind not in {"none", "text"} or bool(find_placeholders(template.header_text))
    if header is None and not wanted:
        return None
    if header is None or not wanted or header.kind != kind:
        return Refusal(400, f"(#132012) Parameter format does not match: header expected is {kind}", 132012)
    if isinstance(header, Location):
        return _check_texts([("latitude", header.latitude), ("longitude", header.longitude), ("name", header.name)])
    if kind != "text" and not header.value.startswith(("https://", "http://")):
        return Refusal(400, "(#131008) Required parameter is missing: header media needs a URL", 131008)
    return _check_texts([("header", header.value)])


def _check_buttons(template: Template, buttons: Sequence[Button]) -> Refusal | None:
    kinds = [find_button_kind(button.kind) for button in template.buttons]
    taken = {at: kind.filled_by for at, kind in enumerate(kinds) if kind.filled_by}
    wanted = {
        at
        for at, kind in enumerate(kinds)
        if kind.needs in {"value", "more"} or (kind.key == "url" and find_placeholders(template.buttons[at].url))
    }
    given = [button.index for button in buttons]
    for index in sorted(wanted.difference(given)):
        return Refusal(400, f"(#131008) Required parameter is missing: button at index {index}", 131008)
    for button in buttons:
        fixed = taken.get(button.index) == "url" and button.index not in wanted
        if fixed or given.count(button.index) > 1 or taken.get(button.index) != button.kind:
            named = "dynamic URL button" if button.kind == "url" else f"button that takes {button.kind}"
            return Refusal(400, f"(#132012) Parameter format does not match: no such {named}", 132012)
    return _check_texts([(f"button {button.index}", button.value) for button in buttons])
