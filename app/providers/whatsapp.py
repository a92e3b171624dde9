"""WhatsApp's own words, as they come through any provider: message statuses, what customers reply, notices.

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status, and
beside it messages, user_preferences, message_template_status_update and account_update.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from app.model.delivery import Reason, Scope
from app.model.message import Notice, Receipt, ReceiptStatus, Reply, Wish
from app.providers.base import WebhookContent
from app.providers.body import as_items, as_mapping, first_instant, first_text, read_path
from app.providers.trouble import describe_trouble, judge_trouble, read_trouble

_OTHER_CODES = tuple(
    f"{place}{key}"
    for place in ("errors[0].", "error.", "whatsapp.errors[0].", "data.errors[0].", "data.error.", "")
    for key in ("code", "error_code", "errorCode")
)
_NUMBER = re.compile(r"\+?([1-9][0-9]{7,14})")
_PAYLOADS = ("button.payload", "interactive.button_reply.id", "interactive.list_reply.id")
_TAPS = ("button.text", "interactive.button_reply.title", "interactive.list_reply.title")
_WORDS = ("text.body", "text", "body")
_TAPPED_KINDS = frozenset({"button", "interactive"})
_STATUSES = {**{status.value: status for status in ReceiptStatus}, "undelivered": ReceiptStatus.FAILED}
_NOTHING = WebhookContent()
_WISHES: Mapping[str, Wish] = {"stop": "stop", "resume": "resume"}
# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/message_template_status_update
_TEMPLATE_EVENTS: Mapping[str, Reason | None] = {
    "paused": Reason.TEMPLATE_PAUSED,
    "disabled": Reason.TEMPLATE_PAUSED,
    "rejected": Reason.TEMPLATE_REFUSED,
    "approved": None,
    "reinstated": None,
}
# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/account_update
# Other restrictions (of adding numbers, of answering calls) leave templates alone; so does a violation by itself.
_MESSAGING = "RESTRICTED_BIZ_INITIATED_MESSAGING"
_BANS: Mapping[str, Reason | None] = {"DISABLE": Reason.ACCOUNT_BLOCKED, "REINSTATE": None}
# Offboarded: the number was registered anew on another phone, and nothing can be sent until it is connected again.
_ACCOUNT_EVENTS: Mapping[str | None, Reason | None] = {
    "ACCOUNT_DELETED": Reason.ACCOUNT_BLOCKED,
    "ACCOUNT_OFFBOARDED": Reason.ACCOUNT_BLOCKED,
    "ACCOUNT_RECONNECTED": None,
}


def read_meta(value: Any, list_secrets: Callable[[], Sequence[str]]) -> WebhookContent:
    """Return what a webhook in the form of WhatsApp's Cloud API holds; nothing of one in another form."""
    changes = [
        (first_text(change, ("field",)), as_mapping(read_path(change, "value")))
        for entry in as_items(as_mapping(value).get("entry"))
        for change in as_items(as_mapping(entry).get("changes"))
    ]
    if not changes:
        return _NOTHING
    receipts = (_read_status(item, list_secrets) for _, told in changes for item in as_items(told.get("statuses")))
    said = (_read_message(item) for _, told in changes for item in as_items(told.get("messages")))
    chosen = (_read_choice(item) for _, told in changes for item in as_items(told.get("user_preferences")))
    notices = (notice for field, told in changes for notice in _read_notices(field, told))
    return WebhookContent(
        tuple(filter(None, receipts)), tuple(filter(is_of_somebody, (*said, *chosen))), tuple(notices)
    )


# -- receipts -------------------------------------------------------------------------------------


def read_status_word(word: str | None) -> ReceiptStatus | None:
    """Return the receipt status of a word in any case, None if it is no such word. "undelivered" has failed."""
    return _STATUSES.get((word or "").lower())


