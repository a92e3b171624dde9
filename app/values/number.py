"""Numbers as they were sent: the text stays, so that 199.50 is never shown as 199.5."""

from __future__ import annotations

import re
from decimal import Decimal
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
