"""WhatsApp's own words, as they come through any provider: error codes and status webhooks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.model.delivery import Reason, Rejected, Retryable, Scope
from app.model.receipt import Receipt, ReceiptStatus, Reply, Wish
from app.providers.json import as_items, as_mapping, as_text, first_text, read_instant, read_path, walk_texts
from app.providers.redact import redact

ERROR_TEXTS = frozenset(
    {"message", "error", "title", "details", "detail", "reason", "errorMessage", "error_message", "external_error"}
)
_CODE_KEYS = ("code", "error_code", "errorCode")
_ERROR_PLACES = (
    *("error", "errors[0]", "error.error", "message", "data", "data.error", "data.errors[0]"),
    *("whatsapp.error", "whatsapp.errors[0]", "data.whatsapp.errors[0]"),
)
_LOW_CODES = 999
_META_MARKS = ("fbtrace_id", "error_data", "error_subcode")
_AT_START = re.compile(r"\W{0,3}(?:(?:meta|whatsapp|error|code)\W{1,3}){0,3}(13\d{4})(?!\d)", re.IGNORECASE)
_ANYWHERE = re.compile(r"(?<!\d)(13\d{4})(?!\d)")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error code stands for: `retry` says that the same message may go later."""

    reason: Reason
    scope: Scope
    retry: bool = False


_AUTH = Meaning(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)
_THROTTLED = Meaning(Reason.RATE_LIMITED, Scope.PROVIDER, retry=True)
_BLOCKED = Meaning(Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)
_DOWN = Meaning(Reason.UNAVAILABLE, Scope.PROVIDER, retry=True)
_BROKE = Meaning(Reason.SERVER_ERROR, Scope.MESSAGE, retry=True)
_PARAMETERS = Meaning(Reason.PARAMETERS_REFUSED, Scope.MESSAGE)
_NO_TEMPLATE = Meaning(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)
_PAUSED = Meaning(Reason.TEMPLATE_PAUSED, Scope.TEMPLATE)

