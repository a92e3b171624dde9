"""BiteSpeed. It publishes no API reference: what stands here is a default, and all of it is data in the YAML.

Known (https://www.nector.io/blog/nector-bitespeed-integration): a channel id, a user id and a template id,
and variables in order. The body below is made of just these; put `path`, `headers`, `body`, `accepted` and
`message_id` (see http.py) into the YAML as BiteSpeed tells you. Its inbox is a Chatwoot, whose webhooks
are read as receipts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, SecretStr

from app.errors import Mistake
from app.model.receipt import Notice, Receipt, Reply
from app.providers.http import JsonApi, JsonApiSettings, collect_texts, mapped_secrets
from app.providers.json import as_items, as_mapping, first_text, read_instant, read_path
from app.providers.notices import read_meta_notices
from app.providers.signature import find_token_mistake, has_token
from app.providers.webhook import parse_webhook
from app.providers.whatsapp import (
    failure_of,
    is_of_somebody,
    read_meta_replies,
    read_meta_statuses,
    read_sender,
    read_status_word,
)

DEFAULT_BODY: Mapping[str, JsonValue] = {
    "channelId": "$channel_id",
    "userId": "$user_id",
    "templateId": "$template",
    "phone": "$phone",
    "variables": "$variables",
    "header": "$header",
    "buttons": "$buttons",
    "offerEndsAt": "$offer_ends_at",
}
_STATUS_EVENTS = frozenset({"message_created", "message_updated"})
_INCOMING = ("incoming", 0)
_SENDER_PATHS = ("conversation.meta.sender.phone_number", "sender.phone_number")
_ANSWERED_PATHS = ("content_attributes.in_reply_to_external_id", "content_attributes.in_reply_to")
_OUR_ID_PATHS = ("content_attributes.local_message_id", "content_attributes.delivery_id", "local_message_id")


class BitespeedSettings(JsonApiSettings):
    """The YAML keys of `type: bitespeed`. Its two ids are all that is asked of a caller: they are kept as secrets."""

    constants: ClassVar[Collection[str]] = ("channel_id", "user_id")

    type: Literal["bitespeed"]
    channel_id: str = Field(
        repr=False, description="Channel ID, as BiteSpeed's staff gave it out.", examples=["${BITESPEED_CHANNEL_ID}"]
    )
    user_id: str = Field(
        repr=False, description="User ID, as BiteSpeed's staff gave it out.", examples=["${BITESPEED_USER_ID}"]
    )
    webhook_token: SecretStr = Field(
        SecretStr(""),
        description="Only needed to take receipts: ?token= of their URL.",
        examples=["${BITESPEED_WEBHOOK_TOKEN:-}"],
    )
    body: dict[str, JsonValue] | None = Field(
        default_factory=lambda: dict(DEFAULT_BODY),
        description="The JSON body; $phone and the like stand for the message's values.",
    )


@dataclass(frozen=True, slots=True)
class Bitespeed(JsonApi):
    """One configured BiteSpeed account."""

    settings: BitespeedSettings
    settings_type: ClassVar[type[BitespeedSettings]] = BitespeedSettings

    def find_receipt_mistake(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Mistake | None:  # noqa: ARG002 - the seam
        """Return what is wrong with `?token=`."""
        return find_token_mistake(self.settings.webhook_token.get_secret_value(), query)

    def verify_receipt(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG002 - the seam
        """Tell whether the webhook carries `?token=`: its sender signs nothing."""
        return has_token(self.settings.webhook_token.get_secret_value(), query)

    def read_receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt]:
        """Return what Chatwoot events say of our messages; WhatsApp's own form is understood, too."""
        value, secrets = parse_webhook(headers, body), mapped_secrets(self.settings)
        events = as_items(value) or (value,)
        chatwoot = [receipt for event in events for receipt in _read_event(as_mapping(event), secrets)]
        return (*chatwoot, *read_meta_statuses(value, secrets))

    def read_replies(self, headers: Mapping[str, str], body: bytes) -> Sequence[Reply]:
        """Return what customers wrote, as Chatwoot tells of it. A tapped button is a text like any other there."""
        value = parse_webhook(headers, body)
        replies = (_read_reply(as_mapping(event)) for event in as_items(value) or (value,))
        said = (reply for reply in replies if reply is not None and is_of_somebody(reply))
        return (*said, *read_meta_replies(value))

    def read_notices(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notice]:
        """Return what WhatsApp's own form says of templates and of the account."""
        return read_meta_notices(parse_webhook(headers, body))


def _read_event(event: Mapping[str, Any], secrets: Sequence[str]) -> Sequence[Receipt]:
    # https://www.chatwoot.com/hc/user-guide/articles/1677693021-how-to-use-webhooks
    name, status = first_text(event, ("event",)), read_status_word(first_text(event, ("status",)))
    # The customer's own messages come by here as well (message_type incoming, or 0).
    if name not in _STATUS_EVENTS or status is None or event.get("message_type") in _INCOMING:
        return ()
    why = failure_of(event.get("content_attributes"), status, secrets)
    at = read_instant(read_path(event, "updated_at")) or read_instant(event.get("created_at"))
    delivery_id = first_text(event, _OUR_ID_PATHS)
    # Which of its ids the answer to our request named is not documented: one receipt for each. One that
    # matches nothing does nothing.
    ids: Sequence[str | None] = collect_texts(event, ("source_id", "id"))
    if delivery_id is not None:
        ids = (*ids, None)[:1]
    return tuple(Receipt(status, delivery_id, message_id, at, why.reason, why.detail, why.scope) for message_id in ids)


def _read_reply(event: Mapping[str, Any]) -> Reply | None:
    if first_text(event, ("event",)) != "message_created" or event.get("message_type") not in _INCOMING:
        return None
    if event.get("private") is True:  # a note of the merchant's own people
        return None
    return Reply(
        read_sender(first_text(event, _SENDER_PATHS)),
        first_text(event, ("content",)) or "",
        provider_message_id=first_text(event, _ANSWERED_PATHS),
        at=read_instant(event.get("created_at")),
    )
