"""A message for one recipient, what comes back of it, what a reply asks for, and limits. Instants are ms, UTC."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from itertools import groupby
from typing import ClassVar, Literal

from app.model.delivery import Reason, Scope
from app.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A filled template variable; `name` is None where the template counts ({{1}}, {{2}}, …)."""

    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """A template's header: a media URL (with an optional file name) or a text."""

    kind: str  # image, video, document or text
    value: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A template's header that shows a place on the map; degrees are texts, as they were sent."""

    kind: ClassVar[Literal["location"]] = "location"
    filename: ClassVar[None] = None

    latitude: str
    longitude: str
    name: str
    address: str

    @property
    def value(self) -> str:
        """Return what the customer reads below the map."""
        return f"{self.name}, {self.address}"


@dataclass(frozen=True, slots=True)
class Button:
    """A button is filled by a URL's suffix (already URL-encoded), a code, a payload or a token, by `kind`."""

    index: int
    value: str
    kind: str = "url"


@dataclass(frozen=True, slots=True)
class Message:
    """A filled template for one recipient, frozen at intake: never rendered again."""

    recipient: str  # E.164 with its plus sign (`+919800000001`)
    template: str
    recipient_name: str = ""  # may be empty
    language: str | None = None
    variables: tuple[Variable, ...] = ()
    header: Header | Location | None = None
    buttons: tuple[Button, ...] = ()
    offer_ends_at: int | None = None  # when a limited-time offer is over


