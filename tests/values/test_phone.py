from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneNumberFormat,
    PhoneNumberType,
    country_code_for_region,
    example_number_for_type,
    format_number,
    is_valid_number,
    parse,
)
from phonenumbers.phonemetadata import PhoneMetadata

from app.model.delivery import Reason
from app.values import phone
from app.values.phone import PhoneFault, find_other_form, mask_phone, read_phone, to_one_form
from app.values.text import SentFloat

NUMBER = "+919800000001"


@pytest.mark.parametrize(
    "raw",
    [
        "9800000001",
        9800000001,
        919800000001,
        " 98000 00001 ",
        "98000-00001",
        "98000\u201100001",
        "(98000) 00001",
        "+91 98000 00001",
        "+919800000001",
        "(+91) 98000 00001",
        "+91 (0) 98000 00001",
        "09800000001",
        "919800000001",
        "91 98000 00001",
        "091 98000 00001",
        "00919800000001",
        "0091 98000 00001",
        "\u202a+91 98000 00001\u202c",
        "98000\u00a000001",
        "'9800000001",
        "'+919800000001",
        '="+919800000001"',
        "\uff0b91 98000 00001",
        "98000\u201400001",
        "+91 98000 00001;",
        "9800000001,",
        "+ 91 98000 00001",
        "whatsapp:+919800000001",
        "WhatsApp: +91 98000 00001",
        "tel:+91-98000-00001",
        "+91+919800000001",
        "+91 +91 98000 00001",
    ],
)
def test_indian_number_is_read_however_it_is_written(raw: Any) -> None:
    assert read_phone(raw, "IN") == NUMBER


@pytest.mark.parametrize("national", ["9100000001", "9112345678", "9198765432", "9191919191"])
def test_number_that_begins_with_91_is_not_taken_for_the_country_code(national: str) -> None:
    assert read_phone(national, "IN") == f"+91{national}"
    assert read_phone(f"91{national}", "IN") == f"+91{national}"
    assert read_phone(f"0{national}", "IN") == f"+91{national}"


@pytest.mark.parametrize(
    ("raw", "country", "number"),
    [
        ("+1 202 555 0143", "IN", "+12025550143"),
        ("202 555 0143", "US", "+12025550143"),
        ("1 202 555 0143", "US", "+12025550143"),
        ("001 202 555 0143", "IN", "+12025550143"),
        ("+965 5000 0000", "IN", "+96550000000"),
        ("5000 0000", "KW", "+96550000000"),
        ("+44 7400 000000", None, "+447400000000"),
    ],
)
def test_foreign_number_needs_its_country(raw: str, country: str | None, number: str) -> None:
    assert read_phone(raw, country) == number


@pytest.mark.parametrize(
    ("raw", "country", "number"),
    [
        ("0812.3456.7890", "ID", "+6281234567890"),
        ("+62 812-3456-7890", "IN", "+6281234567890"),
        ("(0812) 3456-7890", "ID", "+6281234567890"),
        ("62 0812 3456 7890", "ID", "+6281234567890"),
        ("+62 811 600 700", "IN", "+62811600700"),
        ("+971 (0)50 123 4567", "IN", "+971501234567"),
        ("9710501234567", "AE", "+971501234567"),
        ("234 0803 123 4567", "NG", "+2348031234567"),
        ("880 01712 345678", "BD", "+8801712345678"),
        ("8 (912) 345-67-89", "RU", "+79123456789"),
        ("8 701 234 5678", "KZ", "+77012345678"),
        ("0 15 11 98765-4321", "BR", "+5511987654321"),
        ("+43 (0)664 123456", "IN", "+43664123456"),
        # Mexico's old forms, and Argentina's of an address book: one person, one number.
        ("+52 1 55 1234 5678", "IN", "+525512345678"),
        ("5215512345678", "MX", "+525512345678"),
        ("044 55 1234 5678", "MX", "+525512345678"),
        ("045 55 1234 5678", "MX", "+525512345678"),
        ("01 55 1234 5678", "MX", "+525512345678"),
        ("55 1234 5678", "MX", "+525512345678"),
        ("+54 11 2345 6789", "IN", "+5491123456789"),
        ("+54 9 11 2345-6789", "IN", "+5491123456789"),
        ("11 2345 6789", "AR", "+5491123456789"),
        ("011 15 2345 6789", "AR", "+5491123456789"),
        ("0351-152-303-473", "AR", "+5493512303473"),
        ("5491123456789", "AR", "+5491123456789"),
    ],
)
def test_spellings_of_other_countries_are_read(raw: str, country: str, number: str) -> None:
    assert read_phone(raw, country) == number


