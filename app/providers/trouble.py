"""An answer tells by itself whether it is an error, and the error means the same from whichever provider it comes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any

from app.model.delivery import MAX_DETAIL, STRUCK, Reason, Rejected, Retryable, Scope
from app.model.value import dataclass
from app.providers.body import Place, as_text, clean_text, read_embedded, walk_places

ERROR_TEXTS = frozenset(
    {"message", "error", "errors", "title", "details", "detail", "reason", "description", "info", "msg"}
    | {"errormessage", "externalerror", "errormsg", "errordescription", "developermessage", "failurereason"}
)
CODE_KEYS = frozenset({"code", "errorcode"})
ECHOES = frozenset(
    {"contact", "contacts", "customer", "recipient", "user", "template", "variables", "parameters", "params", "request"}
)
"""Where a provider repeats what it was sent: a number there is no code, a word no status."""
_MAX_READ = 4_000
_SHORTEST_SECRET = 4  # striking out shorter ones would tear up ordinary words
_EMAIL = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}")
# Seven digits and more, however they are grouped: every phone number, and no Meta error code (six at most).
_LONG_NUMBER = re.compile(r"\+?\d(?:[\s().\-/]{0,2}\d){6,}")
_LOW_CODES = 999
_META_MARKS = frozenset({"fbtrace_id", "error_data", "error_subcode", "is_transient"})
_OWN_CODES = range(130_000, 140_000)  # WhatsApp's alone, whether we know them or not
_OBJECT_GONE = 33
_AT_START = re.compile(
    r"\W{0,3}(?:(?:meta|whatsapp|error|code)\W{1,3}){0,3}(13\d{4})(?!\d)|\s*\(#(\d{1,7})\)", re.IGNORECASE
)
_ANYWHERE = re.compile(r"(?<!\d)(13\d{4})(?!\d)")


@dataclass(frozen=True, slots=True)
class Meaning:
    """An error code stands for this: `retry` says that the same message may go later."""

    reason: Reason
    scope: Scope
    retry: bool = False

    def to_outcome(self, detail: str, retry_after_ms: int | None = None) -> Retryable | Rejected:
        """Return the outcome that this comes to."""
        if self.retry:
            return Retryable(self.reason, self.scope, retry_after_ms, detail)
        return Rejected(self.reason, self.scope, detail)


_AUTH = Meaning(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)
THROTTLED = Meaning(Reason.RATE_LIMITED, Scope.PROVIDER, retry=True)
_BLOCKED = Meaning(Reason.ACCOUNT_BLOCKED, Scope.PROVIDER)
_UNPAID = Meaning(Reason.BALANCE_EMPTY, Scope.PROVIDER)
_DOWN = Meaning(Reason.UNAVAILABLE, Scope.PROVIDER, retry=True)
_BROKE = Meaning(Reason.SERVER_ERROR, Scope.MESSAGE, retry=True)
_PARAMETERS = Meaning(Reason.PARAMETERS_REFUSED, Scope.MESSAGE)
_NO_TEMPLATE = Meaning(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)
_PAUSED = Meaning(Reason.TEMPLATE_PAUSED, Scope.TEMPLATE)
_UNREACHABLE = Meaning(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT)
_OPTED_OUT = Meaning(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT)
_NOT_THIS_ONE = Meaning(Reason.REQUEST_REFUSED, Scope.RECIPIENT)  # not now, or not this way
REFUSED = Meaning(Reason.REQUEST_REFUSED, Scope.MESSAGE)

# https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
META_CODES: Mapping[int, Meaning] = {
    **dict.fromkeys((0, 3, 10, 190, *range(200, 300), 131005), _AUTH),
    **dict.fromkeys((4, 17, 613, 80007, 80008, 130429, 133016), THROTTLED),
    131056: Meaning(Reason.RATE_LIMITED, Scope.RECIPIENT, retry=True),  # too much to one person
    132069: Meaning(Reason.RATE_LIMITED, Scope.MESSAGE, retry=True),  # of one flow: the rest of the lane may go
    **dict.fromkeys((368, 130497, 131031, 131045, 131048, 131064), _BLOCKED),
    # The number: gone, without an approved name, not registered or not to the end.
    **dict.fromkeys((33, 131037, 133000, 133005, 133006, 133007, 133008, 133009, 133010, 133015, 134011), _BLOCKED),
    131042: _UNPAID,
    **dict.fromkeys((131000, 135000), _BROKE),
    **dict.fromkeys((2, 131016, 131057, 133004), _DOWN),
    **dict.fromkeys((1, 131047), REFUSED),
    **dict.fromkeys((100, 131001, 131002, 131008, 131009, 131021, 131051, 131052, 131053), _PARAMETERS),
    **dict.fromkeys((132005, 132008, 132012, 132018), _PARAMETERS),
    132000: Meaning(Reason.PARAMETERS_REFUSED, Scope.TEMPLATE),  # a wrong count: the mapping, not this message
    131026: _UNREACHABLE,  # not on WhatsApp
    **dict.fromkeys((130472, 131030, 131062), _NOT_THIS_ONE),
    131049: Meaning(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT, retry=True),
    131050: _OPTED_OUT,
    **dict.fromkeys((131055, 131063, 132001, 132007, 134100), _NO_TEMPLATE),
    **dict.fromkeys((132015, 132016, 132068, 134101, 134102), _PAUSED),
}

# Phrases, not single words: templates of loyalty shops have variables named "balance" and "credits".
_OF_ACCOUNT = r"(?:(?:wallet|account|message|messaging|conversation|prepaid|whatsapp|sufficient|enough|more)\s+){0,2}"
_TO_WHOM = r"(?:(?:whatsapp|phone|mobile|recipient|destination|customer|contact|user|to)(?:'s)?\s+){0,3}"
_PHRASES: Mapping[Meaning, Sequence[str]] = {
    THROTTLED: (
        r"\btoo many (?:requests|messages|calls|attempts)\b",
        r"\brate[ _-]?limit|\bthrottl",
        r"\b(?:try|retry) (?:it |again )?(?:later|in \d|after \d)",
        r"\btemporarily unavailable\b|\bserver (?:is )?busy\b",
        r"\bquota\b[^|]{0,60}\b(?:exceeded|replenished)\b|\b(?:exceeded|out of)\b[^.|]{0,40}\bquota\b",
        r"\bexceeded the (?:endpoint )?limit of \d+ \w+ every\b",
    ),
    _UNPAID: (
        rf"\b(?:insufficient|not enough|low|no|zero|out of|exhausted)\s+{_OF_ACCOUNT}(?:balance|credits?|funds?)\b",
        (
            r"\b(?:balance|credits?|funds?)\s+(?:(?:is|are|has|have|been|too)\s+){0,3}"
            r"(?:insufficient|not enough|low|exhausted|depleted|expired|below)\b"
        ),
        r"\bpayment required\b|\black of payment\b|\brecharge\b",
        r"\b(?:subscription|trial|plan|licen[cs]e)\s+(?:(?:period|is|has|have|been)\s+){0,3}(?:expired|ended|lapsed)\b",
    ),
    _BLOCKED: (
        (
            r"\b(?:channel|waba|sender|business (?:phone )?number|phone number id)\b[^.:;|]{0,30}?"
            r"\b(?:not found|not exist|doesn't exist|(?:not |dis)connected|not registered|inactive)\b"
        ),
        r"\b(?:channel|waba|account|api)\b[^.:;|]{0,20}?\b(?:suspended|disabled|deactivated|restricted|locked)\b",
        r"\b(?:invalid|unknown|no such) (?:channel|sender|waba|phone number id)\b",
    ),
    _NO_TEMPLATE: (
        (
            r"\btemplate\b[^.:;|]{0,60}?\b(?:not found|not exist|doesn't exist|not approved|unapproved|disabled|paused"
            r"|rejected|deleted|archived|(?:in|is) pending|pending approval|in review)\b"
        ),
        r"\b(?:no such|unknown) template\b",
    ),
    _OPTED_OUT: (
        r"\b(?:number|recipient|customer|contact|user|has|have|is) (?:\w+ )?(?:opted[ -]?out|unsubscribed)\b",
    ),
    _UNREACHABLE: (
        rf"\b(?:invalid|incorrect|malformed|not a valid) {_TO_WHOM}(?:number|recipient|phone|mobile|msisdn)\b(?! id)",
        r"\b(?:number|recipient|phone|mobile)\s+(?:is\s+)?(?:invalid|not (?:a )?valid|blacklisted)\b",
        r"\b(?:not|n't) (?:(?:exist|registered|available|present|active) )?(?:on|in|with) whatsapp\b(?! business)",
        r"\b(?:not a|no) (?:valid )?whatsapp (?:user|number|account)\b",
    ),
    _NOT_THIS_ONE: (r"\bnot (?:yet )?opted[ -]?in\b", r"\b(?:has|have) blocked (?:this|your|the) business\b"),
}
# Compiled, and kept by Python, when words are first looked at: a start has no use of them.
_WORDS = {meaning: "|".join(phrases) for meaning, phrases in _PHRASES.items()}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A provider tells of an error by words, and by a code where one is known.

    `sure`: the code stood in a field of its own, not in prose. `transient`: WhatsApp says that it will pass. `words`
    may hold personal data: never shown.
    """

    words: str = ""
    code: int | None = None
    sure: bool = False
    transient: bool = False


