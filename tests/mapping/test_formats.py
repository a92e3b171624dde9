from __future__ import annotations

from typing import Any

import pytest

from app.mapping.expression import Failed, Missing
from app.mapping.grammar import ExpressionCompiler
from app.values.number import SentFloat

INDIA = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")
GERMANY = ExpressionCompiler("DE", "Europe/Berlin", "de_DE")


def evaluate(source: str, x: Any, compiler: ExpressionCompiler = INDIA, **others: Any) -> Any:
    return compiler.compile(source).evaluate({"x": x, **others})


@pytest.mark.parametrize(
    ("x", "written"),
    [
        ("100000", "1,00,000"),
        (12345678, "1,23,45,678"),
        (SentFloat("1234.5"), "1,234.5"),
        ("-1000", "-1,000"),
        (0, "0"),
        ("12345678901234567890", "1,23,45,67,89,01,23,45,67,890"),
    ],
)
def test_number_is_grouped_as_in_india(x: Any, written: str) -> None:
    assert evaluate("x | number", x) == written


def test_number_is_grouped_as_in_germany() -> None:
    assert evaluate("x | number", "1234567.5", GERMANY) == "1.234.567,5"


@pytest.mark.parametrize(
    ("source", "x", "others", "written"),
    [
        ("x | money", "200", {}, "₹200"),
        ("x | money", SentFloat("199.50"), {}, "₹199.50"),
        ("x | money", "200.00", {}, "₹200"),
        ("x | money", 100000, {}, "₹1,00,000"),
        ("x | money", "199.999", {}, "₹200.00"),
        ("x | money", -5, {}, "-₹5"),
        ("x | money", "200", {"business_currency_code": "usd"}, "$200"),
        ("x | money", "200", {"business_currency_code": " "}, "₹200"),
        ("x | money('EUR')", "200.5", {"business_currency_code": "usd"}, "€200.50"),
        ("x | money(currency='inr')", "200", {}, "₹200"),
        ("x | money(code)", "200", {"code": "USD"}, "$200"),
    ],
)
def test_money_is_exact_and_in_the_currency_of_the_event(
    source: str, x: Any, others: dict[str, Any], written: str
) -> None:
    assert evaluate(source, x, **others) == written


def test_money_is_written_as_in_germany() -> None:
    assert evaluate("x | money", "1234.5", GERMANY) == "1.234,50\u00a0€"
    assert evaluate("x | money", "1234", GERMANY) == "1.234\u00a0€"


@pytest.mark.parametrize("code", ["coins", "XYZ1", ""])
def test_unknown_currency_fails_rather_than_being_guessed(code: str) -> None:
    assert isinstance(evaluate(f"x | money('{code}')", "5"), Failed)


def test_event_with_an_unknown_currency_fails() -> None:
    assert isinstance(evaluate("x | money", "5", business_currency_code="sparks"), Failed)
    assert evaluate("x | money(code)", "5") == Missing("code")


def test_store_in_a_country_without_a_currency_has_to_name_one() -> None:
    nowhere = ExpressionCompiler("AQ", "UTC", "en")
    assert isinstance(evaluate("x | money", "5", nowhere), Failed)
    assert evaluate("x | money('USD')", "5", nowhere) == "$5"


@pytest.mark.parametrize(
    ("source", "x", "written"),
    [
        ("x | date", "2026-12-31", "31 Dec 2026"),
        ("x | date('d MMM')", "2026-12-31T18:29:59Z", "31 Dec"),
        ("x | date('d MMM')", "2026-12-31T18:30:00Z", "1 Jan"),
        ("x | date('d MMM')", "2026-12-31T23:59:59", "31 Dec"),
        ("x | date('d MMM')", "2026-12-31", "31 Dec"),
        ("x | date('d MMM')", 1_798_741_799, "31 Dec"),
        ("x | date('d MMM')", "1798741800000", "1 Jan"),
        ("x | date('short')", "2026-12-31", "31/12/26"),
        ("x | date('long')", "2026-12-31", "31 December 2026"),
        ("x | date('full')", "2026-12-31", "Thursday 31 December 2026"),
        ("x | date(format='dd/MM/yyyy')", "2026-12-31", "31/12/2026"),
        ("x | date('d MMM, HH:mm')", "2026-12-31T18:29:59Z", "31 Dec, 23:59"),
        ("x | date(\"d 'of' MMMM\")", "2026-12-31", "31 of December"),
    ],
)
def test_date_is_written_in_the_zone_of_the_store(source: str, x: Any, written: str) -> None:
    assert evaluate(source, x).replace(",", "") == written.replace(",", "")


def test_date_is_written_as_in_germany() -> None:
    assert evaluate("x | date('long')", "2026-12-31T23:30:00Z", GERMANY) == "1. Januar 2027"


@pytest.mark.parametrize("x", ["soon", "31/12/2026", 5, True, ["2026-12-31"]])
def test_what_is_no_date_is_missing(x: Any) -> None:
    assert evaluate("x | date('d MMM')", x) == Missing("x", "is not a date")
    assert evaluate("x | date('d MMM') | default('soon')", x) == "soon"


def test_day_without_a_time_has_no_hour() -> None:
    value = evaluate("x | date('HH:mm')", "2026-12-31")
    assert isinstance(value, Failed)
    assert "a date without a time of day" in value.detail


def test_phone_is_read_in_the_country_of_the_store() -> None:
    assert evaluate("x | phone", "98000 00001") == "+919800000001"
    assert evaluate("x | phone", "980") == Missing("x", "is not a valid number in IN")
    assert evaluate("x | phone | default('none')", ["a"]) == "none"
