"""An answer says of itself whether it names an error, an id of the message, or a word of acceptance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from app.providers.body import Place, as_text, walk_places
from app.providers.trouble import CODE_KEYS, ECHOES, read_code

_NONE = frozenset(
    {"", "0", "00", "000", "200", "none", "null", "nil", "false", "undefined", "ok", "success", "successful"}
)
_TAKEN = frozenset(
    {"accepted", "queued", "enqueued", "scheduled", "submitted", "pending", "processing", "processed", "initiated"}
    | {"sending", "sent", "dispatched", "received", "created", "delivered", "read", "in progress", "en route", "true"}
    | {"ok", "okay", "success", "successful", "done", "completed", "held for quality assessment"}
)
_FAILED = re.compile(
    r"fail|error|exception|reject|invalid|undeliver|unsuccess|unauthori[sz]ed|denied|refused|forbidden|declined|abort"
    r"|cancell?ed|blocked|not sent|not found|not allowed|missing|exceeded|unsupported|insufficient|^(?:nok|false|no)$"
)
_ERROR_KEY = re.compile(
    r"(?:error|errors|exception|fault)$|^err$|^(?:error|err)(?:s|code|id|msg|message|description|reason|details)$"
)
# false there is a refusal; true is an acceptance, unless it only speaks of the number.
_OUTCOMES = frozenset({"success", "ok", "issuccess", "successful", "succeeded", "result", "status", "accepted"})
_NUMBER_KEYS = frozenset({"isvalidwhatsappnumber", "validwhatsappnumber"})
_DONE = frozenset({"queued", "sent", "submitted", "accepted"})
_STATUSES = frozenset({"status", "messagestatus", "msgstatus"})
_WORDS = _STATUSES | {"state", "result", "response", "groupname", "deliverystatus"}
_HTTP_STATUSES = frozenset({"status", "statuscode", "code", "httpcode", "httpstatus", "responsecode"})
_ID_KEYS = frozenset({"messageid", "msgid", "wamid", "messageuuid", "messagesid", "sid"})
_ID_PLACES = frozenset(
    {"message", "messages", "msg", "data", "result", "results", "response", "whatsapp", "payload", "body"}
)
_PLAIN_KEYS = frozenset({"id", "message_id", "messageId", "message", "messaging_product", "input", "wa_id"})
_STATUS_KEYS = frozenset({"status", "message_status"})
_PLAIN_HOLDERS = frozenset({"contacts", "messages", "data"})


@dataclass(slots=True)
class Signs:
    """An answer gave these: `word` is a status that is none we know, `message_id` an id of the message."""

    error: bool = False
    taken: bool = False
    word: str = ""
    message_id: str | None = None


def read_signs(value: Any) -> Signs:
    """Return what a parsed answer says of itself, wherever it says so."""
    signs = Signs()
    for place in walk_places(value):
        if _ERROR_KEY.search(place.key):
            signs.error = signs.error or is_error(place.value)
        elif any(map(_ERROR_KEY.search, place.inside)) or not ECHOES.isdisjoint(place.inside):
            continue
        elif place.key in _ID_KEYS or (place.key == "id" and (not place.inside or place.inside[-1] in _ID_PLACES)):
            text = as_text(place.value)
            if signs.message_id is None and text is not None and text.casefold() not in _NONE:
                signs.message_id = text
        else:
            _note_word(signs, place)
    return signs


def is_error(value: Any) -> bool:
    """Tell whether what stands under a key of errors is one: 0, "none", false and empty things are not."""
    match value:
        case None | bool():
            return bool(value)
        case list():
            return any(map(is_error, value))
        case dict():
            codes = [each for name, each in value.items() if name.lower() in CODE_KEYS]
            no_code = bool(codes) and all(_fold(code) in _NONE for code in codes)
            return any(map(is_error, value.values())) and (not no_code or "fbtrace_id" in value)
        case _:
            return _fold(value) not in _NONE


def _note_word(signs: Signs, place: Place) -> None:
    key, word = place.key, _fold(place.value)
    if key in _NUMBER_KEYS:
        signs.error = signs.error or word == "false"
    elif key == "type" or key in CODE_KEYS:
        signs.error = signs.error or (not word.isdigit() and _FAILED.search(word) is not None)
    elif key in _DONE and place.value is True:
        signs.taken = True
    elif key in _OUTCOMES | _WORDS and word and not word.isdigit():
        _note_status(signs, key, word)
    elif key in ("success", "issuccess", "ok"):
        signs.error = signs.error or word == "0"
        signs.taken = signs.taken or word == "1"
    if key in _HTTP_STATUSES and word.isdigit():
        signs.error = signs.error or (word[:1] in "45" and len(word) == 3)  # noqa: PLR2004 - an HTTP status
    signs.error = signs.error or read_code(place) is not None


def _note_status(signs: Signs, key: str, word: str) -> None:
    if word in _TAKEN:
        signs.taken = True
    elif _FAILED.search(word):
        signs.error = True
    elif key in _STATUSES:
        signs.word = word


def _fold(value: Any) -> str:
    """Return a word as it is compared; "" for what is none."""
    text = str(value) if isinstance(value, bool | int | float) else value if isinstance(value, str) else ""
    return re.sub(r"[\s_-]+", " ", text[:200]).strip(" .!").casefold()


def is_plain(value: Any) -> bool:
    """Tell whether an answer is of the few keys of nearly every acceptance: then no corner of it has to be searched."""
    if isinstance(value, list):
        return len(value) == 1 and is_plain(value[0])
    return isinstance(value, dict) and all(starmap(_is_plain_field, value.items()))


def _is_plain_field(key: str, item: Any) -> bool:
    match item:
        case str():
            return (key in _PLAIN_KEYS and "{" not in item) or (key in _STATUS_KEYS and item.lower() in _TAKEN)
        case dict() | list():
            return key in _PLAIN_HOLDERS and is_plain(item)
        case _:
            return item is True and key in _OUTCOMES
