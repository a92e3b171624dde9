"""WhatsApp's own words, as they come through any provider: its status webhooks and what customers reply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.model.delivery import Reason, Scope
from app.model.receipt import Receipt, ReceiptStatus, Reply, Wish
from app.providers.json import as_items, as_mapping, first_text, read_instant, read_path
from app.providers.trouble import describe_trouble, judge_trouble, read_trouble


def read_status_word(word: str | None) -> ReceiptStatus | None:
    """Return the receipt status of a word in any case, None if it is no such word. "undelivered" has failed."""
    lower = (word or "").lower()
    try:
        return ReceiptStatus("failed" if lower == "undelivered" else lower)
    except ValueError:
        return None


_CODE_KEYS = ("code", "error_code", "errorCode")
_OTHER_CODES = tuple(
    f"{place}{key}"
    for place in ("errors[0].", "error.", "whatsapp.errors[0].", "data.errors[0].", "data.error.", "")
    for key in _CODE_KEYS
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message failed after it was taken; empty for any other receipt."""

    reason: Reason | None = None
    detail: str = ""
    scope: Scope = Scope.MESSAGE


def failure_of(value: Any, status: ReceiptStatus, secrets: Sequence[str]) -> Failure:
    """Return why a receipt says that its message failed.

    What may pass by itself (a pace, a pause) holds nothing: so long after the request it says little of the next one.
    """
    if status is not ReceiptStatus.FAILED:
        return Failure()
    trouble = read_trouble(value)
    meaning = judge_trouble(trouble)
    scope = Scope.MESSAGE if meaning.retry else meaning.scope
    detail = describe_trouble(trouble, secrets)
    code = _find_other_code(value) if trouble.code is None else ""
    return Failure(meaning.reason, detail if code in detail else f"{code}: {detail}" if detail else code, scope)


def _find_other_code(value: Any) -> str:
    """Return a code that we do not know, for people to look up; nothing as long as a phone number."""
    code = first_text(value, _OTHER_CODES) or ""
    return code if re.fullmatch(r"[A-Za-z_]{0,20}[0-9]{1,7}", code) else ""


def read_meta_statuses(value: Any, secrets: Sequence[str]) -> tuple[Receipt, ...]:
    """Return the receipts of a webhook in WhatsApp Cloud API form, () if it has none.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
    """
    statuses = [
        item
        for entry in as_items(as_mapping(value).get("entry"))
        for change in as_items(as_mapping(entry).get("changes"))
        for item in as_items(read_path(change, "value.statuses"))
    ]
    return tuple(receipt for item in statuses if (receipt := _read_meta_status(item, secrets)) is not None)


def _read_meta_status(item: Any, secrets: Sequence[str]) -> Receipt | None:
    status = read_status_word(first_text(item, ("status",)))
    delivery_id = first_text(item, ("biz_opaque_callback_data",))
    message_id = first_text(item, ("id",))
    if status is None or (delivery_id is None and message_id is None):
        return None
    why = failure_of(item, status, secrets)
    at = read_instant(read_path(item, "timestamp"))
    return Receipt(status, delivery_id, message_id, at, why.reason, why.detail, why.scope)


_NUMBER = re.compile(r"\+?([1-9][0-9]{7,14})")
_PAYLOADS = ("button.payload", "interactive.button_reply.id", "interactive.list_reply.id")
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


def read_payload(fields: Any) -> str:
    """Return what the template's author put behind the button that was tapped, "" if nothing."""
    return first_text(fields, _PAYLOADS) or ""


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
        payload=read_payload(item),
    )


def _read_choice(item: Any) -> Reply | None:
    wish = _WISHES.get((first_text(item, ("value",)) or "").lower())
    if wish is None or first_text(item, ("category",)) != "marketing_messages":
        return None
    return Reply(read_sender(first_text(item, ("wa_id",))), at=read_instant(read_path(item, "timestamp")), wish=wish)
