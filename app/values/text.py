"""The values of an event: found by a dotted path, numbers as they were sent, texts made fit for a WhatsApp template.

WhatsApp refuses a parameter that is empty or holds a newline, a tab or more than four blanks:
https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes (132018).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from json import encoder
from typing import Any, Self

from app.model.value import dataclass

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
# One word, or some of which none begins as those of nothing do; a comma parts words as a blank does.
_FIRST = "[0-9A-MO-TV-Za-mo-tv-z]"
is_plain = re.compile(rf"{_FIRST}(?:[!-~]*+|[!-+\--~]*+(?: {_FIRST}[!-+\--~]*+)++)").fullmatch
"""Tells of most texts, in one call, that they stand for something and are shown as they are; of the others, nothing."""
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
    if type(value) is str and is_plain(value):
        return False
    if is_blank(value):
        return True
    # A longer text says something.
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
    if type(value) is str and len(value) <= limit and is_plain(value):
        return value
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


# Numbers keep the text that was sent, so that 199.50 is never shown as 199.5.
# Bounded, ASCII only and without an exponent: Decimal("1e-999999999") would print a billion noughts.
_PLAIN = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")


class SentFloat(float):
    """A number with a point or an exponent, whose text is the one that was sent ("199.50")."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Read the number; raises ValueError where `text` is none."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)


def is_number(value: Any) -> bool:
    """Tell whether `value` is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_decimal(value: Any) -> Decimal | None:
    """Return the exact number that `value` is or spells ("100", "-0.50"); None where it is none.

    Neither thousands separators nor exponents in a text are read: "1,000" is not guessed at.
    """
    if not is_number(value) and not isinstance(value, str):
        return None
    text = str(value).strip()
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    if not is_number(value):
        return None
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return exact if exact.is_finite() else None


# A currency's sign on either side, as people and programs put it: ₹1,250.00, Rs. 500, US$20, 1250/-.
_CURRENCY = re.compile(r"^([+-]?) ?(?:Rs\.?|INR|[A-Z]{0,2}[$€£¥₩₪₫₱₹₺₽฿]) ?|(?: ?[€£¥₩₪₫₱₹₺₽฿$]| ?(?:INR|Rs\.?|/-))$")
_GROUP_SIGNS = re.compile("[\u00a0\u2009\u202f'\u2019]")  # as in 1 250 and in Switzerland's 1'250
_WESTERN_OR_INDIAN = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}"
_GROUPED = re.compile(rf"[+-]?(?:{_WESTERN_OR_INDIAN}|[0-9]{{1,3}}(?: [0-9]{{3}})+)(?:\.[0-9]{{1,30}})?")
_GROUPED_BY_DOTS = re.compile(r"[+-]?[0-9]{1,3}(?:[. ][0-9]{3})*,[0-9]{1,30}|[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_TWO_READINGS = re.compile(r"[+-]?[0-9]{1,3},[0-9]{3}")  # where the comma begins the decimals: 1,250 is 1250 or 1.25


def read_amount(value: Any, locale: str) -> Decimal | None:
    """Return the number that `value` is or spells, as people write it; None where it is none, or could be two.

    "1,250", "1,00,000", "₹1,250.00", "1 250" and, in a locale that writes so, "1.250,00".
    """
    exact = read_decimal(value)
    if exact is not None or not isinstance(value, str):
        return exact
    text = "".join(str(unicodedata.decimal(sign, sign)) for sign in value.strip().replace("\u2212", "-"))
    text = _GROUP_SIGNS.sub(" ", _CURRENCY.sub(r"\1", _CURRENCY.sub(r"\1", text, count=1), count=1))
    if (exact := read_decimal(text)) is not None:
        return exact
    by_comma = ("," in text or "." in text) and _has_decimal_comma(locale)
    if by_comma and _GROUPED_BY_DOTS.fullmatch(text) and not _TWO_READINGS.fullmatch(text):
        return Decimal(text.replace(".", "").replace(" ", "").replace(",", "."))
    if _GROUPED.fullmatch(text) and not (by_comma and _TWO_READINGS.fullmatch(text)):
        return Decimal(text.replace(",", "").replace(" ", ""))
    return None


@cache
def _has_decimal_comma(locale: str) -> bool:
    from babel import Locale  # noqa: PLC0415 - of use for the few texts with commas

    return bool(Locale.parse(locale).number_symbols["latn"]["decimal"] == ",")


Path = tuple[str | int, ...]
"""Keys of objects and indexes of lists, and nothing of Python's."""


def look_up(payload: Mapping[str, Any], path: Path) -> Any | None:
    """Return what stands at `path`; None where nothing does, or a null, a blank, "null", "undefined" or NaN."""
    value: Any = payload
    for key in path:
        value = value.get(key) if type(value) is dict and type(key) is str else look_into(value, key)
        if value is None or is_missing(value):  # most of what is looked for is in no event
            return None
    return value


def look_into(value: Any, key: Any) -> Any | None:
    """Return one step down, None where it leads nowhere. A key named `items` is a value, never a method."""
    if type(value) is dict or isinstance(value, Mapping):  # the first, as it nearly always is, costs nothing
        found = value.get(key) if isinstance(key, str) else None
    elif isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
        found = value[key]
    else:
        return None
    return None if found is None or is_missing(found) else found


def write_path(path: Path) -> str:
    """Return a path as it is written: ("customer", "name") → "customer.name"."""
    return ".".join(str(key) for key in path)


def read_path(text: str) -> Path:
    """Return a written path: "items.0.name" → ("items", 0, "name")."""
    return tuple(int(key) if key.lstrip("-").isdecimal() else key for key in text.split("."))


def list_paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of a payload's keys, lists left out."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield prefix + name
            yield from list_paths(item, f"{prefix}{name}.")


def make_json_writer(comma: str = ", ", colon: str = ": ", *, allow_nan: bool = True) -> Callable[[Any], str]:
    """Return what writes a value, none that holds itself, as `json.dumps` with these separators does.

    JSONEncoder makes the same C encoder anew for each text, which takes half as long as a line of the log.
    """
    make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]  # typeshed leaves it out
    refuse = json.JSONEncoder().default
    encode = make(None, refuse, encoder.encode_basestring_ascii, None, colon, comma, False, False, allow_nan)

    def write(value: Any) -> str:
        return "".join(encode(value, 0))

    return write


write_json = make_json_writer()
"""Writes as `json.dumps` does: on one line, in plain ASCII, which no charset on the way can change."""