def find_meta_code(text: str) -> int | None:
    """Return the WhatsApp error code (13xxxx) that a vendor's error text mentions, None if it mentions no known one."""
    return next((code for found in _ANYWHERE.findall(text) if (code := int(found)) in META_CODES), None)


def read_trouble(value: Any) -> Trouble:
    """Return the error that a parsed JSON answer or webhook speaks of, wherever it stands; empty where of none."""
    places = list(walk_places(value))
    said = (place.value for place in places if place.key in ERROR_TEXTS and isinstance(place.value, str))
    texts = list(dict.fromkeys(text for text in said if read_embedded(text) is None))
    words = " | ".join(texts)
    transient = any(place.key == "istransient" and place.value is True for place in places)
    codes = [code for place in places if (code := read_code(place)) is not None]
    # A text that opens with the code was worded by Meta. Further on it may be a customer's value, echoed.
    codes += [int(start[1] or start[2]) for text in texts if (start := _AT_START.match(text))]
    known = next((code for code in codes if code in META_CODES), None)
    if known is not None or transient:
        return Trouble(words, known, known is not None, transient)
    prose = find_meta_code(words)
    return Trouble(words, next(iter(codes), None) if prose is None else prose)


def read_code(place: Place) -> int | None:
    """Return WhatsApp's error code that stands at a place, None if none does."""
    if place.key not in CODE_KEYS or not ECHOES.isdisjoint(place.inside):
        return None
    text = as_text(place.value) or ""
    code = int(text) if text.isascii() and text.isdigit() else -1
    # Low numbers are Meta's only in an error of Meta's form: {"code": 200} is many a vendor's success.
    if code <= _LOW_CODES and _META_MARKS.isdisjoint(place.fields):
        return None
    # "Object does not exist": the number's id in our own address.
    gone = place.fields.get("error_subcode") == _OBJECT_GONE
    return _OBJECT_GONE if gone else code if code in META_CODES or code in _OWN_CODES else None


