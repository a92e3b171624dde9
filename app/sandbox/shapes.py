"""Other APIs for WhatsApp in the shapes that they publish, each with one account that takes every credential.

https://www.twilio.com/docs/whatsapp/api, https://docs.wati.io/reference, https://www.interakt.shop/resource-center,
https://partner-docs.gupshup.io, https://developers.facebook.com/documentation/business-messaging/whatsapp
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from app.mapping.template import Template, Templates
from app.model.message import Variable
from app.model.receipt import ReceiptStatus
from app.providers.json import as_items, as_mapping, first_text, parse_json, read_path
from app.sandbox.faults import VendorName
from app.sandbox.parameters import fill_order
from app.sandbox.vendor import Order, Refusal, Report

Answer = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a request names its recipient, template, values and our id (paths), and what the two answers look like."""

    path: str
    phone: str
    template: str
    values: str
    accept: Callable[[str], Answer]
    refuse: Callable[[Refusal], Answer]
    reference: str = "reference"


SHAPES: Mapping[str, Shape] = {
    "twilio": Shape(
        "/2010-04-01/Accounts/{account}/Messages.json",
        "To",
        "ContentSid",
        "ContentVariables",
        lambda id_: (201, {"sid": id_, "status": "queued", "error_code": None, "error_message": None}),
        lambda no: (no.status, {"code": 63000 + no.status, "message": no.message, "status": no.status}),
    ),
    "wati": Shape(
        "/api/v1/sendTemplateMessage",
        "whatsappNumber",
        "template_name",
        "parameters",
        lambda id_: (200, {"result": True, "messageId": id_, "validWhatsAppNumber": True}),
        lambda no: (200 if no.status == 400 else no.status, {"result": False, "info": no.message}),  # noqa: PLR2004 - so WATI
        "broadcast_name",
    ),
    "interakt": Shape(
        "/v1/public/message/",
        "fullPhoneNumber",
        "template.name",
        "template.bodyValues",
        lambda id_: (201, {"result": True, "message": "Message created successfully", "id": id_}),
        lambda no: (no.status, {"result": False, "message": no.message}),
        "callbackData",
    ),
    "gupshup": Shape(
        "/wa/api/v1/template/msg",
        "destination",
        "template.id",
        "template.params",
        lambda id_: (202, {"status": "submitted", "messageId": id_}),
        lambda no: (no.status, {"status": "error", "message": no.message}),
    ),
    "cloud": Shape(
        "/{version}/{number}/messages",
        "to",
        "template.name",
        "template.components[0].parameters",
        lambda id_: (200, {"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": f"wamid.{id_}"}]}),
        lambda no: (
            no.status,
            {"error": {"message": no.message, "code": no.code or no.status, "fbtrace_id": "sandbox"}},
        ),
        "biz_opaque_callback_data",
    ),
}
"""By the path's first part: `base_url: http://127.0.0.1:9100/twilio`."""


class FakeShape:
    """One such API, asked with this query. A template of any account will do."""

    kind: VendorName = "http"

    def __init__(self, name: str, query: Mapping[str, str], templates: Templates) -> None:
        self.provider = name
        self._shape = SHAPES[name]
        self._query = query
        self._templates = templates

    def read(self, headers: Mapping[str, str], body: bytes) -> Order | Refusal:
        """Check a request, JSON or a form; a field of a form may hold JSON."""
        given = {**self._query, **_read_body(headers, body)}
        phone = (first_text(given, (self._shape.phone,)) or "").removeprefix("whatsapp:").removeprefix("+")
        template = self._find_template(first_text(given, (self._shape.template,)))
        if not phone.isdecimal():
            return Refusal(400, "Invalid phone number")
        if template is None:
            return Refusal(400, "Template not found", 132001)
        values = _list_values(read_path(given, self._shape.values))
        # Each has to come in its place: by name only where the template has names.
        variables = [Variable(name, value) for name, value in zip(template.variables, values, strict=False)]
        variables += [Variable(None, value) for value in values[len(variables) :]]
        filled = fill_order(template, variables, None, [])
        if isinstance(filled, Refusal):
            return filled
        reference = first_text(given, (self._shape.reference,))
        return Order(reference, template.id, f"+{phone}", "", tuple(values), filled)

    def accept(self, message_id: str) -> Answer:
        """Return the answer to an accepted request."""
        return self._shape.accept(message_id)

    def refuse(self, refusal: Refusal) -> Answer:
        """Return the answer to a refused request."""
        return self._shape.refuse(refusal)

    def report(self, order: Order, message_id: str, status: ReceiptStatus, at: int) -> Report:  # noqa: ARG002 - the seam
        """Report nothing: each of them posts its receipts in a form of its own."""
        return Report({}, {}, b"")

    def _find_template(self, name: str | None) -> Template | None:
        return next((template for (_, id_), template in self._templates.items() if id_ == name), None)


def _read_body(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    if headers.get("content-type", "").startswith("application/json"):
        return as_mapping(parse_json(body))
    fields = parse_qsl(body.decode(errors="replace"))
    return {name: json.loads(text) if text[:1] in ("{", "[") else text for name, text in fields}


def _list_values(value: Any) -> list[str]:
    items = list(as_mapping(value).values()) or as_items(value)
    return [str(as_mapping(item).get("value", as_mapping(item).get("text", item))) for item in items]
