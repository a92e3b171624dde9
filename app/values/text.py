"""Values made fit for a WhatsApp template.

WhatsApp refuses a parameter that is empty or holds a newline, a tab or more than four blanks:
https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes (132018).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

VALUE_LIMIT = 256
LINK_LIMIT = 1000
_MISSING = frozenset({"", "null", "undefined", "NaN", "nan"})
# Controls (the white ones become blanks), soft hyphen, bidi controls, zero-width and invisible signs, half
# characters. U+200C and U+200D stay: Hindi and emoji are spelt with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
# What programs make of nothing: a name joined of two of which one is not there, an object, a dash.
_NEVER_A_NAME = frozenset({"null", "undefined", "NaN", "N/A", "n/a", "[object"})  # None and Null are people's names
_NO_NAMES = frozenset({"null", "undefined", "nan", "none", "na", "n/a"})
_MOST_NAMES = 4
_LONGEST_NO_NAME = 100  # what is longer is a text that says something
_CUT = "…"
_JOINERS = "\u200c\u200d"
# Blanks that Unicode takes for letters and signs, and what only changes the sign before it.
_UNSEEN = _JOINERS + " \u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\ufe0e\ufe0f\uffa0"
_POINTS = (
    _UNSEEN + "-.,:;!?/|_~'\"()[]{}<>\\\u2010\u2011\u2012\u2013\u2014\u2015\u2018\u2019\u201c\u201d\u2022\u2026\u0964"
)
_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)  # England's flag is a black one and six of these
_FLAG_HALVES = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_LONGEST_CLUSTER = 32
_EXACT_BELOW = 1e15  # beyond it a float no longer holds every whole number


@dataclass(frozen=True, slots=True)
class Unfit:
    """A value no message may carry; `detail` says why and never what."""

    detail: str


def is_blank(value: Any) -> bool:
    """Tell whether there is nothing in `value`: null, blank, "null", "undefined", NaN."""
    if isinstance(value, str):
        text = value.strip()
        seen = text if text.isascii() else text.strip(_UNSEEN)
        return seen in _MISSING or (not text.isprintable() and clean_text(text) in _MISSING)
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - only NaN differs from itself


def is_missing(value: Any) -> bool:
    """Tell whether a value of an event stands for nothing: blank, or "Riya null", "[object Object]", "N/A", "-"."""
    if is_blank(value):
        return True
    # Most values are done with here: a word, a number, a text that says something.
    if not isinstance(value, str) or value.isalnum() or len(value) > _LONGEST_NO_NAME:
        return False
    if " " not in value:
        return value in _NEVER_A_NAME or not value.strip(_POINTS)
    words = value.replace(",", " ").split()
    if len(words) <= _MOST_NAMES and not _NEVER_A_NAME.isdisjoint(words):
        return True
    return not value.strip(_POINTS) or _NO_NAMES.issuperset(map(str.lower, words))


def clean_text(text: str) -> str:
    """Return `text` on one line, composed (NFC), with single blanks and nothing invisible; any length."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    text = unicodedata.normalize("NFC", " ".join(_INVISIBLE.sub("", text).split()))
    return text if text.strip(_UNSEEN) else ""


def clean_value(text: str, limit: int = VALUE_LIMIT) -> str:
    """Return clean `text` of at most `limit` characters, ending in "…" if cut; a link in it is never cut."""
    text = clean_text(text)
    return text if len(text) <= limit or is_link(text) else _cut_text(text, limit - 1).rstrip() + _CUT


def is_link(text: str) -> bool:
    """Tell whether the whole clean text is one http(s) link."""
    return _LINK.fullmatch(text) is not None


def write_value(value: Any, limit: int = VALUE_LIMIT) -> str | Unfit:
    """Return a JSON value as a message shows it; numbers as sent. Empty where nothing is left to show."""
    text = write_scalar(value)
    if text is None:
        return Unfit("is a list or an object, not a single value")
    shown = clean_value(text, limit)
    if len(shown) > LINK_LIMIT or (shown == _CUT and text.strip() != _CUT):
        return Unfit("holds a link that is too long to be sent whole")
    return shown


def write_whole(value: Any) -> str | Unfit:
    """Return a JSON value as a link or a part of one: never cut."""
    text = write_scalar(value)
    if text is None:
        return Unfit("is a list or an object, not a single value")
    text = clean_text(text)
    return text if len(text) <= LINK_LIMIT else Unfit(f"is longer than {LINK_LIMIT} characters")


def write_scalar(value: Any) -> str | None:
    """Return the text of a text, number, true or false; "" for null; None for a list or an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) is float:
        return _write_float(value)
    if isinstance(value, int | float):
        return str(value)  # as it was sent: see SentFloat
    return "" if value is None else None


def _write_float(value: float) -> str:
    """A worked-out number has no sent text: 100.0 * 2 reads "200"; what is no number, as nothing."""
    if value - value != 0:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT_BELOW else repr(value)


def _cut_text(text: str, end: int) -> str:
    """Return `text` up to `end`, moved back to before a link or a character of several code points."""
    word = text.rfind(" ", 0, end + 1) + 1
    if _LINK.search(text[word:].split(" ", 1)[0]):
        return text[:word]
    return cut_letters(text, end)


def cut_letters(text: str, end: int) -> str:
    """Return `text` up to `end`, moved back to before a character of several code points."""
    cut = end if end < len(text) else 0
    if cut <= 0:
        return text if end > 0 else ""
    while cut > max(0, end - _LONGEST_CLUSTER) and _is_inside_cluster(text, cut):
        cut -= 1
    return text[:cut]


def _is_inside_cluster(text: str, at: int) -> bool:
    if text[at] in _FLAG_HALVES:
        return (at - len(text[:at].rstrip(_FLAG_HALVES))) % 2 == 1
    return (
        unicodedata.category(text[at]).startswith("M")
        or text[at] in _JOINERS
        or ord(text[at]) in _SKIN_TONES
        or ord(text[at]) in _TAGS
        or text[at - 1] in _JOINERS
        or unicodedata.combining(text[at - 1]) == 9  # noqa: PLR2004 - class 9: a virama joins two letters
    )


_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "miss", "mx", "master", "sir", "madam", "dr", "prof", "er", "adv", "ca", "capt", "col"),
        *("maj", "gen", "lt", "shri", "shree", "sri", "smt", "shrimati", "kumari", "herr", "frau", "mme", "mlle"),
        *("श्री", "श्रीमती", "सुश्री", "डॉ", "डॉक्टर", "कुमारी"),
    )
)
_EDGES = " ,;\"'()"
_LETTER = re.compile(r"[^\W\d_]\.?")


def find_first_name(text: str) -> str:
    """Return the first word that is neither a title nor initials; the whole text where there is none.

    A single sign of a writing without capitals may be a whole name: 李.
    """
    whole = clean_text(text)
    words = (word.strip(_EDGES) for word in whole.replace(".", ". ").split(" "))  # Dr.Sen
    return next((word for word in words if _is_name(word)), whole)


def _is_name(word: str) -> bool:
    if not word or word.rstrip(".").casefold() in _TITLES:
        return False
    return _LETTER.fullmatch(word) is None or (len(word) == 1 and word.upper() == word.lower())
