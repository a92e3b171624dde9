from __future__ import annotations

from typing import Any

import pytest

from app.mapping.expression import Failed, Missing
from app.mapping.grammar import ExpressionCompiler
from app.values.text import SentFloat

COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")
GERMANY = ExpressionCompiler("DE", "Europe/Berlin", "de_DE")


def evaluate(source: str, x: Any = None, compiler: ExpressionCompiler = COMPILER, **others: Any) -> Any:
    return compiler.compile(source).evaluate({"x": x, **others})


@pytest.mark.parametrize(
    ("source", "x", "value"),
    [
        ("x | upper", "riya", "RIYA"),
        ("x | lower", "RIYA", "riya"),
        ("x | title", "riya d'souza-rao", "Riya D'souza-Rao"),
        ("x | capitalize", "rIYA", "Riya"),
        ("x | trim", " riya ", "riya"),
        ("x | string", 5, "5"),
        ("x | string", SentFloat("5.00"), "5.00"),
        ("x | upper", True, "TRUE"),
        ("x | urlencode", "a b/ü&c", "a%20b%2F%C3%BC%26c"),
        ("x | replace('a', 'b')", "aaa", "bbb"),
        ("x | replace('a', 'b', 2)", "aaa", "bba"),
        ("x | replace('a', 1)", "aaa", "111"),
        ("x | truncate(9)", "Riya Sharma", "Riya…"),
        ("x | truncate(8, true)", "Riya Sharma", "Riya Sh…"),
        ("x | truncate(8, true, '')", "Riya Sharma", "Riya Sha"),
        ("x | truncate(11)", "Riya Sharma", "Riya Sharma"),
        ("x | truncate(1, end='...')", "Riya", "..."),
        ("x | int", "100", 100),
        ("x | int", "100.9", 100),
        ("x | int", -1.5, -1),
        ("x | int(7)", "abc", 7),
        ("x | int(0)", None, 0),
        ("x | float", "100.5", 100.5),
        ("x | float", 5, 5.0),
        ("x | float ~ ''", "100.50", "100.50"),
        ("x | float ~ ''", "+100", "100"),
        ("x | float ~ ''", SentFloat("7.10"), "7.10"),
        ("x | float(0)", "1,000", 1000),
        ("x | float ~ ''", "1,000", "1000"),
        ("x | int", "₹1,00,000.50", 100000),
        ("x | float(0)", "1,00", 0),
        ("x | round", "1,250.50", 1251),
        ("x | abs", "-1,250", 1250),
        ("x | number", "1,00,000", "1,00,000"),
        ("x | number", "1250000", "12,50,000"),
        ("x | money", "₹1,250.50", "₹1,250.50"),
        ("x | first_name", "Mr. Kabir Sen", "Kabir"),
        ("x | html_unescape", "Tom &amp; Jerry &#8211; &quot;x&quot;", 'Tom & Jerry \u2013 "x"'),
        ("x | truncate(3)", "हिन्दुस्तानी", "हि…"),
        ("x | truncate(4, true)", "🇮🇳🇮🇳🇮🇳", "🇮🇳…"),
        ('x | date("d MMM", from="dd/MM/yyyy")', "31/12/2026", "31 Dec"),
        ('x | date("d MMM", "dd/MM/yyyy")', "31/12/2026", "31 Dec"),
        ('x | date(from="dd/MM/yyyy HH:mm", format="HH:mm")', "31/12/2026 18:30", "18:30"),
        ('x | phone("AE")', "50 123 4567", "+971501234567"),
        ('x | phone("UAE")', "50 123 4567", "+971501234567"),
        ("x | phone(nothing)", "98000 00001", "+919800000001"),
        ('nothing | default("-")', "", "-"),
        ('nothing | default("N/A") | lower', "", "n/a"),
        ("x | round", "2.5", 3),
        ("x | round", 2.4, 2),
        ("x | round(1)", 2.25, 2.3),
        ("x | round(1, 'floor')", 2.29, 2.2),
        ("x | round(0, 'ceil')", 2.1, 3),
        ("x | round(-2)", 151, 200),
        ("x | round(40)", 1.5, 1.5),
        ("x | round", 10**40, 10**40),
        ("x | abs", "-5", 5),
        ("x | abs", "-5.5", 5.5),
        ("x | abs", -5, 5),
        ("x | length", "riya", 4),
        ("x | length", [1, 2], 2),
        ("x | length", {"a": 1}, 1),
        ("x | length", [], 0),
        ("x | first", ["a", "b"], "a"),
        ("x | last", ["a", "b"], "b"),
        ("x | first", "riya", "r"),
        ("x | join(', ')", ["a", 1, 2.0, True], "a, 1, 2, true"),
        ("x | join", ["a", "b"], "ab"),
    ],
)
def test_filter_comes_to(source: str, x: Any, value: Any) -> None:
    assert evaluate(source, x) == value