def judge_trouble(trouble: Trouble) -> Meaning:
    """Return what an error means: by its code, else by its words, else just that the request was refused."""
    meaning = META_CODES.get(-1 if trouble.code is None else trouble.code, REFUSED)
    narrow = meaning.scope in (Scope.MESSAGE, Scope.RECIPIENT)
    if trouble.transient and meaning.reason is Reason.REQUEST_REFUSED:
        return _DOWN
    if meaning is not REFUSED and (trouble.sure or narrow):
        return meaning
    words = trouble.words[:_MAX_READ]
    return next((each for each, phrase in _WORDS.items() if re.search(phrase, words, re.IGNORECASE)), REFUSED)


def describe_trouble(trouble: Trouble, secrets: Sequence[str]) -> str:
    """Return an error for people: its code, unless its words name it, and its words, redacted."""
    code = str(trouble.code) if trouble.code is not None else ""
    parts = (code, trouble.words) if code not in trouble.words else (trouble.words,)
    return redact(": ".join(filter(None, parts)), secrets)


def redact(text: str, secrets: Sequence[str]) -> str:
    """Return at most 200 characters on one line without secrets, e-mail addresses and long numbers."""
    shown = text[:_MAX_READ]
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            shown = shown.replace(secret, STRUCK)
    shown = _LONG_NUMBER.sub(STRUCK, _EMAIL.sub(STRUCK, clean_text(shown)))
    return " ".join(shown.split())[:MAX_DETAIL]


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
_PLAIN_WORDS = _STATUSES | {"state", "result", "response", "groupname", "deliverystatus"}
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
    elif key in _OUTCOMES | _PLAIN_WORDS and word and not word.isdigit():
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
