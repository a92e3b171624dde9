"""Whether something stored names a phone number: in whatever field, however it is written."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from app.core.cleaning import clean_text
from app.core.nector import BodyFault, parse_body
from app.core.phone import split_phone

_BETWEEN = r"[\s().\-/\u2010-\u2015\u2212]{0,3}"
_LEADING = re.compile(rf"(\+?)([0-9]*(?:{_BETWEEN}[0-9])*){_BETWEEN}\Z")
_LONGEST_LEAD = 12  # characters: `+91 (0) ` and the like
_NOT_DIGITS = bytes(sign for sign in range(256) if sign not in b"0123456789")
_ESCAPES = (b"\\u", b"%")  # whose own digits would tear a number apart
_LAST_DIGITS = re.compile(r"[0-9]*\Z")
_PREFIX = "wamid."


@dataclass(frozen=True, slots=True)
class Sought:
    """A number to look for: its calling code, the digits after it, and those as they may be grouped."""

    code: str
    national: str
    grouped: re.Pattern[str]


def seek_number(number: str) -> Sought:
    """Return what to look for where an E.164 number may stand."""
    code, national = split_phone(number)
    return Sought(code, national, re.compile(rf"{_BETWEEN.join(national)}(?![0-9])"))


def mentions(sought: Sought, body: bytes) -> bool:
    """Tell whether a JSON body names the number in any of its keys and values; what is no JSON is read as a text.

    Its digits may be grouped, with or without the calling code. With another country's code they are somebody else's.
    """
    is_plain = body.isascii() and not any(escape in body for escape in _ESCAPES)
    # Most bodies are done with here: JSON need not be read to see that the digits are nowhere.
    if is_plain and sought.national.encode() not in body.translate(None, _NOT_DIGITS):
        return False
    payload = parse_body(body)
    texts = (body.decode("utf-8", "replace"),) if isinstance(payload, BodyFault) else _list_texts(payload)
    return any(_names(sought, text) for text in texts)


def is_told_by_id(sought: Sought, message_id: str) -> bool:
    """Tell whether a provider's id of a message holds the number: WhatsApp's own (`wamid.…`) do, in base64."""
    digits = f"{sought.code}{sought.national}"
    if digits in message_id:
        return True
    coded = message_id.removeprefix(_PREFIX)
    try:
        return digits.encode() in base64.b64decode(coded + "=" * (-len(coded) % 4))
    except ValueError:  # binascii.Error is one, and so is a sign beyond ASCII
        return False


def _list_texts(value: Any) -> Iterator[str]:
    """Yield every key and value of a payload as text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _list_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _list_texts(item)
    else:
        yield str(value)


def _names(sought: Sought, text: str) -> bool:
    plain = _plain_digits(text)
    readings = {plain, unquote(plain)} if "%" in plain else {plain}
    return any(
        _is_theirs(sought, reading[: found.start()])
        for reading in readings
        for found in sought.grouped.finditer(reading)
    )


def _plain_digits(text: str) -> str:
    """Return the text with every digit as one of ASCII, and nothing invisible between them."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", clean_text(text))
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in folded)


def _is_theirs(sought: Sought, before: str) -> bool:
    """Tell by what stands before the national digits whether they are this number's and not the end of another's."""
    lead = before[-_LONGEST_LEAD:]
    code = sought.code
    if (found := _LEADING.search(lead)) is not None and found[1]:
        return re.sub("[^0-9]", "", found[2]) in (code, f"{code}0")
    (touching,) = _LAST_DIGITS.findall(lead)[:1]
    return touching in ("", "0", code, f"0{code}", f"00{code}")
