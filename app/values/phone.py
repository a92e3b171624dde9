"""Phone numbers: read to E.164 where there is exactly one reading, and never guessed. And their countries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    SUPPORTED_REGIONS,
    NumberParseException,
    PhoneNumberFormat,
    PhoneNumberType,
    country_code_for_region,
    format_number,
    number_type,
    parse,
)
from phonenumbers.phonemetadata import PhoneMetadata

from app.model.value import dataclass
from app.values.text import clean_text, is_missing

# ASCII digits only: to Python "٣" and "²" are digits, too. Two numbers in one field need a comma or a slash.
_WRITTEN = re.compile(r"\(?\+? ?[0-9][0-9 ().\-\u2010-\u2015]*")
# What programs put around a number: Excel's apostrophe and ="…", a scheme, a comma or semicolon at the end.
_AROUND = re.compile(r"^=?[\"'\u2018\u2019`]*(?:(?:whatsapp|tel):)? ?|[\"'\u2019;, ]*$", re.IGNORECASE)
_CODE_TWICE = re.compile(r"\+([0-9]{1,3}) ?\+(?=\1)")
_BETWEEN = re.compile(r" *[^0-9 +][^0-9]*(?=[0-9])")  # what separates digits, where it is more than blanks
_FEWEST_BEFORE = 5  # digits; what is before a note is no mere prefix such as +91
_NOT_DIGITS = re.compile(r"[^0-9]")
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_CODES = frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))
_MOST_DIGITS = 15  # ITU-T E.164 §6.1
_LAST_SHOWN = 4
# Mexico had a 1, or 044, 045 and 01 at home, before its mobiles until 2019, and WhatsApp's own ids still have it:
# https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers
_OLD_MEXICAN = re.compile(r"\+521([0-9]{10})")
_OLD_AT_HOME = re.compile(r"(?:04[45]|01|1)([0-9]{10})")
# Argentina's mobiles have a 9 from abroad, and none in many an address book. Without it the kind cannot be told:
# https://github.com/google/libphonenumber/blob/master/FAQ.md
TWO_FORMS = ("+52", "+54")
_BARE_ARGENTINE = re.compile(r"\+54([1-3][0-9]{9})")


class Line(StrEnum):
    """The kinds of line that a number may have."""

    MOBILE = "mobile"  # or may be one
    LANDLINE = "landline"
    OTHER = "other"  # a pager, a toll-free number and the like
    INVALID = "invalid"


_LINES = {
    PhoneNumberType.MOBILE: Line.MOBILE,
    PhoneNumberType.FIXED_LINE_OR_MOBILE: Line.MOBILE,  # North America does not tell them apart
    PhoneNumberType.PERSONAL_NUMBER: Line.MOBILE,
    PhoneNumberType.VOIP: Line.MOBILE,
    PhoneNumberType.FIXED_LINE: Line.LANDLINE,
    PhoneNumberType.UNKNOWN: Line.INVALID,
}
_MOBILES, _LANDLINES = frozenset({Line.MOBILE}), frozenset({Line.MOBILE, Line.LANDLINE})


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """The reason for which there is no number to send to; `detail` never holds the number."""

    detail: str
    reason: str = "recipient_invalid"  # in the words of model.delivery.Reason


def read_phone(raw: Any, country: str | None, *, landlines: bool = False) -> str | PhoneFault:
    """Return the mobile number `raw` as E.164 (`+919800000001`); with `landlines`, a landline, too.

    `country` (ISO 3166 alpha-2) reads a number without a country code; None where it is not known. A number
    that can be read in two ways is refused, as is one that is certainly no mobile, and one with a note behind it.
    """
    if isinstance(raw, bool) or not isinstance(raw, (str, int)):
        return PhoneFault("is not written as a phone number")
    text = str(raw)
    if (plain := read_plain(text, country)) is not None:
        return plain
    if not (text.isascii() and text.removeprefix("+").isdigit()):  # as most numbers are
        text = clean_text(text)
        if is_missing(text):
            return PhoneFault("is missing", "recipient_missing")
        text = _CODE_TWICE.sub("+", _AROUND.sub("", text).replace("\uff0b", "+"), count=1)
    if _WRITTEN.fullmatch(text) is None:
        return PhoneFault("holds something beside digits, blanks, brackets, dots, hyphens and one leading +")
    lines = _LANDLINES if landlines else _MOBILES
    number = _choose(_list_readings(text, country), lines)
    if number is None:
        return PhoneFault(_describe_invalid(text, country))
    if isinstance(number, PhoneFault) or not _has_note(text, country, lines):
        return number
    return PhoneFault("has something behind it that may not belong to it; write the number alone")


def read_plain(text: str, country: str | None) -> str | None:
    """Return a number that is beyond doubt a mobile's of a country with a calling code of its own; None for any other.

    Most numbers are such, and the library takes 50 µs for one.
    """
    if not text.isascii():
        return None
    if text.isdigit() and country is not None:
        code, national = _find_code(country), text
    elif text[:1] == "+" and text[1:].isdigit() and text[1] != "0":
        code, national = split_phone(text)
    else:
        return None
    pattern = _find_mobiles(code)
    is_plain = pattern is not None and pattern.fullmatch(national) is not None
    return f"+{code}{national}" if is_plain else None


@cache
def _find_code(country: str) -> str:
    return str(country_code_for_region(country))


@cache
def _find_mobiles(code: str) -> re.Pattern[str] | None:
    """Return what matches a mobile number without its calling code that has no second reading; None where none can be.

    A number that begins as a prefix would, or is of another kind as well, is left to the library.
    """
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code or 0), ())
    plan = PhoneMetadata.metadata_for_region(regions[0]) if len(regions) == 1 and f"+{code}" not in TWO_FORMS else None
    if plan is None or plan.mobile is None:
        return None
    others = (plan.premium_rate, plan.toll_free, plan.shared_cost, plan.voip, plan.personal_number, plan.pager)
    kinds = (kind.national_number_pattern for kind in (*others, plan.uan, plan.voicemail) if kind is not None)
    prefixes = "|".join(filter(None, (plan.national_prefix_for_parsing, plan.international_prefix, code, "0")))
    never = "|".join(f"(?:{kind})" for kind in kinds if kind)
    lengths = "|".join(f"[0-9]{{{length}}}" for length in plan.mobile.possible_length)
    is_never = f"(?!(?:{never})$)" if never else ""
    mobile = plan.mobile.national_number_pattern or "x"  # "x": none has one
    return re.compile(rf"(?!{prefixes})(?=(?:{lengths})$){is_never}(?:{mobile})")


def is_international(raw: Any) -> bool:
    """Tell whether a number is written with its country code for all to see, so that its country need not be known."""
    if not isinstance(raw, str):
        return False
    if raw.isascii() and raw.isdigit():  # as most are
        return raw.startswith("00")
    return "+" in raw or "\uff0b" in raw or _NOT_DIGITS.sub("", raw).startswith("00")


def have_one_code(country: str, other: str) -> bool:
    """Tell whether a number reads the same in two countries: they are one, or share a calling code."""
    return country == other or country_code_for_region(country) == country_code_for_region(other)


def to_one_form(number: str) -> str:
    """Return an E.164 number in the one form of two that Mexico's and Argentina's mobiles have."""
    if number.startswith("+521"):
        return _OLD_MEXICAN.sub(r"+52\1", number)
    return _BARE_ARGENTINE.sub(r"+549\1", number) if number.startswith("+54") else number


def find_other_form(number: str) -> str:
    """Return the other form of an E.164 number in its one form, "" where there is none."""
    if number.startswith("+52"):
        return f"+521{number[3:]}"
    return f"+54{number[4:]}" if number.startswith("+549") else ""


def _list_readings(text: str, country: str | None) -> set[tuple[str, Line]]:
    """Return every reading of a written number, the invalid ones included."""
    digits = text if text.isdigit() else _NOT_DIGITS.sub("", text)
    if "+" in text or digits.startswith("00"):
        digits = digits if "+" in text else digits[2:]
        return {_read_number(f"+{digits}", None)} if len(digits) <= _MOST_DIGITS else set()
    if country is None or len(digits) > _MOST_DIGITS:
        return set()
    if country == "MX" and (found := _OLD_AT_HOME.fullmatch(digits)) is not None:
        digits = found[1]
    readings = {_read_number(digits, country)}
    code = str(country_code_for_region(country))
    for prefix in (code, f"0{code}"):  # 91 98000 00001 and, as many write it in India, 091 98000 00001
        if digits.startswith(prefix):
            readings.add(_read_number("+" + digits[len(prefix) - len(code) :], None))
    return readings


def _read_number(text: str, country: str | None) -> tuple[str, Line]:
    """Return a reading's E.164 form and its kind; "" and INVALID where it is no number at all."""
    try:
        number = parse(text, country)
    except NumberParseException:
        return "", Line.INVALID
    written = format_number(number, PhoneNumberFormat.E164)
    one_form = to_one_form(written)
    if one_form != written and number_type(other := parse(one_form, None)) != PhoneNumberType.UNKNOWN:
        written, number = one_form, other
    return written, _LINES.get(number_type(number), Line.OTHER)


