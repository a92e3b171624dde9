"""The fake BiteSpeed.

BiteSpeed publishes no API reference (docs/mapping-guide.md): the request is the shape that our adapter sends until the
vendor hands over its own, positional as nector.io/blog/nector-bitespeed-integration says. Receipts follow the
inbox it is built on, https://developers.chatwoot.com.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from app.mapping.template import Templates
from app.model.message import Button, Header, Location, ReceiptStatus, Variable
from app.sandbox.faults import VendorName
from app.sandbox.vendor import (
    Filled,
    Order,
    Phone,
    Refusal,
    Report,
    SandboxSettings,
    Wire,
    find_template,
    make_order,
    read_body,
)


class _Header(Wire):
    kind: Literal["image", "video", "document", "text", "location"]
    url: str = ""
    text: str = ""
    filename: str | None = None
    latitude: str = ""
    longitude: str = ""
    name: str = ""
    address: str = ""

    def read(self) -> Header | Location:
        if self.kind == "location":
            return Location(self.latitude, self.longitude, self.name, self.address)
        return Header(self.kind, self.url or self.text, self.filename)


class _Button(Wire):
    index: int = Field(ge=0)
    url: str | None = None
    copy_code: str | None = Field(default=None, alias="copy_code")
    payload: str | None = None
    otp: str | None = None
    flow: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> _Button:
        if len(self.model_fields_set) != 2:  # noqa: PLR2004 -- the index and what fills it
            raise ValueError("a button has its index and one value")
        return self

    def read(self) -> Button:
        ((kind, value),) = self.model_dump(exclude_unset=True, exclude={"index"}).items()
        return Button(self.index, value, kind)


class _Body(Wire):
    channel_id: Filled
    user_id: Filled
    template_id: Filled
    phone: Phone
    variables: tuple[str, ...]
    header: _Header | None = None
    buttons: tuple[_Button, ...] = ()
    offer_ends_at: int | None = None
    language: str | None = None
    delivery_id: Filled | None = None
    name: str = ""


class FakeBiteSpeed:
    """One account with its approved templates."""

    kind: VendorName = "bitespeed"

    def __init__(self, settings: SandboxSettings, templates: Templates) -> None:
        self.provider = settings.bitespeed_provider
        self._settings = settings
        self._templates = templates

    def read(self, headers: Mapping[str, str], body: bytes) -> Order | Refusal:
        """Check a request as BiteSpeed would."""
        parsed = read_body(_Body, headers, body)
        if isinstance(parsed, Refusal):
            return parsed
        # The pair of ids is all that Nector asks for: as far as we know, it is the credential.
        pairs = (
            (self._settings.bitespeed_channel_id, parsed.channel_id),
            (self._settings.bitespeed_user_id, parsed.user_id),
        )
        if not all(expected in {"", given} for expected, given in pairs):
            return Refusal(401, "Unknown channelId or userId")
        return self._read_order(parsed)

    def _read_order(self, body: _Body) -> Order | Refusal:
        template = find_template(self._templates, self.provider, body.template_id, body.language)
        if isinstance(template, Refusal):
            return template
        return make_order(
            template,
            [Variable(None, value) for value in body.variables],
            body.header.read() if body.header else None,
            [button.read() for button in body.buttons],
            body.offer_ends_at,
            delivery_id=body.delivery_id,
            digits=body.phone,
            name=body.name,
        )

    def accept(self, message_id: str) -> tuple[int, Mapping[str, Any]]:
        """Return the answer that our adapter expects by default."""
        return 200, {"success": True, "data": {"id": message_id}}

    def refuse(self, refusal: Refusal) -> tuple[int, Mapping[str, Any]]:
        """Return the error that our adapter expects by default."""
        code = refusal.status if refusal.code is None else refusal.code
        return refusal.status, {"success": False, "error": {"code": code, "message": refusal.message}}

    def report(self, order: Order, message_id: str, status: ReceiptStatus, at: int) -> Report:
        """Return a Chatwoot `message_updated`; the token in the query is its only proof."""
        body = {
            "event": "message_updated",
            "id": message_id,
            "message_type": "outgoing",
            "status": status.value,
            "content": order.filled.body,
            "content_attributes": {"template_name": order.template}
            | ({"local_message_id": order.delivery_id} if order.delivery_id else {}),
            "conversation": {"meta": {"sender": {"phone_number": order.recipient, "name": order.recipient_name}}},
            "updated_at": at // 1000,
        }
        headers = {"content-type": "application/json"}
        return Report(headers, {"token": self._settings.bitespeed_webhook_token}, json.dumps(body).encode())
