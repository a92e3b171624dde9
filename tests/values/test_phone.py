from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import is_valid_number, parse

from app.model.delivery import Reason
from app.values.number import SentFloat
from app.values.phone import PhoneFault, mask_phone, read_phone

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
        ("tel:+919800000001", "IN", "holds something beside"),
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
    assert fault.reason is Reason.RECIPIENT_INVALID
    assert fault.detail.startswith(detail)
    assert "98000" not in fault.detail


@pytest.mark.parametrize("raw", ["", "   ", "null", "undefined", "\u200b"])
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
