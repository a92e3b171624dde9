"""The fake Gallabox.

Requests and answers: developers.gallabox.com/gallabox-api/whatsapp-templates and the official Postman set
(documenter.gw.postman.com/view/metadata/Tzz7QJTJ). Receipts: docs.gallabox.com/developer-resources/webhook.
No error catalogue is public: status 400 and the wording are ours, the codes WhatsApp's.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from app.mapping.template import MEDIA_KINDS, Template, TemplateButton, Templates, find_button_kind
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


class _Recipient(Wire):
    name: Filled
    phone: Phone


class _Text(Wire):
    type: Literal["text"]
    text: str


class _Coupon(Wire):
    type: Literal["coupon_code"]
    coupon_code: str = Field(alias="coupon_code")


class _Payload(Wire):
    type: Literal["payload"]
    payload: str


class _Token(Wire):
    flow_token: str = Field(alias="flow_token")


class _Action(Wire):
    type: Literal["action"]
    action: _Token


class _ButtonValue(Wire):
    index: int = Field(ge=0)
    sub_type: Literal["url", "copy_code", "quick_reply", "flow"] = Field(alias="sub_type")
    parameters: _Text | _Coupon | _Payload | _Action = Field(discriminator="type")


class _Offer(Wire):
    expiration_time_ms: int = Field(alias="expiration_time_ms", gt=0)


class _Template(Wire):
    template_name: str = Field(min_length=1)
    language_code: str | None = None
    body_values: dict[str, str] = Field(default_factory=dict)
    header_values: dict[str, str] | None = None
    button_values: tuple[_ButtonValue, ...] = ()
    limited_time_offer_values: _Offer | None = None


class _Whatsapp(Wire):
    type: Literal["template"]
    template: _Template


class _Body(Wire):
    channel_id: Filled
    channel_type: Literal["whatsapp"]
    local_message_id: Filled | None = None
    recipient: _Recipient
    whatsapp: _Whatsapp


class FakeGallabox:
    """One account with its channel and its approved templates."""

    kind: VendorName = "gallabox"

    def __init__(self, settings: SandboxSettings, templates: Templates) -> None:
        self.provider = settings.gallabox_provider
        self._settings = settings
        self._templates = templates

    def read(self, headers: Mapping[str, str], body: bytes) -> Order | Refusal:
        """Check a request as Gallabox would."""
        if not self._knows(headers):
            return Refusal(401, "Unauthorized")
        parsed = read_body(_Body, headers, body)
        if isinstance(parsed, Refusal):
            return parsed
        if self._settings.gallabox_channel_id not in {"", parsed.channel_id}:
            return Refusal(400, "Channel not found")
        return self._read_order(parsed)

    def _read_order(self, body: _Body) -> Order | Refusal:
        wire = body.whatsapp.template
        template = find_template(self._templates, self.provider, wire.template_name, wire.language_code)
        if isinstance(template, Refusal):
            return template
        header = _read_header(template, wire.header_values)
        if isinstance(header, Refusal):
            return header
        # An object has no order: the template's own decides.
        names = sorted(wire.body_values, key=lambda name: (*template.variables, name).index(name))
        variables = [Variable(name, wire.body_values[name]) for name in names]
        buttons = [_read_button(template, place, button) for place, button in enumerate(wire.button_values)]
        refused = next((button for button in buttons if isinstance(button, Refusal)), None)
        if refused is not None:
            return refused
        offer = wire.limited_time_offer_values
        sound = [button for button in buttons if isinstance(button, Button)]
        return make_order(
            template,
            variables,
            header,
            sound,
            offer.expiration_time_ms if offer else None,
            delivery_id=body.local_message_id,
            digits=body.recipient.phone,
            name=body.recipient.name,
        )

    def _knows(self, headers: Mapping[str, str]) -> bool:
        """Tell whether the credentials are the expected ones, or are there at all where none are expected."""
        pairs = (("apikey", self._settings.gallabox_api_key), ("apisecret", self._settings.gallabox_api_secret))
        return all((given := headers.get(name, "")) and expected in {"", given} for name, expected in pairs)

    def accept(self, message_id: str) -> tuple[int, Mapping[str, Any]]:
        """Return the answer of a current client's README; older ones saw 201."""
        told = "Message received and being sent to recipient"
        return 202, {"id": message_id, "status": "ACCEPTED", "message": told}

    def refuse(self, refusal: Refusal) -> tuple[int, Mapping[str, Any]]:
        """Return `{message, code?}`, the fields that public clients read."""
        code = {} if refusal.code is None else {"code": refusal.code}
        return refusal.status, {"message": refusal.message, **code}

    def report(self, order: Order, message_id: str, status: ReceiptStatus, at: int) -> Report:
        """Return a signed `Message.WA.Status.Received`."""
        phone = order.recipient.removeprefix("+")
        shape = {
            "id": message_id,
            "accountId": self._settings.gallabox_account_id or "sandbox-account",
            "channelId": self._settings.gallabox_channel_id or "sandbox-channel",
            "localMessageId": order.delivery_id,
            "contact": {"id": f"contact-{phone}", "name": order.recipient_name, "phone": [phone]},
            "whatsapp": {"to": phone, "type": "template", "status": status.value, "time": str(at // 1000)},
        }
        body = json.dumps({key: value for key, value in shape.items() if value is not None}).encode()
        digest = hmac.digest(self._settings.gallabox_webhook_secret.encode(), body, "sha256")
        headers = {
            "content-type": "application/json",
            "x-event-name": "Message.WA.Status.Received",
            "x-gallabox-signature": base64.b64encode(digest).decode(),
        }
        return Report(headers, {}, body)

    def list_templates(self, headers: Mapping[str, str], account_id: str) -> tuple[int, Any]:
        """Return status and body of `GET /devapi/accounts/{accountId}/whatsappTemplates`."""
        if not self._knows(headers):
            return self.refuse(Refusal(401, "Unauthorized"))
        if self._settings.gallabox_account_id not in {"", account_id}:
            return self.refuse(Refusal(403, "Forbidden"))
        return 200, [
            {
                "id": f"sandbox-{template.id}",
                "accountId": account_id,
                "channelId": self._settings.gallabox_channel_id or "sandbox-channel",
                "name": template.id,
                "status": template.status,
                "language": template.language,
                "category": template.category,
                "variables": list(template.variables),
                "components": list(_list_components(template)),
            }
            for (provider, _), named in sorted(self._templates.items())
            for template in named.versions
            if provider == self.provider
        ]


def _read_button(template: Template, place: int, button: _ButtonValue) -> Button | Refusal:
    """Return what a button is filled with. A password's button looks like a URL's on the wire."""
    match button.sub_type, button.parameters:
        case "url", _Text(text=text):
            kinds = {at: each.kind for at, each in enumerate(template.buttons)}
            return Button(button.index, text, "otp" if kinds.get(button.index) == "otp" else "url")
        case "copy_code", _Coupon(coupon_code=code):
            return Button(button.index, code, "copy_code")
        case "quick_reply", _Payload(payload=payload):
            return Button(button.index, payload, "payload")
        case "flow", _Action(action=action):
            return Button(button.index, action.flow_token, "flow")
        case _:
            told = f"does not fit parameters of the type {button.parameters.type}"
            return Refusal(400, f'"whatsapp.template.buttonValues.{place}.sub_type": {told}')


def _read_header(template: Template, values: Mapping[str, str] | None) -> Header | Location | Refusal | None:
    if values is None:
        return None
    if template.header_kind == "location" and values.keys() == {"latitude", "longitude", "name", "address"}:
        return Location(**values)
    if "mediaUrl" in values:
        if unknown := values.keys() - {"mediaUrl", "mediaName"}:
            return Refusal(400, f'"whatsapp.template.headerValues.{min(unknown)}" is not allowed')
        # The wire does not say which medium it is. Where the template has none, any is one too many.
        kind = template.header_kind
        medium = kind if kind in MEDIA_KINDS else "image"
        return Header(medium, values["mediaUrl"], values.get("mediaName"))
    # How a text header is filled is not documented; an object keyed by the variable's name, as in the body, is likely.
    if len(values) != 1:
        return Refusal(400, '"whatsapp.template.headerValues" needs mediaUrl, or the one variable of a text header')
    return Header("text", next(iter(values.values())))


def _list_components(template: Template) -> Iterator[Mapping[str, Any]]:
    if template.header_kind == "text":
        yield {"type": "HEADER", "format": "TEXT", "text": template.header_text}
    elif template.header_kind != "none":
        yield {"type": "HEADER", "format": template.header_kind.upper()}
    yield {"type": "BODY", "text": template.body}
    if template.footer:
        yield {"type": "FOOTER", "text": template.footer}
    if template.offer:
        offer = {"text": template.offer, "has_expiration": template.offer_expires}
        yield {"type": "LIMITED_TIME_OFFER", "limited_time_offer": offer}
    yield from ({"type": part.upper()} for part in template.others)
    if template.buttons:
        yield {"type": "BUTTONS", "buttons": [_list_button(button) for button in template.buttons]}


def _list_button(button: TemplateButton) -> Mapping[str, str]:
    listed = {"type": find_button_kind(button.kind).listed, "text": button.text}
    match button.kind:
        case "url":
            return {**listed, "url": button.url}
        case "phone":
            return {**listed, "phone_number": button.url}
        case _:
            return listed
