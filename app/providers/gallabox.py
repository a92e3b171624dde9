"""Gallabox: its request, its answers, its webhooks, its list of templates.

Sources: https://developers.gallabox.com/gallabox-api/whatsapp-templates and the official Postman set
(https://documenter.gw.postman.com/view/metadata/Tzz7QJTJ); where they are silent, public client code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.mapping.template import Template, TemplateButton, find_listed_kind
from app.message.components import BUTTONS
from app.model.delivery import Outcome
from app.model.message import Button, Header, Location, Message, Receipt, ReceiptStatus, Reply
from app.model.value import dataclass
from app.providers.answers import read_answer
from app.providers.base import LIST_LIMIT_BYTES, Proof, Request, Response, WebhookContent
from app.providers.body import (
    Signature,
    as_items,
    as_mapping,
    as_text,
    find_values,
    first_instant,
    first_text,
    parse_json,
    read_path,
)
from app.providers.request import (
    RemoteSettings,
    check_header_secret,
    name_variables,
    secrets_of,
    write_json,
)
from app.providers.whatsapp import (
    is_of_somebody,
    make_receipt,
    read_meta,
    read_payload,
    read_said,
    read_sender,
    read_status_word,
    read_template_notice,
)

# https://docs.gallabox.com/developer-resources/webhook; older pages spell them in other cases.
_STATUS_EVENTS = frozenset({"message.send", "message.wa.status.received", "broadcast.wa.message.status.received"})
_FAILED_EVENTS = frozenset({"message.wa.status.failed", "broadcast.wa.message.status.failed"})
_RECEIPT_EVENTS = _STATUS_EVENTS | _FAILED_EVENTS | {""}
_TAP_EVENT = "message.wa.interaction.received"
_REPLY_EVENTS = frozenset({"message.received", _TAP_EVENT, "broadcast.wa.message.engaged.received"})
# The body of a failed event is not documented, and the places differ from plan to plan.
_OUR_ID_PATHS = ("localMessageId", "data.localMessageId", "message.localMessageId", "whatsapp.localMessageId")
_ITS_ID_PATHS = ("id", "data.id", "data.messageId", "message.id", "messageId", "whatsapp.id")
# Where an id of WhatsApp's own may stand beside Gallabox's; what it is shows in its form.
_WAMID_PATHS = (
    *("wamid", "whatsapp.wamid", "whatsapp.id", "whatsapp.messageId", "data.wamid", "data.whatsapp.id", "messageId"),
    *("data.messageId", "message.id", "id"),
)
_STATUS_PATHS = ("whatsapp.status", "data.whatsapp.status", "data.status", "message.status", "status")
_TIME_PATHS = ("whatsapp.time", "data.whatsapp.time", "whatsapp.timestamp", "data.timestamp", "timestamp")
_SENDER_PATHS = (
    "whatsapp.from",
    "data.whatsapp.from",
    "from",
    "data.from",
    "contact.phone[0]",
    "data.contact.phone[0]",
)
# The body of Template.Status is not documented.
_TEMPLATE_PATHS = ("template.name", "data.template.name", "templateName", "data.templateName", "data.name", "name")
_LANGUAGE_PATHS = ("template.language", "data.template.language", "data.language", "language")
_TEMPLATE_STATUS_PATHS = ("template.status", "data.template.status", "data.status", "status", "event")
# The message that a customer answers or tapped on.
_ANSWERED_OUR_PATHS = ("whatsapp.context.localMessageId", "context.localMessageId", *_OUR_ID_PATHS)
_ANSWERED_ITS_PATHS = ("whatsapp.context.id", "data.whatsapp.context.id", "context.id", "whatsapp.context.messageId")

_READ_COMPONENTS = frozenset({"HEADER", "BODY", "FOOTER", "BUTTONS", "LIMITED_TIME_OFFER"})
# An authentication template's button is listed as the URL that WhatsApp makes of it:
# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/authentication-templates/copy-code-button-authentication-templates
_OTP_URL = "https://www.whatsapp.com/otp/"

HeaderSecret = Annotated[SecretStr, AfterValidator(check_header_secret)]


class GallaboxSettings(RemoteSettings):
    """The YAML keys of `type: gallabox`: Settings → Channels and Settings → API keys there."""

    named_variables: ClassVar[bool] = True

    type: Literal["gallabox"]
    channel_id: str = Field(description="The WhatsApp channel to send from.", examples=["${GALLABOX_CHANNEL_ID}"])
    api_key: HeaderSecret = Field(
        description="API key, from the environment and nowhere else.", examples=["${GALLABOX_API_KEY}"]
    )
    api_secret: HeaderSecret = Field(
        description="API secret, from the environment and nowhere else.", examples=["${GALLABOX_API_SECRET}"]
    )
    account_id: str = Field(
        "", description="Only needed to compare with the approved templates.", examples=["${GALLABOX_ACCOUNT_ID:-}"]
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="Only needed to take receipts.", examples=["${GALLABOX_WEBHOOK_SECRET:-}"]
    )
    webhook_signature: Literal["base64", "hex", "either"] = Field(
        "base64", description="How x-gallabox-signature is written; Gallabox documents base64, and no other is taken."
    )
    base_url: str = Field("https://server.gallabox.com", description="Where the API stands.")


@dataclass(frozen=True)
class Gallabox:
    """An instance is one configured Gallabox channel."""

    settings: GallaboxSettings
    settings_type: ClassVar[type[GallaboxSettings]] = GallaboxSettings

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return `POST /devapi/messages/whatsapp`; our id travels as `localMessageId` and comes back in webhooks."""
        phone = message.recipient.removeprefix("+")
        payload = {
            "channelId": self.settings.channel_id,
            "channelType": "whatsapp",
            "localMessageId": delivery_id,
            "recipient": {"name": message.recipient_name or phone, "phone": phone},
            "whatsapp": {"type": "template", "template": _describe_template(message)},
        }
        return Request("POST", self._url, self._headers, write_json(payload).encode("ascii"))

    def read_response(self, response: Response) -> Outcome:
        """Say what the answer means: a plain acceptance is `{id, status: ACCEPTED, message}`."""
        settings = self.settings
        return read_answer(response, treat_500_as=settings.treat_500_as, list_secrets=lambda: secrets_of(settings))

    def read_proof(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Proof:  # noqa: ARG002 - the seam
        """Return `x-gallabox-signature`, which is in base64 unless the YAML allows hex."""
        settings = self.settings
        given = headers.get("x-gallabox-signature", "")
        return Signature(settings.webhook_secret.get_secret_value(), given, settings.webhook_signature)

    def read_webhook(self, headers: Mapping[str, str], value: Any) -> WebhookContent:
        """Return the statuses of a webhook, a batch of them included, its replies, and what it says of a template.

        Without an event's name there are no replies: our own messages look alike.
        """
        event, list_secrets = headers.get("x-event-name", "").strip().lower(), partial(secrets_of, self.settings)
        items, meta = as_items(value) or (value,), read_meta(value, list_secrets)
        if event in _REPLY_EVENTS:
            replies = (_read_reply(item, tapped=event == _TAP_EVENT) for item in items)
            return WebhookContent(replies=(*filter(is_of_somebody, replies), *meta.replies))
        if event == "template.status":
            told = read_template_notice(value, _TEMPLATE_PATHS, _LANGUAGE_PATHS, _TEMPLATE_STATUS_PATHS)
            return WebhookContent(notices=(*told, *meta.notices))
        if event not in _RECEIPT_EVENTS:
            return WebhookContent()
        receipts = [_read_receipt(item, list_secrets, failed=event in _FAILED_EVENTS) for item in items]
        notices = () if event else meta.notices
        return WebhookContent((*filter(None, receipts), *meta.receipts), notices=notices)

    def list_templates_request(self) -> Request | None:
        """Return `GET /devapi/accounts/{accountId}/whatsappTemplates`, None without `account_id`; it may take 4 MiB."""
        if not self.settings.account_id:
            return None
        url = f"{self.settings.base_url}/devapi/accounts/{quote(self.settings.account_id, safe='')}/whatsappTemplates"
        return Request("GET", url, self._keys(), b"")

    def read_templates(self, provider_name: str, body: bytes) -> Sequence[Template] | None:
        """Return the templates of this channel from the answer to that, None if it is no such list."""
        items = parse_json(body, LIST_LIMIT_BYTES)
        if not isinstance(items, list):
            return None
        own = (item for item in items if as_mapping(item).get("channelId") in (None, self.settings.channel_id))
        return [template for item in own if (template := _read_template(provider_name, item)) is not None]

    @cached_property
    def _url(self) -> str:
        return f"{self.settings.base_url}/devapi/messages/whatsapp"

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        return {"content-type": "application/json", **self._keys()}

    def _keys(self) -> Mapping[str, str]:
        return {
            "apiKey": self.settings.api_key.get_secret_value(),
            "apiSecret": self.settings.api_secret.get_secret_value(),
        }


def _describe_template(message: Message) -> Mapping[str, Any]:
    template: dict[str, Any] = {"templateName": message.template, "bodyValues": name_variables(message)}
    if message.language is not None:
        template["languageCode"] = message.language
    if message.header is not None:
        template["headerValues"] = _describe_header(message.header)
    if message.offer_ends_at is not None:
        # Undocumented; by analogy with WhatsApp's own API, as are all buttons but URLs.
        template["limitedTimeOfferValues"] = {"expiration_time_ms": message.offer_ends_at}
    if message.buttons:
        template["buttonValues"] = [_describe_button(button) for button in message.buttons]
    return template


def _describe_button(button: Button) -> Mapping[str, Any]:
    # https://developers.gallabox.com/gallabox-api/whatsapp-templates
    # `parameters` is an object here, unlike the array of WhatsApp's own API.
    part = BUTTONS[button.kind]
    return {"index": button.index, "sub_type": part.sub_type, "parameters": part.to_parameter(button.value)}


def _describe_header(header: Header | Location) -> Mapping[str, str]:
    if isinstance(header, Location):
        return asdict(header)  # undocumented, too
    if header.kind == "text":
        return {"1": header.value}  # undocumented; by analogy with bodyValues, and a text header has one variable
    name = header.filename or urlsplit(header.value).path.rsplit("/", 1)[-1] or header.kind
    return {"mediaUrl": header.value, "mediaName": name}


def _read_receipt(value: Any, list_secrets: Callable[[], Sequence[str]], *, failed: bool) -> Receipt | None:
    status = ReceiptStatus.FAILED if failed else read_status_word(first_text(value, _STATUS_PATHS))
    message_id = first_text(value, _ITS_ID_PATHS)
    ids = map(as_text, find_values(value, _WAMID_PATHS))
    wamid = next((id_ for id_ in ids if id_ and id_.startswith("wamid.")), None)
    return make_receipt(
        status,
        first_text(value, _OUR_ID_PATHS),
        message_id,
        first_instant(value, _TIME_PATHS),
        value,
        list_secrets,
        wamid if wamid != message_id else None,
    )


def _read_reply(value: Any, *, tapped: bool) -> Reply:
    said = as_mapping(read_path(value, "whatsapp")) or as_mapping(read_path(value, "data.whatsapp")) or value
    text, on_button = read_said(said)
    return Reply(
        read_sender(first_text(value, _SENDER_PATHS)),
        text,
        tapped or on_button,
        first_text(value, _ANSWERED_OUR_PATHS),
        first_text(value, _ANSWERED_ITS_PATHS),
        first_instant(value, _TIME_PATHS),
        payload=read_payload(said),
    )


def _read_template(provider_name: str, value: Any) -> Template | None:
    name, components = first_text(value, ("name",)), _index_components(read_path(value, "components"))
    if name is None:
        return None
    header = components.get("HEADER", {})
    kind = (first_text(header, ("format",)) or "none").lower()
    offer = read_path(components.get("LIMITED_TIME_OFFER", {}), "limited_time_offer")
    return Template(
        provider=provider_name,
        id=name,
        body=str(components.get("BODY", {}).get("text") or ""),  # one without a text is told of, not kept
        variables=tuple(text for item in as_items(read_path(value, "variables")) if (text := as_text(item))),
        header_kind=kind,
        header_text=str(header.get("text", "")) if kind == "text" else "",
        footer=str(components.get("FOOTER", {}).get("text", "")),
        buttons=tuple(_read_buttons(as_items(components.get("BUTTONS", {}).get("buttons")))),
        language=first_text(value, ("language",)) or "en",
        category=(first_text(value, ("category",)) or "UTILITY").upper(),
        status=(first_text(value, ("status",)) or "").lower(),
        offer=first_text(offer, ("text",)) or "",
        offer_expires=as_mapping(offer).get("has_expiration") is True,
        others=tuple(sorted(kind.lower() for kind in components if kind not in _READ_COMPONENTS)),
    )


def _index_components(value: Any) -> Mapping[str, Mapping[str, Any]]:
    return {str(fields.get("type")).upper(): fields for fields in map(as_mapping, as_items(value))}


def _read_buttons(items: Sequence[Any]) -> Iterator[TemplateButton]:
    """Yield every button, known or not: a button is filled by its place among all of them."""
    for item in items:
        kind = find_listed_kind((first_text(item, ("type",)) or "unknown").upper())
        target = first_text(item, ("url", "phone_number")) or ""
        if target.startswith(_OTP_URL):
            kind, target = find_listed_kind("OTP"), ""
        label = first_text(item, ("text",)) or kind.label or kind.key
        yield TemplateButton(kind.key, label, target if kind.key in {"url", "phone"} else "")
