"""Opting out: what a customer asks for when they write back."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from enum import StrEnum

from app.model.receipt import Reply, Wish


class OptOut(StrEnum):
    """The ways in which somebody came to get no marketing: a closed set, beside the words that people give by hand."""

    STOP_REPLY = "stop_reply"  # they answered with a stop word
    PREFERENCE = "preference"  # they chose so in WhatsApp
    REFUSED = "refused"  # WhatsApp refused a message with 131050
    BY_HAND = "by_hand"


# "Stop promotions" is the button that WhatsApp offers in marketing templates. Not "end", "quit" or "cancel", which
# other media honour: of an order they mean something else.
STOP_WORDS = frozenset(
    {"stop", "stop all", "stopall", "please stop", "stop please", "stop it", "stop messages", "stop sending messages"}
    | {"stop promotions", "stop promotion", "stop promo", "stop marketing", "stop offers"}
    | {"unsubscribe", "unsubscribe me", "opt out", "optout", "opt me out"}
)
LONGEST_STOP_WORD = 60  # a story that a customer tells is not read to its end


def read_wish(reply: Reply, own_words: Collection[str] = ()) -> Wish | None:
    """Return what a reply asks for, None if nothing. `own_words`: the merchant's stop words, beside ours.

    The whole text has to be one: "please stop calling me at work" speaks of something else.
    """
    if reply.wish is not None:
        return reply.wish
    if len(reply.text) > LONGEST_STOP_WORD:
        return None
    said = fold_words(reply.text)
    return "stop" if said in STOP_WORDS or (said and said in {fold_words(word) for word in own_words}) else None


def fold_words(text: str) -> str:
    """Return a text without case, marks and more than single blanks: "STOP!" and "Opt-out" as they are listed."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Punctuation, symbols, and what is not seen; a vowel sign is part of its word.
    return " ".join("".join(" " if unicodedata.category(sign)[0] in "PSC" else sign for sign in folded).split())
