"""BiteSpeed. It publishes no API reference: what stands here is a default, and all of it is data in the YAML.

Known (https://www.nector.io/blog/nector-bitespeed-integration): a channel id, a user id and a template id,
and variables in order. The body below is made of just these; put `path`, `headers`, `body`, `accepted` and
`message_id` (see http.py) into the YAML as BiteSpeed tells you. Its inbox is a Chatwoot, whose webhooks
are read as receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, SecretStr

from app.model.message import Receipt, Reply
from app.model.value import dataclass
from app.providers.base import Proof, WebhookContent
from app.providers.body import Token, as_items, as_mapping, first_instant, first_text
from app.providers.http import JsonApi, JsonApiSettings, mapped_secrets
from app.providers.whatsapp import is_of_somebody, make_receipt, read_meta, read_sender, read_status_word

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
    """An instance is one configured BiteSpeed account."""

    settings: BitespeedSettings
    settings_type: ClassVar[type[BitespeedSettings]] = BitespeedSettings

    def read_proof(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Proof:  # noqa: ARG002 - the seam
        """Return `?token=`: the webhook's sender signs nothing."""
        return Token(self.settings.webhook_token.get_secret_value(), query.get("token", ""))

    def read_webhook(self, headers: Mapping[str, str], value: Any) -> WebhookContent:  # noqa: ARG002 - the seam
        """Return what events of Chatwoot, where a tapped button is a text like any other, and WhatsApp's own say."""
        list_secrets = partial(mapped_secrets, self.settings)
        meta, events = read_meta(value, list_secrets), [as_mapping(event) for event in as_items(value) or (value,)]
        receipts = (receipt for event in events for receipt in _read_receipts(event, list_secrets))
        replies = filter(is_of_somebody, map(_read_reply, events))
        return WebhookContent((*receipts, *meta.receipts), (*replies, *meta.replies), meta.notices)


def _read_receipts(event: Mapping[str, Any], list_secrets: Callable[[], Sequence[str]]) -> Iterator[Receipt]:
    # https://www.chatwoot.com/hc/user-guide/articles/1677693021-how-to-use-webhooks
    # The customer's own messages come by here as well (message_type incoming, or 0).
    if first_text(event, ("event",)) not in _STATUS_EVENTS or event.get("message_type") in _INCOMING:
        return
    status, delivery_id = read_status_word(first_text(event, ("status",))), first_text(event, _OUR_ID_PATHS)
    at, why = first_instant(event, ("updated_at", "created_at")), event.get("content_attributes")
    # Which of its ids the answer to our request named is not documented: one receipt for each. One that
    # matches nothing does nothing.
    ids = [first_text(event, ("source_id",)), first_text(event, ("id",))]
    distinct: list[str | None] = list(dict.fromkeys(filter(None, ids)))
    for message_id in distinct if delivery_id is None else (distinct or [None])[:1]:
        receipt = make_receipt(status, delivery_id, message_id, at, why, list_secrets)
        if receipt is not None:
            yield receipt


def _read_reply(event: Mapping[str, Any]) -> Reply | None:
    if first_text(event, ("event",)) != "message_created" or event.get("message_type") not in _INCOMING:
        return None
    if event.get("private") is True:  # a note of the merchant's own people
        return None
    return Reply(
        read_sender(first_text(event, _SENDER_PATHS)),
        first_text(event, ("content",)) or "",
        provider_message_id=first_text(event, _ANSWERED_PATHS),
        at=first_instant(event, ("created_at",)),
    )