@pytest.mark.parametrize(
    ("raw", "country"),
    [
        ("+6281234567890.0", "IN"),
        ("+62 812-3456-7890 (2)", "IN"),
        ("+43 664 123456-12", "IN"),
        ("+43 664 123456 - 2", "IN"),
        ("0812345678.0", "ID"),
        ("1511234567.0", "DE"),
        ("0401234567.0", "FI"),
        ("+39333123456.0", "IN"),
        ("+6012345678.0", "IN"),
        ("+64211234567.0", "IN"),
        ("+4670123456.0", "IN"),
        ("+38591123456.0", "IN"),
        ("+85512345678.0", "IN"),
        ("+62 812 3456 789.00", "IN"),
        ("+60 12-345 678 (9)", "IN"),
        ("+358 40 123456 (7)", "IN"),
        ("9800000001.0", "IN"),
        ("+43 664 123456\u201412", "IN"),
        ("+43 664 123456 (12)", "IN"),
    ],
)
def test_a_note_behind_a_number_is_no_part_of_it(raw: str, country: str) -> None:
    assert isinstance(read_phone(raw, country), PhoneFault)


def test_control_glued_together_the_notes_would_be_other_peoples_numbers() -> None:
    assert read_phone("+62812345678900", "IN") == "+62812345678900"
    assert read_phone("+4366412345612", "IN") == "+4366412345612"


_NOTES = st.tuples(
    st.sampled_from([" ", ""]), st.sampled_from(".-()\u2013\u2014/;,x#"), st.text("0123456789 .-()\u2013x", max_size=8)
).map("".join)
_MOBILES = [
    (number, region)
    for region in sorted(SUPPORTED_REGIONS)
    if (number := example_number_for_type(region, PhoneNumberType.MOBILE)) is not None
]


@settings(deadline=None)  # the first number of a country loads its plan
@given(
    st.sampled_from(_MOBILES),
    st.sampled_from([PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL]),
    _NOTES,
)
def test_no_note_behind_a_mobile_makes_it_somebody_elses(example: tuple[Any, str], form: int, note: str) -> None:
    number, region = example
    written = format_number(number, form)
    assert read_phone(written, region) == to_one_form(format_number(number, PhoneNumberFormat.E164))
    noted = read_phone(written + note, region)
    assert isinstance(noted, PhoneFault) or noted == read_phone(written, region)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("+55 45 3200-0000", "+554532000000"),
        ("+91 22 2345 6789", "+912223456789"),
        ("9800000001", NUMBER),
        ("1800 123 4567", PhoneFault("is not a mobile number")),
        ("+49 30 123456-12", PhoneFault("has something behind it that may not belong to it; write the number alone")),
    ],
)
def test_a_store_may_allow_landlines(raw: str, number: str | PhoneFault) -> None:
    assert read_phone(raw, "IN", landlines=True) == number


@pytest.mark.parametrize(
    ("number", "one_form", "other"),
    [
        ("+5215512345678", "+525512345678", "+5215512345678"),
        ("+525512345678", "+525512345678", "+5215512345678"),
        ("+541123456789", "+5491123456789", "+541123456789"),
        ("+5491123456789", "+5491123456789", "+541123456789"),
        ("+548001234567", "+548001234567", ""),
        (NUMBER, NUMBER, ""),
        ("", "", ""),
    ],
)
def test_one_person_has_one_number(number: str, one_form: str, other: str) -> None:
    assert to_one_form(number) == one_form
    assert find_other_form(one_form) == other


