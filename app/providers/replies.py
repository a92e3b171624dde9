"""What customers send back, in WhatsApp's own words, as they come through any provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.core.models import Reply, Wish
from app.providers.probing import as_items, as_mapping, first_text, read_instant, read_path

_NUMBER = re.compile(r"\+?([1-9][0-9]{7,14})")
_TAPS = ("button.text", "interactive.button_reply.title", "interactive.list_reply.title")
_WORDS = ("text.body", "text", "body")
_TAPPED_KINDS = frozenset({"button", "interactive"})
_WISHES: Mapping[str, Wish] = {"stop": "stop", "resume": "resume"}


def read_sender(text: str | None) -> str:
    """Return an international number, with or without its plus sign, as E.164; "" for anything else.

    WhatsApp itself names the sender, so there is nothing to guess.
    """
    found = _NUMBER.fullmatch(text or "")
    return f"+{found[1]}" if found else ""


def read_said(fields: Any) -> tuple[str, bool]:
    """Return what a message of a customer says, and whether they tapped it on a button or in a list."""
    tap = first_text(fields, _TAPS)
    if tap is not None:
        return tap, True
    return first_text(fields, _WORDS) or "", first_text(fields, ("type",)) in _TAPPED_KINDS


def read_meta_replies(value: Any) -> tuple[Reply, ...]:
    """Return what a webhook in WhatsApp Cloud API form holds of customers: messages, and choices made in WhatsApp.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages and, beside
    it, user_preferences
    """
    changes = [
        as_mapping(read_path(change, "value"))
        for entry in as_items(as_mapping(value).get("entry"))
        for change in as_items(as_mapping(entry).get("changes"))
    ]
    said = (_read_message(item) for change in changes for item in as_items(change.get("messages")))
    chosen = (_read_choice(item) for change in changes for item in as_items(change.get("user_preferences")))
    return tuple(reply for reply in (*said, *chosen) if reply is not None and is_of_somebody(reply))


def is_of_somebody(reply: Reply) -> bool:
    """Tell whether it is known who replied, or to which message."""
    return bool(reply.sender or reply.delivery_id or reply.provider_message_id)


def _read_message(item: Any) -> Reply | None:
    text, tapped = read_said(item)
    return Reply(
        read_sender(first_text(item, ("from",))),
        text,
        tapped,
        provider_message_id=first_text(item, ("context.id",)),
        at=read_instant(read_path(item, "timestamp")),
    )


def _read_choice(item: Any) -> Reply | None:
    wish = _WISHES.get((first_text(item, ("value",)) or "").lower())
    if wish is None or first_text(item, ("category",)) != "marketing_messages":
        return None
    return Reply(read_sender(first_text(item, ("wa_id",))), at=read_instant(read_path(item, "timestamp")), wish=wish)