def _describe_invalid(text: str, country: str | None) -> str:
    digits = _NOT_DIGITS.sub("", text)
    if not is_international(text) and country is None:
        return "has no country code, and its country is not known"
    if len(digits) > _MOST_DIGITS + (2 if "+" not in text and is_international(text) else 0):
        return "has more than 15 digits"
    return f"is not a valid number {'with a country code' if is_international(text) else f'in {country}'}"


def _choose(readings: set[tuple[str, Line]], lines: frozenset[Line]) -> str | PhoneFault | None:
    """Return the one valid reading. Not the likeliest of two: the other may be somebody else's number."""
    valid = [reading for reading in readings if reading[1] != Line.INVALID]
    if not valid:
        return None
    if len(valid) > 1:
        return PhoneFault("can be read with and without a country code; write it with +")
    number, line = valid[0]
    if line in lines:
        return number
    return PhoneFault("is a landline, not a mobile" if line == Line.LANDLINE else "is not a mobile number")


def _has_note(text: str, country: str | None, lines: frozenset[Line]) -> bool:
    """Tell whether the end may be something else: an extension, a remark, the .0 of a spreadsheet.

    Nothing but its length tells "-12" from an end, so what is a number without it has two readings.
    """
    breaks = [] if text[1:].isdigit() else list(_BETWEEN.finditer(text))
    if breaks and _is_never_part(text, breaks[-1]):
        return True
    heads = (text[: each.start()] for each in breaks if each.start())
    return any(line in lines for head in heads for _, line in _list_readings(head, country))