class ReceiptStatus(StrEnum):
    """The handset side reported this; they rise in this order, `failed` stands aside."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt is what the handset side reported of one message."""

    status: ReceiptStatus
    delivery_id: str | None  # ours, where the provider sends it back: the first by which it is matched
    provider_message_id: str | None  # the second
    at: int | None = None  # when the provider says it happened, None if unsaid
    reason: Reason | None = None
    detail: str = ""
    scope: Scope = Scope.MESSAGE  # what else a failure speaks of; what may pass by itself: of its message alone
    wamid: str | None = None  # the third: WhatsApp's own id, where the provider has another one beside it


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice is what WhatsApp says of a template, or, where none is named, of the account."""

    reason: Reason | None  # why nothing of it is sent; None: it may be sent again
    template: str = ""
    language: str = ""  # "": of all
    passing: bool = False  # only a pace


Wish = Literal["stop", "resume"]
"""What a customer asks for: no more marketing, or marketing again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply is what a customer sent back."""

    sender: str = field(repr=False)  # E.164, "" if unsaid
    text: str = field(default="", repr=False)  # never kept or shown
    tapped: bool = False  # a button of a message of ours, which the two ids name; None if unsaid
    delivery_id: str | None = None
    provider_message_id: str | None = None
    at: int | None = None  # as in Receipt
    wish: Wish | None = None  # where WhatsApp itself says what they chose
    payload: str = field(default="", repr=False)  # what the template's author put behind it; not shown either


# -- opting out: what a customer asks for when they write back ----------------------------------------


class OptOut(StrEnum):
    """The ways in which somebody came to get no marketing: a closed set, beside the words that people give by hand."""

    STOP_REPLY = "stop_reply"  # they answered with a stop word
    PREFERENCE = "preference"  # they chose so in WhatsApp
    REFUSED = "refused"  # WhatsApp refused a message with 131050
    BY_HAND = "by_hand"


# What makes a wish polite, or a person impatient, and changes nothing of it.
_POLITE = frozenset(
    {"please", "pls", "plz", "kindly", "thanks", "thankyou", "thx", "now", "immediately", "it", "me", "ok", "okay"}
    | {"hi", "hello", "sir", "madam", "ji", "kripya", "mujhe", "ab", "ye", "yeh", "bhai", "por", "favor", "merci"}
    | {"कृपया", "प्लीज", "धन्यवाद", "जी", "मुझे", "अब", "यह", "ये"}
)
_MESSAGES = ("messages", "message", "msg", "msgs", "whatsapp messages", "promotional messages", "marketing messages")
_ABOUT = (*_MESSAGES, "promotions", "promotion", "promo", "promos", "marketing", "offers", "ads", "spam", "whatsapp")
_SENT = ("", "message ", "messages ", "msg ", "मैसेज ", "संदेश ")
# "Stop promotions" is the button that WhatsApp offers in marketing templates. Not "end", "quit" or "cancel", which
# other media honour: of an order they mean something else. So may "nahi chahiye", unless it names messages.
STOP_WORDS = frozenset(
    {"stop", "stop all", "stopall", "stop this", "stop sending", "stop texting", "stop messaging", "stop spamming"}
    | {f"{stop} {about}" for stop in ("stop", "stop all", "stop sending", "stop these") for about in _ABOUT}
    | {f"{no} {messages}" for no in ("do not send", "dont send", "don t send", "no more") for messages in _MESSAGES}
    | {"unsubscribe", "unsubscribe all", "opt out", "optout", "baja", "dar de baja", "parar", "arrêt", "arret"}
    | {"إيقاف", "ايقاف"}
    | {f"{what}{verb} {how}" for what in _SENT for verb in ("band", "bandh") for how in ("karo", "kar do", "kardo")}
    | {f"{what}band {how}" for what in _SENT for how in ("kare", "karen", "karein", "kijiye", "kar dijiye")}
    | {f"{what}mat {how}" for what in _SENT for how in ("bhejo", "bhejna", "bhejiye", "bheje", "bhejen")}
    | {f"{what}{end}" for what in _SENT[1:] for end in ("mat karo", "nahi chahiye", "nahin chahiye", "नहीं चाहिए")}
    | {f"{what}{stop} {how}" for what in _SENT for stop in ("बंद", "बन्द") for how in ("करो", "करें", "कर दो", "कीजिए")}
    | {f"{what}{stop}" for what in _SENT for stop in ("रोकें", "रोको", "रोक दो", "रोक दें", "मत भेजो", "मत भेजें")}
)
RESUME_WORDS = frozenset(
    {"start", "start all", "unstop", "subscribe", "resubscribe", "resume", "opt in", "optin"}
    | {f"{start} {about}" for start in ("start", "resume") for about in _ABOUT}
    | {"shuru karo", "शुरू करो", "शुरू करें"}
)
LONGEST_STOP_WORD = 60  # a story that a customer tells is not read to its end


def read_wish(texts: Iterable[str], own_words: Collection[str] = (), *, start_lifts: bool = True) -> Wish | None:
    """Return what a reply asks for, None if nothing. `own_words`: the merchant's stop words, beside ours.

    A whole text has to be one, politeness aside: "please stop calling me at work" speaks of something else. What
    stands behind a button counts as its text does.
    """
    folded = {fold_words(text) for text in texts if len(text) <= LONGEST_STOP_WORD}
    said = {text for whole in folded for text in (whole, _drop_politeness(whole)) if text}
    if said & STOP_WORDS or said & {fold_words(word) for word in own_words}:
        return "stop"
    return "resume" if start_lifts and said & RESUME_WORDS else None


def _drop_politeness(folded: str) -> str:
    """Return what is left without "please" and the like, and without what is just said again."""
    words = (word for word in folded.replace("thank you", "thanks").split() if word not in _POLITE)
    return " ".join(word for word, _ in groupby(words))


def fold_words(text: str) -> str:
    """Return a text without case, marks and more than single blanks: "STOP!" and "Opt-out" as they are listed."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Punctuation, symbols, and what is not seen; a vowel sign is part of its word.
    return " ".join("".join(" " if unicodedata.category(sign)[0] in "PSC" else sign for sign in folded).split())


# -- limits ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` messages go in any `window_ms`."""

    count: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account counts messages under its scope. `holds`: what is stopped once it is full; "": the message waits."""

    scope: str
    limit: Limit
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a YAML file. `routes`: by name, those (person, route) that stand at a route or in `defaults`."""

    person: Limit | None = None
    route: Limit | None = None
    all: Limit | None = None
    routes: Mapping[str, tuple[Limit | None, Limit | None]] = field(default_factory=dict)

    def list_accounts(self, provider: str, route: str, person: bytes | None) -> Sequence[Account]:
        """Return the accounts that one message counts in. `person`: the hash of its recipient."""
        own_person, own_route = self.routes.get(route, (None, None))
        whom = name_person(person or b"")
        found = (
            (whom, self.person, ""),
            (f"{whom}/{route}", own_person, ""),
            (f"route:{route}", own_route or self.route, f"route:{route}"),
            (ALL, self.all, f"provider:{provider}"),
        )
        return [Account(scope, limit, holds) for scope, limit, holds in found if limit is not None]


ALL = "all"
NO_LIMITS = Limits()


def name_person(person: bytes) -> str:
    """Return the scope in which one person's messages are counted."""
    return f"person:{person.hex()}"
