"""What WhatsApp says of a template or of the whole account, in its own form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.model.delivery import Reason, Scope
from app.model.receipt import Notice
from app.providers.json import as_items, as_mapping, first_text, read_path
from app.providers.trouble import judge_trouble, read_trouble

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


def read_meta_notices(value: Any) -> tuple[Notice, ...]:
    """Return what a webhook in WhatsApp Cloud API form says of templates and of its account."""
    return tuple(
        notice
        for entry in as_items(as_mapping(value).get("entry"))
        for change in as_items(as_mapping(entry).get("changes"))
        for notice in _read_change(first_text(change, ("field",)), as_mapping(read_path(change, "value")))
    )


def read_template_notice(
    fields: Any, names: tuple[str, ...], languages: tuple[str, ...], events: tuple[str, ...]
) -> Iterator[Notice]:
    """Yield what an object says of a template, if it does; the rest: the paths at which it may say so."""
    event = (first_text(fields, events) or "").lower()
    name = first_text(fields, names)
    if name is not None and event in _TEMPLATE_EVENTS:
        yield Notice(_TEMPLATE_EVENTS[event], name, first_text(fields, languages) or "")


def _read_change(field: str | None, fields: Mapping[str, Any]) -> Iterator[Notice]:
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