# https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
META_CODES: Mapping[int, Meaning] = {
    **dict.fromkeys((0, 3, 10, 190, *range(200, 300)), _AUTH),
    **dict.fromkeys((4, 80007, 130429), _THROTTLED),
    131056: Meaning(Reason.RATE_LIMITED, Scope.RECIPIENT, retry=True),  # too much to one person
    **dict.fromkeys((368, 130497, 131031, 131045, 131048, 131064), _BLOCKED),
    131042: Meaning(Reason.BALANCE_EMPTY, Scope.PROVIDER),
    **dict.fromkeys((131000, 135000), _BROKE),
    **dict.fromkeys((131016, 131057), _DOWN),
    **dict.fromkeys((100, 131008, 131009, 131021, 132005, 132008, 132012, 132018), _PARAMETERS),
    132000: Meaning(Reason.PARAMETERS_REFUSED, Scope.TEMPLATE),  # a wrong count: the mapping, not this message
    131026: Meaning(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),  # not on WhatsApp
    **dict.fromkeys((130472, 131062), Meaning(Reason.REQUEST_REFUSED, Scope.RECIPIENT)),  # not now, or not this way
    131047: Meaning(Reason.REQUEST_REFUSED, Scope.MESSAGE),
    131049: Meaning(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT, retry=True),
    131050: Meaning(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
    **dict.fromkeys((131063, 132001, 132007), _NO_TEMPLATE),
    **dict.fromkeys((132015, 132016), _PAUSED),
}

# Phrases, not single words: templates of loyalty shops have variables named "balance" and "credits".
_OF_ACCOUNT = r"(?:(?:wallet|account|message|messaging|conversation|prepaid|whatsapp|sufficient|enough|more)\s+){0,2}"
_BALANCE = re.compile(
    rf"\b(?:insufficient|not enough|low|no|zero|out of|exhausted)\s+{_OF_ACCOUNT}(?:balance|credits?|funds?)\b"
    r"|\b(?:balance|credits?|funds?)\s+(?:(?:is|are|has|have|been|too)\s+){0,3}"
    r"(?:insufficient|not enough|low|exhausted|depleted|expired)\b"
    r"|\bpayment required\b|\brecharge\b",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(
    r"\btemplate\b[^.:;|]{0,60}?\b(?:not found|not exist|doesn't exist|not approved|unapproved|disabled|paused)\b"
    r"|\b(?:no such|unknown) template\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as a provider tells it: its words, and the code where one is known.

    `sure`: the code stood in a field of its own, not in prose. `words` may hold personal data: never shown.
    """

    words: str = ""
    code: int | None = None
    sure: bool = False


def find_meta_code(text: str) -> int | None:
    """Return the WhatsApp error code (13xxxx) that a vendor's error text mentions, None if it mentions no known one."""
    return next((code for found in _ANYWHERE.findall(text) if (code := int(found)) in META_CODES), None)


def read_trouble(value: Any) -> Trouble:
    """Return the error that a parsed JSON answer or webhook speaks of; empty where it speaks of none."""
    texts = tuple(dict.fromkeys(walk_texts(value, ERROR_TEXTS)))
    words = " | ".join(texts)
    if (code := _read_code_field(value)) is not None:
        return Trouble(words, code, sure=True)
    # A text that opens with the code was worded by Meta. Further on it may be a customer's value, echoed.
    opening = (int(start[1]) for text in texts if (start := _AT_START.match(text)))
    if (code := next((code for code in opening if code in META_CODES), None)) is not None:
        return Trouble(words, code, sure=True)
    return Trouble(words, find_meta_code(words))


def _read_code_field(value: Any) -> int | None:
    places = (read_path(value, path) for path in _ERROR_PLACES)
    for fields in map(as_mapping, (value, *places)):
        for key in _CODE_KEYS:
            text = as_text(fields.get(key)) or ""
            code = int(text) if text.isascii() and text.isdigit() else -1
            # Low numbers are Meta's only in an error of Meta's form: {"code": 200} is many a vendor's success.
            if code in META_CODES and (code > _LOW_CODES or any(mark in fields for mark in _META_MARKS)):
                return code
    return None


def judge_trouble(trouble: Trouble) -> Meaning:
    """Return what an error means: by its code, else by its words, else just that the request was refused."""
    if trouble.code is not None:
        meaning = META_CODES[trouble.code]
        if trouble.sure or meaning.scope in (Scope.MESSAGE, Scope.RECIPIENT):
            return meaning
    if _BALANCE.search(trouble.words):
        return Meaning(Reason.BALANCE_EMPTY, Scope.PROVIDER)
    if _TEMPLATE.search(trouble.words):
        return _NO_TEMPLATE
    return Meaning(Reason.REQUEST_REFUSED, Scope.MESSAGE)


def describe_trouble(trouble: Trouble, secrets: Sequence[str]) -> str:
    """Return an error for people: its code, unless its words name it, and its words, redacted."""
    code = str(trouble.code) if trouble.code is not None else ""
    parts = (code, trouble.words) if code not in trouble.words else (trouble.words,)
    return redact(": ".join(filter(None, parts)), secrets)


def outcome_of(meaning: Meaning, detail: str, retry_after_ms: int | None = None) -> Retryable | Rejected:
    """Return the outcome that a meaning comes to."""
    if meaning.retry:
        return Retryable(meaning.reason, meaning.scope, retry_after_ms, detail)
    return Rejected(meaning.reason, meaning.scope, detail)


def read_status_word(word: str | None) -> ReceiptStatus | None:
    """Return the receipt status of a word in any case, None if it is no such word. "undelivered" has failed."""
    lower = (word or "").lower()
    try:
        return ReceiptStatus("failed" if lower == "undelivered" else lower)
    except ValueError:
        return None


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
