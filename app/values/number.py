"""Numbers as they were sent: the text stays, so that 199.50 is never shown as 199.5."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import cache
from typing import Any, Self

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
