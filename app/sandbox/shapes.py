"""Other APIs for WhatsApp in the shapes that they publish, each with one account that takes every credential.

https://www.twilio.com/docs/whatsapp/api, https://docs.wati.io/reference, https://www.interakt.shop/resource-center,
https://partner-docs.gupshup.io, https://developers.facebook.com/documentation/business-messaging/whatsapp
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from app.mapping.template import Templates
from app.model.message import ReceiptStatus, Variable
from app.providers.body import as_items, as_mapping, first_text, parse_json, read_path
from app.sandbox.faults import VendorName
from app.sandbox.vendor import Order, Refusal, Report, make_order

Answer = tuple[int, Mapping[str, Any]]
_TOO_MANY = 429


class Shape(NamedTuple):
    """A shape says where a request names its recipient, template, values and our id, and how both answers look."""

    path: str
    names: tuple[str, str, str, str]
    accept: Callable[[str], Answer]
    refuse: Callable[[Refusal], Answer]


SHAPES: Mapping[str, Shape] = {
    "twilio": Shape(
        "/2010-04-01/Accounts/{account}/Messages.json",
        ("To", "ContentSid", "ContentVariables", "reference"),
        lambda id_: (201, {"sid": id_, "status": "queued", "error_code": None, "error_message": None}),
        lambda no: (no.status, {"code": 63000 + no.status, "message": no.message, "status": no.status}),
    ),
    "wati": Shape(
        "/api/v1/sendTemplateMessage",
        ("whatsappNumber", "template_name", "parameters", "broadcast_name"),
        lambda id_: (200, {"result": True, "messageId": id_, "validWhatsAppNumber": True}),
        # What it refuses itself is a 200, too.
        lambda no: (200 if no.code or no.status < _TOO_MANY else no.status, {"result": False, "info": no.message}),
    ),
    "interakt": Shape(
        "/v1/public/message/",
        ("fullPhoneNumber", "template.name", "template.bodyValues", "callbackData"),
        lambda id_: (201, {"result": True, "message": "Message created successfully", "id": id_}),
        lambda no: (no.status, {"result": False, "message": no.message}),
    ),
    "gupshup": Shape(
        "/wa/api/v1/template/msg",
        ("destination", "template.id", "template.params", "reference"),
        lambda id_: (202, {"status": "submitted", "messageId": id_}),
        lambda no: (no.status, {"status": "error", "message": no.message}),
    ),
    "cloud": Shape(
        "/{version}/{number}/messages",
        ("to", "template.name", "template.components[0].parameters", "biz_opaque_callback_data"),
        lambda id_: (200, {"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": f"wamid.{id_}"}]}),
        lambda no: (no.status, {"error": {"message": no.message, "code": no.code or no.status, "fbtrace_id": "x"}}),
    ),
}
"""By the path's first part: `base_url: http://127.0.0.1:9100/twilio`."""


class FakeShape:
    """One such API, asked with this query. A template of any account will do."""

    kind: VendorName = "http"

    def __init__(self, name: str, query: Mapping[str, str], templates: Templates) -> None:
        self.provider = name
        shape = SHAPES[name]
        self._names, self.accept, self.refuse = shape.names, shape.accept, shape.refuse
        self._query = query
        self._templates = templates

    def read(self, headers: Mapping[str, str], body: bytes) -> Order | Refusal:
        """Check a request, JSON or a form; a field of a form may hold JSON."""
        given = {**self._query, **_read_body(headers, body)}
        phone, name, reference = (first_text(given, (self._names[place],)) for place in (0, 1, 3))
        digits = (phone or "").removeprefix("whatsapp:").removeprefix("+")
        if not digits.isdecimal():
            return Refusal(400, "Invalid phone number")
        template = next((template for (_, id_), template in self._templates.items() if id_ == name), None)
        if template is None:
            return Refusal(400, "Template not found", 132001)
        values = _list_values(read_path(given, self._names[2]))
        # Each comes in its place, whatever it is called.
        names = [*template.variables, *(None for _ in values)]
        variables = [Variable(each, value) for each, value in zip(names, values, strict=False)]
        return make_order(template, variables, delivery_id=reference, digits=digits)

    def report(self, order: Order, message_id: str, status: ReceiptStatus, at: int) -> Report:  # noqa: ARG002 - the seam
        """Report nothing: each of them posts its receipts in a form of its own."""
        return Report({}, {}, b"")


def _read_body(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    if headers.get("content-type", "").startswith("application/json"):
        return as_mapping(parse_json(body))
    fields = parse_qsl(body.decode(errors="replace"))
    return {name: json.loads(text) if text[:1] in ("{", "[") else text for name, text in fields}


def _list_values(value: Any) -> list[str]:
    items = list(as_mapping(value).values()) or as_items(value)
    return [str(as_mapping(item).get("value", as_mapping(item).get("text", item))) for item in items]
