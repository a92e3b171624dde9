from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest

from app.values.number import SentFloat, is_number, read_decimal


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
