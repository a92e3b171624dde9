"""The world's numbering plans, as far as we ask them. Apart from phone.py, since loading them takes 15 ms and 2 MB."""

from __future__ import annotations

from enum import StrEnum

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneNumberFormat,
    PhoneNumberType,
    country_code_for_region,
    format_number,
    number_type,
    parse,
)

from app.values.phone import to_one_form


class Line(StrEnum):
    """What kind of line a number is."""

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


def read_number(text: str, country: str | None) -> tuple[str, Line]:
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


def calling_code(country: str) -> str:
    """Return a country's calling code: "91" for IN."""
    return str(country_code_for_region(country))


def main_country(code: int) -> str | None:
    """Return the largest country with a calling code; None where nobody has it."""
    found = COUNTRY_CODE_TO_REGION_CODE.get(code)
    return found[0] if found and found[0] != "001" else None  # 001: satellites and the like


def is_calling_code(digits: str) -> bool:
    """Tell whether the digits are a country's calling code."""
    return int(digits) in COUNTRY_CODE_TO_REGION_CODE
