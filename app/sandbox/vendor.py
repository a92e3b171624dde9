"""The seam inside the sandbox: its settings, and what each fake vendor reads, refuses, answers and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from app.mapping.template import FilledTemplate
from app.model.receipt import ReceiptStatus
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


class Wire(BaseModel, extra="forbid", strict=True, frozen=True, alias_generator=to_camel):
    """A piece of a vendor's body: an unknown field or another type is refused by name."""


def explain_body(error: ValidationError) -> Refusal:
    """Return the refusal of a body that is not of the vendor's shape: the first fault, by the path of its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "The body is not valid JSON")
    where = ".".join(map(str, first["loc"])) or "body"
    match first["type"]:
        case "extra_forbidden":
            return Refusal(400, f'"{where}" is not allowed')
        case "missing":
            return Refusal(400, f'"{where}" is required')
        case _:
            return Refusal(400, f'"{where}": {first["msg"]}')


def is_json(headers: Mapping[str, str]) -> bool:
    """Tell whether the request says that its body is JSON."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
