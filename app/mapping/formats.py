"""The filters that write for people: numbers, money, dates, phones. Imported only when one is used: Babel is slow."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, parse_pattern, tokenize_pattern
from babel.numbers import format_currency, format_decimal, get_territory_currencies, is_currency

from app.mapping.filters import Absent, Filter, UnusableError, is_absent, pass_absent, to_text
from app.values.country import read_country
from app.values.instant import read_by_pattern, read_moment
from app.values.number import read_amount
from app.values.phone import PhoneFault, is_international, read_phone

_LENGTHS = ("short", "medium", "long", "full")
_MISTAKEN = {  # https://babel.pocoo.org/en/latest/dates.html#date-fields
    "Y": "`Y` is the year of the week; write `y`",
    "D": "`D` is the day of the year; write `d`",
}
_SAMPLE = datetime(2026, 12, 31, 18, 29, 59, tzinfo=ZoneInfo("UTC"))


def make_formats(country: str, timezone: str, locale: str, landlines: bool) -> dict[str, Filter]:
    """Return `number`, `money`, `date` and `phone` for a store."""
    place = Locale.parse(locale)
    return {
        "number": pass_absent(_make_number(place)),
        "money": pass_absent(_make_money(place, country)),
        "date": pass_absent(_make_date(place, timezone)),
        "phone": pass_absent(_make_phone(country, landlines)),
    }


def _make_number(locale: Locale) -> Filter:
    def number(value: Any) -> Any:
        exact = read_amount(value, str(locale))
        return Absent(why="is not a number") if exact is None else format_decimal(exact, locale=locale)

    return number


def _make_money(locale: Locale, country: str) -> Filter:
    """`event_currency` is put there by the compiler: the event's own `business_currency_code`."""
    usual = find_usual_currency(country)
    whole = locale.currency_formats["standard"].pattern.replace(".00", "")

    def money(value: Any, currency: Any = None, *, event_currency: Any = None) -> Any:
        exact = read_amount(value, str(locale))
        if exact is None:
            return Absent(why="is not a number")
        if currency is None:
            currency = usual if event_currency is None or isinstance(event_currency, Absent) else event_currency
        code = to_text(currency).strip().upper()
        if not is_currency(code):
            raise UnusableError("the currency is no ISO 4217 code such as INR")
        if exact == exact.to_integral_value():  # ₹200: nobody writes noughts on a round sum
            return format_currency(exact, code, format=whole, locale=locale, currency_digits=False)
        return format_currency(exact, code, locale=locale)

    return money


def find_usual_currency(country: str) -> str:
    """Return the ISO 4217 code of a country's money."""
    return next(iter(get_territory_currencies(country)), "")


def _make_date(locale: Locale, timezone: str) -> Filter:
    # The name is what a YAML author sees in an error about its arguments.
    def write_date(value: Any, format: str = "medium", from_: str | None = None) -> Any:  # noqa: A002 - as in the docs
        moment = read_moment(value, timezone) if from_ is None else read_by_pattern(to_text(value), from_, timezone)
        if moment is None:
            return Absent(why="is not a date")
        if format in _LENGTHS:
            return format_date(moment, format, locale=locale)
        try:
            return parse_pattern(format).apply(moment, locale)
        except AttributeError:
            raise UnusableError("this is a date without a time of day") from None

    return write_date


def _make_phone(store_country: str, landlines: bool) -> Filter:
    def phone(value: Any, country: Any = None) -> Any:
        named = store_country if is_absent(country) else read_country(country)
        if named is None and not is_international(value):
            return Absent(why="cannot be read, since its country is none")
        number = read_phone(value, named, landlines=landlines)
        return Absent(why=number.detail) if isinstance(number, PhoneFault) else number

    return phone


def find_pattern_fault(pattern: Any) -> str | None:
    """Return what is wrong with a pattern for `date`, None if nothing is."""
    if pattern in _LENGTHS:
        return None
    if not isinstance(pattern, str) or "%" in pattern:
        return 'a date is written with a pattern such as "d MMM y", or "short", "medium", "long", "full"'
    fields = [part[0] for kind, part in tokenize_pattern(pattern) if kind == "field"]
    for field in fields:
        if field in _MISTAKEN:
            return _MISTAKEN[field]
    letters = {field[0] for field in fields}
    has_hour = not letters.isdisjoint("hHkK")
    if "m" in letters and not has_hour:
        return "`m` is the minute; the month is `M`: dd/MM/y"
    if has_hour and "M" in letters and letters.isdisjoint("mdE"):
        return "`M` is the month; the minute is `m`: HH:mm"
    try:
        parse_pattern(pattern).apply(_SAMPLE, Locale("en"))
    except (ValueError, KeyError, AttributeError):
        return 'the date pattern holds an unknown letter; write for example "d MMM y"'
    return None if fields else 'the date pattern holds no field; write for example "d MMM y"'