@pytest.mark.parametrize(
    ("source", "x"),
    [
        ("x | int", "abc"),
        ("x | int", "1,00"),
        ("x | int", True),
        ("x | float", "1e5"),
        ("x | float", [1]),
        ("x | number", "abc"),
        ("x | money", "abc"),
    ],
)
def test_what_is_no_number_is_missing(source: str, x: Any) -> None:
    assert evaluate(source, x) == Missing("x", "is not a number")
    assert evaluate(f"{source} | default('none')", x) == "none"


@pytest.mark.parametrize(
    "name", ["upper", "string", "int", "float", "round", "length", "first", "join", "number", "money", "date", "phone"]
)
def test_missing_value_goes_through_every_filter(name: str) -> None:
    assert evaluate(f"x | {name}") == Missing("x")
    assert evaluate(f"nobody | {name}") == Missing("nobody")
    assert evaluate(f"'' | {name} | default('there')") == "there"


@pytest.mark.parametrize(
    ("source", "x"), [("x | first", []), ("x | last", []), ("x | first", [None]), ("x | last", ["", " "])]
)
def test_there_may_be_no_first_or_last(source: str, x: Any) -> None:
    assert evaluate(source, x) == Missing("x")


@pytest.mark.parametrize(
    ("source", "x", "detail"),
    [
        ("x | upper", ["a"], "a list or an object is no text"),
        ("x | length", 5, None),
        ("x | abs", "abc", "this is not a number"),
        ("x | round", "abc", "this is not a number"),
        ("x | round(1, 'up')", 1, "round knows common, ceil and floor"),
        ("x | join", "abc", "join needs a list"),
        ("x | join", [["a"]], "a list or an object is no text"),
        ("x | first", {"a": 1}, "an object has no first or last"),
        ("x | replace('a', x)", "a" * 300, "replace would make the text too long"),
        ("x | join('" + "-" * 100 + "')", ["a"] * 700, "join would make the text too long"),
        ("x | join", ["a" * 700] * 100, "join would make the text too long"),
    ],
)
def test_filter_refuses_what_it_cannot_work_on(source: str, x: Any, detail: str | None) -> None:
    value = evaluate(source, x)
    if detail is not None:
        assert isinstance(value, Failed)
        assert detail in value.detail


@pytest.mark.parametrize(
    ("test", "x", "expected"),
    [
        ("string", "a", True),
        ("string", 1, False),
        ("number", 1.5, True),
        ("number", True, False),
        ("number", "1", False),
        ("integer", 1, True),
        ("integer", True, False),
        ("integer", 1.5, False),
        ("float", 1.5, True),
        ("float", 1, False),
        ("boolean", False, True),
        ("boolean", 0, False),
        ("mapping", {}, True),
        ("mapping", [], False),
        ("sequence", [], True),
        ("sequence", "a", False),
        ("true", True, True),
        ("true", 1, False),
        ("false", False, True),
        ("false", None, False),
        ("defined", None, False),
        ("undefined", None, True),
        ("none", 0, False),
        ("eq(1)", 1, True),
        ("eq 1", 2, False),
        ("equalto 1", 1, True),
        ("ne 1", 1, False),
        ("lt 2", 1, True),
        ("le 1", 1, True),
        ("gt 1", 1, False),
        ("ge 1", 1, True),
        ("greaterthan 0", 1, True),
        ("lessthan 0", 1, False),
        ("in ['a', 1]", 1, True),
        ("in 'abc'", "b", True),
        ("in 'abc'", "z", False),
    ],
)
def test_test_comes_to(test: str, x: Any, expected: bool) -> None:
    assert evaluate(f"x is {test}", x) is expected


def test_key_of_an_object_is_a_text() -> None:
    assert evaluate("'a' in x", {"a": 1}) is True
    assert evaluate("1 in x", {"a": 1}) is False
    assert evaluate("[1] in x", {"a": 1}) is False


# -- written for people ---------------------------------------------------------------------------


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