def _is_never_part(text: str, last: re.Match[str]) -> bool:
    digits = _NOT_DIGITS.sub("", text[last.end() :])
    before = len(_NOT_DIGITS.sub("", text[: last.start()]))
    is_bracketed = "(" in last[0] and text.endswith(")")
    is_fraction = "." in last[0] and not digits.strip("0")
    return before >= _FEWEST_BEFORE and (len(digits) == 1 or is_bracketed or is_fraction)


@lru_cache(maxsize=512)  # an event and its attempts show the same
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
    for code in (2, 3, 4):
        if number[1:code] in _CODES:
            return number[1:code], number[code:]
    return "", number[1:]


# Codes of three letters that Babel still reads as those of the countries that came after.
_FORMER = frozenset({"ANT", "BUR", "DDR", "FXX", "NTZ", "SCG", "SUN", "TMP", "YMD", "YUG", "ZAR"})


def to_country(text: str) -> str | None:
    """Return the ISO 3166 alpha-2 code for "IN", "in", "IND" or "ind"; None where it is no country with phones."""
    code = text.strip().upper()
    if len(code) == 3 and code.isalpha() and code not in _FORMER:  # noqa: PLR2004 - ISO 3166 alpha-3
        code = next(iter(_list_aliases().get(code, ())), "")
    return code if code in SUPPORTED_REGIONS else None


@cache
def _list_aliases() -> Mapping[str, Sequence[str]]:
    from babel.core import get_global  # noqa: PLC0415 - of use for the few events that hold such a code

    return get_global("territory_aliases")


_DIAL_CODE = re.compile(r"(?:\+|00)? ?(?:(1)[ -]?[0-9]{3}|([1-9][0-9]{0,2}))")
_SIGNS = re.compile(r"[^a-z0-9]+")
_OTHER_NAMES = {  # beside those of CLDR, which Babel knows
    "america": "US", "britain": "GB", "burma": "MM", "czech republic": "CZ", "emirates": "AE", "england": "GB",
    "great britain": "GB", "holland": "NL", "hong kong": "HK", "hong kong sar": "HK", "ivory coast": "CI",
    "korea republic of": "KR", "ksa": "SA", "kingdom of saudi arabia": "SA", "macao": "MO", "macau": "MO",
    "myanmar": "MM", "palestine": "PS", "republic of korea": "KR", "russian federation": "RU", "scotland": "GB",
    "swaziland": "SZ", "turkey": "TR", "uae": "AE", "uk": "GB", "united states of america": "US", "viet nam": "VN",
    "wales": "GB",
}  # fmt: skip


def read_country(value: Any) -> str | None:
    """Return the ISO 3166 alpha-2 code for a code, an English name or a calling code; None where it is none.

    Where countries share a calling code it is the largest of them, by which the others' numbers are read as well.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if (found := _DIAL_CODE.fullmatch(str(value).strip())) is not None:
        first = COUNTRY_CODE_TO_REGION_CODE.get(int(found[1] or found[2]), ("001",))[0]
        return first if first != "001" else None  # 001: satellites and the like
    name = _fold(str(value))
    return to_country(str(value)) or _OTHER_NAMES.get(name) or _list_names().get(name)


@cache
def _list_names() -> Mapping[str, str]:
    from babel import Locale  # noqa: PLC0415 - of use for the few events that hold a country's name

    names = Locale("en").territories
    return {_fold(name): code for code, name in names.items() if code in SUPPORTED_REGIONS}


def _fold(name: str) -> str:
    """Return a name without case, accents and signs: "Türkiye" and "turkiye" are one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold().replace("&", " and ")
    return _SIGNS.sub(" ", plain).strip().removeprefix("the ")
