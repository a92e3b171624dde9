"""Opting out: what a customer asks for when they write back."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from enum import StrEnum
from itertools import groupby
from typing import Literal


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


def read_wish(
    texts: Iterable[str], own_words: Collection[str] = (), *, start_lifts: bool = True
) -> Literal["stop", "resume"] | None:
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