def make_receipt(
    status: ReceiptStatus | None,
    delivery_id: str | None,
    message_id: str | None,
    at: int | None,
    said: Any,
    list_secrets: Callable[[], Sequence[str]],
    wamid: str | None = None,
) -> Receipt | None:
    """Return a receipt, None where its status is none or it names no message. `said`: tells why it failed.

    What may pass by itself (a pace, a pause) holds nothing: so long after the request it says little of the next one.
    """
    if status is None or (delivery_id is None and message_id is None):
        return None
    if status is not ReceiptStatus.FAILED:
        return Receipt(status, delivery_id, message_id, at, wamid=wamid)
    trouble = read_trouble(said)
    meaning, detail = judge_trouble(trouble), describe_trouble(trouble, list_secrets())
    scope = Scope.MESSAGE if meaning.retry else meaning.scope
    code = _find_other_code(said) if trouble.code is None else ""
    if code not in detail:
        detail = f"{code}: {detail}" if detail else code
    return Receipt(status, delivery_id, message_id, at, meaning.reason, detail, scope, wamid)


def _find_other_code(value: Any) -> str:
    """Return a code that we do not know, for people to look up; nothing as long as a phone number."""
    code = first_text(value, _OTHER_CODES) or ""
    return code if re.fullmatch(r"[A-Za-z_]{0,20}[0-9]{1,7}", code) else ""


def _read_status(item: Any, list_secrets: Callable[[], Sequence[str]]) -> Receipt | None:
    return make_receipt(
        read_status_word(first_text(item, ("status",))),
        first_text(item, ("biz_opaque_callback_data",)),
        first_text(item, ("id",)),
        first_instant(item, ("timestamp",)),
        item,
        list_secrets,
    )


# -- replies --------------------------------------------------------------------------------------


def read_sender(text: str | None) -> str:
    """Return an international number, with or without its plus sign, as E.164; "" for anything else: no guess."""
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


def is_of_somebody(reply: Reply | None) -> TypeGuard[Reply]:
    """Tell whether it is known who replied, or to which message."""
    return reply is not None and bool(reply.sender or reply.delivery_id or reply.provider_message_id)


def _read_message(item: Any) -> Reply:
    text, tapped = read_said(item)
    return Reply(
        read_sender(first_text(item, ("from",))),
        text,
        tapped,
        provider_message_id=first_text(item, ("context.id",)),
        at=first_instant(item, ("timestamp",)),
        payload=read_payload(item),
    )


def _read_choice(item: Any) -> Reply | None:
    wish = _WISHES.get((first_text(item, ("value",)) or "").lower())
    if wish is None or first_text(item, ("category",)) != "marketing_messages":
        return None
    return Reply(read_sender(first_text(item, ("wa_id",))), at=first_instant(item, ("timestamp",)), wish=wish)


# -- notices --------------------------------------------------------------------------------------


def read_template_notice(
    fields: Any, names: tuple[str, ...], languages: tuple[str, ...], events: tuple[str, ...]
) -> Iterator[Notice]:
    """Yield what an object says of a template, if it does; the rest: the paths at which it may say so."""
    event = (first_text(fields, events) or "").lower()
    name = first_text(fields, names)
    if name is not None and event in _TEMPLATE_EVENTS:
        yield Notice(_TEMPLATE_EVENTS[event], name, first_text(fields, languages) or "")


def _read_notices(field: str | None, fields: Mapping[str, Any]) -> Iterator[Notice]:
    if field == "message_template_status_update":
        yield from read_template_notice(fields, ("message_template_name",), ("message_template_language",), ("event",))
    if field == "account_update":
        yield from _read_account(fields)
    if field == "messages":
        yield from _read_errors(fields)


def _read_account(fields: Mapping[str, Any]) -> Iterator[Notice]:
    event, state = first_text(fields, ("event",)), first_text(fields, ("ban_info.waba_ban_state",)) or ""
    kinds = [first_text(item, ("restriction_type",)) for item in as_items(fields.get("restriction_info"))]
    if event in _ACCOUNT_EVENTS:
        yield Notice(_ACCOUNT_EVENTS[event])
    if event == "ACCOUNT_RESTRICTION" and _MESSAGING in kinds:
        yield Notice(Reason.ACCOUNT_BLOCKED)
    if event == "DISABLED_UPDATE" and state in _BANS:
        yield Notice(_BANS[state])


def _read_errors(fields: Mapping[str, Any]) -> Iterator[Notice]:
    # https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/errors
    for error in as_items(fields.get("errors")):
        meaning = judge_trouble(read_trouble({"errors": [error]}))
        if meaning.scope is Scope.PROVIDER:
            yield Notice(meaning.reason, passing=meaning.retry)
