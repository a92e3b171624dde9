"""Phone numbers: read to E.164 where there is exactly one reading, and never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.core.cleaning import clean_text, is_missing
from app.core.models import Reason

if TYPE_CHECKING:
    from app.core.numbering import Line

# ASCII digits only: to Python "٣" and "²" are digits, too. Two numbers in one field need a comma or a slash.
_WRITTEN = re.compile(r"\(?\+?[0-9][0-9 ().\-\u2010-\u2013]*")
_NOT_DIGITS = re.compile(r"[^0-9]")
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_MOST_DIGITS = 15  # ITU-T E.164 §6.1
_LAST_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """Why there is no number to send to; `detail` never holds the number."""

    detail: str
    reason: Reason = Reason.RECIPIENT_INVALID


def read_phone(raw: Any, country: str | None) -> str | PhoneFault:
    """Return the mobile number `raw` as E.164 (`+919800000001`).

    `country` (ISO 3166 alpha-2) reads a number without a country code; None where it is not known. A number
    that can be read in two ways is refused, as is one that is certainly no mobile.
    """
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return PhoneFault("is not written as a phone number")
    text = clean_text(raw) if isinstance(raw, str) else str(raw)
    if is_missing(text):
        return PhoneFault("is missing", Reason.RECIPIENT_MISSING)
    if _WRITTEN.fullmatch(text) is None:
        return PhoneFault("holds something beside digits, blanks, brackets, dots, hyphens and one leading +")
    digits = _NOT_DIGITS.sub("", text)
    if "+" not in text and not digits.startswith("00"):
        return _read_national(digits, country)
    digits = digits if "+" in text else digits[2:]
    if len(digits) > _MOST_DIGITS:
        return PhoneFault("has more than 15 digits")
    return _choose({_open_plans().read_number(f"+{digits}", None)}, "is not a valid number with a country code")


def _read_national(digits: str, country: str | None) -> str | PhoneFault:
    """Read digits without a plus sign: as a number of the country, or with its calling code in front."""
    if country is None:
        return PhoneFault("has no country code, and its country is not known")
    if len(digits) > _MOST_DIGITS:
        return PhoneFault("has more than 15 digits")
    plans = _open_plans()
    readings = {plans.read_number(digits, country)}
    code = plans.calling_code(country)
    for prefix in (code, f"0{code}"):  # 91 98000 00001 and, as many write it in India, 091 98000 00001
        if digits.startswith(prefix):
            readings.add(plans.read_number("+" + digits[len(prefix) - len(code) :], None))
    return _choose(readings, f"is not a valid number in {country}")


def _choose(readings: set[tuple[str, Line]], invalid: str) -> str | PhoneFault:
    """Return the one valid reading. Not the likeliest of two: the other may be somebody else's number."""
    valid = [reading for reading in readings if reading[1] != "invalid"]
    if not valid:
        return PhoneFault(invalid)
    if len(valid) > 1:
        return PhoneFault("can be read with and without a country code; write it with +")
    number, line = valid[0]
    if line == "landline":
        return PhoneFault("is a landline, not a mobile")
    return number if line == "mobile" else PhoneFault("is not a mobile number")


def mask_phone(number: str) -> str:
    """Return an E.164 number with its country code and last four digits ("+91******0001"); else only stars."""
    if not number:
        return ""
    if _E164.fullmatch(number) is None:
        return "***"
    code = len(split_phone(number)[0]) + 1
    return number[:code] + "*" * (len(number) - code - _LAST_SHOWN) + number[-_LAST_SHOWN:]


def split_phone(number: str) -> tuple[str, str]:
    """Return an E.164 number's calling code ("" where nobody has it) and the digits after it."""
    is_calling_code = _open_plans().is_calling_code
    code = next((n for n in (2, 3, 4) if is_calling_code(number[1:n])), 1)
    return number[1:code], number[code:]


def _open_plans() -> ModuleType:
    # Loaded when the first number is read (relay.py sees to it as soon as the port is open), not at every start.
    from app.core import numbering  # noqa: PLC0415

    return numbering