@pytest.mark.parametrize(
    ("raw", "country", "detail"),
    [
        ("12025550143", "IN", "is not a valid number in IN"),
        ("50000000", "IN", "is not a valid number in IN"),
        ("9800000001", None, "has no country code"),
        ("980000000", "IN", "is not a valid number in IN"),
        ("98000000011", "IN", "is not a valid number in IN"),
        ("1", "IN", "is not a valid number in IN"),
        ("0000000000", "IN", "is not a valid number with a country code"),
        ("+91 98000 0000", "IN", "is not a valid number with a country code"),
        ("+1 999 555 0143", "IN", "is not a valid number with a country code"),
        ("+9999800000001", "IN", "is not a valid number with a country code"),
        ("+0919800000001", "IN", "is not a valid number with a country code"),
        ("022 2345 6789", "IN", "is a landline"),
        ("+91 22 2345 6789", "IN", "is a landline"),
        ("1800 123 4567", "IN", "is not a mobile number"),
        ("49 1512 3456789", "DE", "can be read with and without a country code"),
        ("9800000001, 9800000002", "IN", "holds something beside"),
        ("9800000001 / 9800000002", "IN", "holds something beside"),
        ("9800000001 9800000002", "IN", "has more than 15 digits"),
        ("+9800000001 9800000002", "IN", "has more than 15 digits"),
        ("+91 98000 00001+", "IN", "holds something beside"),
        ("٩٨٠٠٠٠٠٠٠١", "IN", "holds something beside"),
        ("९८००००००००१", "IN", "holds something beside"),
        ("98000\uff10\uff10\uff10\uff10\uff11", "IN", "holds something beside"),
        ("98000²00001", "IN", "holds something beside"),
        ("9.8e9", "IN", "holds something beside"),
        ("9800000001 ext 5", "IN", "holds something beside"),
        ("tel:+919800000001;ext=5", "IN", "holds something beside"),
        ("whatsapp:", "IN", "holds something beside"),
        ("+91+980000000", "IN", "holds something beside"),
        ("98XXXXXX01", "IN", "holds something beside"),
        ("+", "IN", "holds something beside"),
        (-9800000001, "IN", "holds something beside"),
        (9.8e9, "IN", "is not written as a phone number"),
        (SentFloat("9800000001.0"), "IN", "is not written as a phone number"),
        (True, "IN", "is not written as a phone number"),
        (["9800000001"], "IN", "is not written as a phone number"),
        ({"mobile": "9800000001"}, "IN", "is not written as a phone number"),
        (None, "IN", "is not written as a phone number"),
    ],
)
def test_what_is_not_surely_a_mobile_is_refused(raw: Any, country: str | None, detail: str) -> None:
    fault = read_phone(raw, country)
    assert isinstance(fault, PhoneFault)
    assert fault.reason == Reason.RECIPIENT_INVALID
    assert fault.detail.startswith(detail)
    assert "98000" not in fault.detail


@pytest.mark.parametrize("raw", ["", "   ", "null", "undefined", "\u200b", "-", "N/A", "null null"])
def test_blank_number_is_missing(raw: str) -> None:
    assert read_phone(raw, "IN") == PhoneFault("is missing", Reason.RECIPIENT_MISSING)


@given(
    st.text(alphabet="0123456789+ -()९", max_size=18) | st.integers() | st.text() | st.floats() | st.none(),
    st.sampled_from(["IN", "US", "KW", "DE", "IT", None]),
)
def test_reading_never_raises_and_what_it_reads_is_valid(raw: Any, country: str | None) -> None:
    number = read_phone(raw, country)
    if isinstance(number, str):
        assert is_valid_number(parse(number, None))
        assert read_phone(number, None) == number
        assert "".join(sign for sign in str(raw) if sign in "0123456789").endswith(number[-6:])
    else:
        assert isinstance(number, PhoneFault)


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+919800000001", "+91******0001"),
        ("+12025550143", "+1******0143"),
        ("+96550000000", "+965****0000"),
        ("", ""),
        ("9800000001", "***"),
        ("+91", "***"),
        ("anything", "***"),
        ("+99999999999", "+*******9999"),
    ],
)
def test_mask_shows_no_more_than_the_country_and_four_digits(number: str, masked: str) -> None:
    assert mask_phone(number) == masked


@pytest.mark.parametrize("country", sorted(SUPPORTED_REGIONS))
def test_the_short_way_of_a_plain_number_is_the_librarys(country: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number that the short way reads, the long one reads alike: over the beginnings of numbers, at any length."""
    draw = random.Random(country)  # noqa: S311
    digits = 4 if country == "IN" else 2
    plan = PhoneMetadata.metadata_for_region(country)
    assert plan is not None
    lengths = plan.mobile.possible_length if plan.mobile else ()
    code = country_code_for_region(country)
    raws = [
        f"{form}{beginning:0{digits}}{draw.randrange(10**length):0{length}}"[: len(form) + length]
        for length in lengths
        for beginning in range(10**digits)
        for form in ("", f"+{code}")
    ]
    short = {raw: number for raw in raws if (number := phone.read_plain(raw, country)) is not None}
    monkeypatch.setattr(phone, "read_plain", lambda *_: None)
    assert {raw: read_phone(raw, country) for raw in short} == short
    if country == "IN":
        assert len(short) > 6_000, "most mobiles go the short way"
