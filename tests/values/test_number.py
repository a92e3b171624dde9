from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest

from app.values.number import SentFloat, is_number, read_amount, read_decimal


def test_sent_float_keeps_its_text() -> None:
    number = SentFloat("199.50")
    assert (str(number), f"{number}", number + 1) == ("199.50", "199.50", 200.5)
    assert str(copy.deepcopy(number)) == "199.50"
    assert str(pickle.loads(pickle.dumps(number))) == "199.50"  # noqa: S301 - our own bytes
    with pytest.raises(ValueError, match="could not convert"):
        SentFloat("abc")


@pytest.mark.parametrize(("value", "expected"), [(1, True), (1.5, True), (True, False), ("1", False), (None, False)])
def test_what_a_number_is(value: Any, expected: bool) -> None:
    assert is_number(value) is expected


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("100", "100"),
        (" -0.50 ", "-0.50"),
        ("+7", "7"),
        (100, "100"),
        (199.5, "199.5"),
        (SentFloat("199.50"), "199.50"),
        (SentFloat("1e3"), "1000"),
        (SentFloat("1e-999999999"), "0"),
        (10**40, str(10**40)),
    ],
)
def test_exact_numbers_are_read(value: Any, number: str) -> None:
    assert read_decimal(value) == Decimal(number)


@pytest.mark.parametrize(
    "value",
    ["", "1,000", "1e5", "abc", "1.", ".5", "٣", "²", "9" * 31, "nan", True, None, [1], float("nan"), float("inf")],
)
def test_what_is_no_number_is_not_guessed(value: Any) -> None:
    assert read_decimal(value) is None


@pytest.mark.parametrize(
    ("value", "locale", "number"),
    [
        ("1,250", "en_IN", "1250"),
        ("1,00,000", "en_IN", "100000"),
        ("12,34,567.50", "en_IN", "1234567.50"),
        ("1,234,567", "en_IN", "1234567"),
        ("₹1,250.00", "en_IN", "1250.00"),
        ("₹ 1,250/-", "en_IN", "1250"),
        ("Rs. 500", "en_IN", "500"),
        ("Rs 1,250", "en_IN", "1250"),
        ("INR 500", "en_IN", "500"),
        ("500 INR", "en_IN", "500"),
        ("-₹5", "en_IN", "-5"),
        ("\u22125", "en_IN", "-5"),
        ("US$20.50", "en_IN", "20.50"),
        ("1 250", "en_IN", "1250"),
        ("1\u00a0250", "fr_FR", "1250"),
        ("1\u202f250,50 €", "fr_FR", "1250.50"),
        ("1'250.50", "de_CH", "1250.50"),
        ("१२५०", "hi_IN", "1250"),
        ("१,२५०", "hi_IN", "1250"),
        ("1.250,00", "de_DE", "1250.00"),
        ("1.234.567", "de_DE", "1234567"),
        ("12,5", "de_DE", "12.5"),
        ("1,00,000", "de_DE", "100000"),
        ("1,250.00", "de_DE", "1250.00"),
        ("100", "de_DE", "100"),
        (100, "de_DE", "100"),
        (SentFloat("1e3"), "en_IN", "1000"),
    ],
)
def test_amounts_are_read_as_people_write_them(value: Any, locale: str, number: str) -> None:
    assert read_amount(value, locale) == Decimal(number)


@pytest.mark.parametrize(
    ("value", "locale"),
    [
        ("1,250", "de_DE"),  # 1250 or 1.25
        ("1,25", "en_IN"),
        ("12,50", "en_IN"),
        ("1,2,3", "en_IN"),
        ("1,0000", "en_IN"),
        ("1.250,00", "en_IN"),
        ("1 25", "en_IN"),
        ("100 coins", "en_IN"),
        ("a lot", "en_IN"),
        ("1e3", "en_IN"),
        ("", "en_IN"),
        ("₹", "en_IN"),
        (True, "en_IN"),
        ([100], "en_IN"),
        (None, "en_IN"),
    ],
)
def test_amounts_with_two_readings_or_none_are_not_guessed(value: Any, locale: str) -> None:
    assert read_amount(value, locale) is None
