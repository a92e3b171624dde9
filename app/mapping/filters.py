"""The filters and tests of expressions.

Jinja's own names and meanings (https://jinja.palletsprojects.com/en/stable/templates/#builtin-filters), but each takes
only what it can really work on, and hands a missing value on so that a `default` at the end still sees it.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache, wraps
from typing import Any
from urllib.parse import quote

from babel import Locale
from jinja2.filters import do_title

from app.mapping.expression import LONGEST_TEXT, SHORT_TEXT, Absent, UnusableError, bound_value
from app.values.instant import read_by_pattern, read_moment
from app.values.phone import PhoneFault, is_international, read_country, read_phone
from app.values.text import (
    SentFloat,
    cut_letters,
    find_first_name,
    is_blank,
    is_missing,
    is_number,
    is_plain,
    read_amount,
    read_decimal,
    write_scalar,
)

Filter = Callable[..., Any]
DATE_LENGTHS = ("short", "medium", "long", "full")
_SHORT_AMOUNT = 24  # characters: no amount of a loyalty scheme has more
_ROUNDINGS = {"common": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}


def is_absent(value: Any) -> bool:
    """Tell whether `value` stands for nothing. What an event holds was looked at before; "-" may be a default."""
    if type(value) is str and is_plain(value):
        return False
    return isinstance(value, Absent) or is_blank(value)


def make_filters(country: str, timezone: str, locale: str, landlines: bool) -> dict[str, Filter]:
    """Return the filters of a store by name; `locale` tells how texts spell numbers, and how they are written."""
    store = _StoreFilters(country, timezone, locale, landlines)
    texts: dict[str, Filter] = {
        "upper": lambda text: text.upper(),
        "lower": lambda text: text.lower(),
        "title": do_title,
        "capitalize": lambda text: text.capitalize(),
        "trim": lambda text: text.strip(),
        "string": lambda text: text,
        "urlencode": lambda text: quote(text, safe=""),
        "replace": replace_text,
        "truncate": truncate_text,
        "first_name": find_first_name,
        "html_unescape": html.unescape,
    }
    others: dict[str, Filter] = {
        "round": store.round_number,
        "abs": lambda value: abs(store.to_number(value)),
        "length": lambda value: len(_to_sized(value)),
        "first": lambda value: _pick(value, 0),
        "last": lambda value: _pick(value, -1),
        "join": join_list,
        "money": store.write_money,
        "date": store.write_date,
        "phone": store.write_phone,
    }
    return {
        "default": replace_absent,
        "d": replace_absent,
        "int": store.read_int,
        "float": store.read_float,
        **{name: _pass_absent(work, to_text) for name, work in texts.items()},
        **{name: _pass_absent(work) for name, work in others.items()},
        "number": _remember(_pass_absent(store.write_number)),
    }


def _remember(work: Filter) -> Filter:
    """Return the filter such that it works a short text out once: the same amounts come, and Babel takes its time."""
    again = lru_cache(maxsize=1_024)(work)

    @wraps(work)
    def remembering(value: Any) -> Any:
        return again(value) if type(value) is str and len(value) <= _SHORT_AMOUNT else work(value)

    return remembering


def _pass_absent(work: Filter, read: Callable[[Any], Any] | None = None) -> Filter:
    """Return the filter such that a missing value goes through it untouched; `read` makes ready any other."""

    @wraps(work)
    def passing(value: Any, *args: Any, **kwargs: Any) -> Any:
        if is_absent(value):
            return value if isinstance(value, Absent) else Absent()
        result = work(value if read is None else read(value), *args, **kwargs)
        return result if type(result) is str and len(result) <= SHORT_TEXT else bound_value(result)

    return passing


def to_text(value: Any) -> str:
    """Return the text of a single value; a missing one or a list ends the expression."""
    if isinstance(value, Absent):
        str(value)
    text = write_scalar(value)
    if text is None:
        raise UnusableError("a list or an object is no text; use join, or name a key of it")
    return text


def join_texts(*items: Any) -> str:
    """`~`: the texts of single values, one behind the other."""
    return _join("`~`", "", items)


def _join(name: str, between: str, items: Sequence[Any]) -> str:
    texts = [to_text(item) for item in items]
    if sum(map(len, texts)) + len(texts) * len(between) > LONGEST_TEXT:
        raise UnusableError(f"{name} would make the text too long")
    return between.join(texts)


def replace_absent(value: Any, default_value: Any, boolean: Any = False) -> Any:
    """`default`: the other value where this one is missing; with `true` also where it is false, 0 or empty."""
    return default_value if is_absent(value) or (boolean and not value) else value


def replace_text(text: str, old: Any, new: Any, count: int | None = None) -> str:
    """`replace`: refuses what would grow beyond all measure."""
    before, after = to_text(old), to_text(new)
    if len(text) + text.count(before) * len(after) > LONGEST_TEXT:
        raise UnusableError("replace would make the text too long")
    return text.replace(before, after, -1 if count is None else count)


def truncate_text(text: str, length: int = 255, killwords: bool = False, end: str = "…") -> str:
    """`truncate`: at most `length` characters with the end; at a blank unless `killwords`."""
    if len(text) <= length:
        return text
    cut = cut_letters(text, length - len(end))
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


def join_list(value: Any, separator: Any = "") -> str:
    """`join`: a list of single values as one text."""
    if not isinstance(value, list | tuple):
        raise UnusableError("join needs a list")
    return _join("join", to_text(separator), value)


def _to_sized(value: Any) -> Any:
    return value if isinstance(value, list | tuple | Mapping) else to_text(value)


def _pick(value: Any, index: int) -> Any:
    if isinstance(value, Mapping):
        raise UnusableError("an object has no first or last; name a key of it")
    items = _to_sized(value)
    return items[index] if items and not is_missing(items[index]) else Absent()


class _StoreFilters:
    """The filters that depend on the store. Their arguments are called as a YAML author reads of them in an error."""

    def __init__(self, country: str, timezone: str, locale: str, landlines: bool) -> None:
        self._country, self._timezone, self._landlines = country, timezone, landlines
        self._spelling, self._locale = locale, Locale.parse(locale)  # Babel reads its data when a text is written

    def read_int(self, value: Any, default: Any = None) -> Any:
        """`int`: the whole number; missing (or `default`) where the text is none."""
        return self._read(value, default, int)

    def read_float(self, value: Any, default: Any = None) -> Any:
        """`float`: the number, which shows as it was sent or, once grouped, plain."""
        return self._read(value, default, lambda exact: value if isinstance(value, float) else SentFloat(f"{exact:f}"))

    def _read(self, value: Any, default: Any, convert: Callable[[Decimal], Any]) -> Any:
        exact = None if is_absent(value) else read_amount(value, self._spelling)
        if exact is not None:
            return convert(exact)
        if default is not None:
            return default
        return value if isinstance(value, Absent) else Absent(why="is not a number")

    def to_number(self, value: Any) -> Any:
        """Return a number for a number or a text that spells one."""
        if is_number(value):
            return value
        exact = read_amount(value, self._spelling)
        if exact is None:
            raise UnusableError("this is not a number")
        return int(exact) if exact == int(exact) else float(exact)

    def round_number(self, value: Any, precision: int = 0, method: str = "common") -> Any:
        """`round`: half up on the exact number; whole where no places are asked for."""
        number = self.to_number(value)
        if method not in _ROUNDINGS:
            raise UnusableError("round knows common, ceil and floor")
        try:
            rounded = Decimal(str(read_decimal(number))).quantize(Decimal(1).scaleb(-precision), _ROUNDINGS[method])
        except InvalidOperation:  # more digits than Decimal's 28: nothing to round away
            return number
        return float(rounded) if precision > 0 else int(rounded)

    def write_number(self, value: Any) -> Any:
        """`number`: grouped as in the locale."""
        from babel.numbers import format_decimal  # noqa: PLC0415 - of use for the few texts with amounts

        exact = read_amount(value, self._spelling)
        return Absent(why="is not a number") if exact is None else format_decimal(exact, locale=self._locale)

    def write_money(self, value: Any, currency: Any = None, *, event_currency: Any = None) -> Any:
        """`money`: the compiler puts `event_currency` there, the event's own `business_currency_code`."""
        from babel.numbers import format_currency, is_currency  # noqa: PLC0415 - as above

        exact = read_amount(value, self._spelling)
        if exact is None:
            return Absent(why="is not a number")
        if currency is None:
            is_named = event_currency is not None and not isinstance(event_currency, Absent)
            currency = event_currency if is_named else find_usual_currency(self._country)
        code = to_text(currency).strip().upper()
        if not is_currency(code):
            raise UnusableError("the currency is no ISO 4217 code such as INR")
        if exact == exact.to_integral_value():  # ₹200: nobody writes noughts on a round sum
            whole = self._locale.currency_formats["standard"].pattern.replace(".00", "")
            return format_currency(exact, code, format=whole, locale=self._locale, currency_digits=False)
        return format_currency(exact, code, locale=self._locale)

    def write_date(self, value: Any, format: str = "medium", from_: str | None = None) -> Any:  # noqa: A002
        """`date`: by one of Babel's lengths or a pattern."""
        from babel.dates import format_date, parse_pattern  # noqa: PLC0415 - of use for the few texts with dates

        zone = self._timezone
        moment = read_moment(value, zone) if from_ is None else read_by_pattern(to_text(value), from_, zone)
        if moment is None:
            return Absent(why="is not a date")
        if format in DATE_LENGTHS:
            return format_date(moment, format, locale=self._locale)
        try:
            return parse_pattern(format).apply(moment, self._locale)
        except AttributeError:
            raise UnusableError("this is a date without a time of day") from None

    def write_phone(self, value: Any, country: Any = None) -> Any:
        """`phone`: in E.164, read in the store's country where none is named."""
        named = self._country if is_absent(country) else read_country(country)
        if named is None and not is_international(value):
            return Absent(why="cannot be read, since its country is none")
        number = read_phone(value, named, landlines=self._landlines)
        return Absent(why=number.detail) if isinstance(number, PhoneFault) else number


def is_in(value: Any, container: Any) -> bool:
    """`in`: part of a text, item of a list or key of an object."""
    if isinstance(value, Absent):
        str(value)
    if isinstance(container, str) and not isinstance(value, str):
        raise UnusableError("only a text can be in a text")
    if isinstance(container, Mapping) and not isinstance(value, str):
        return False
    if not isinstance(container, str | list | tuple | Mapping | Absent):
        raise UnusableError("`in` needs a text or a list on its right")
    return value in container


_COMPARED: Mapping[str, Filter] = {
    "eq": lambda value, other: value == other,
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "le": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "ge": lambda value, other: value >= other,
}
TESTS: Mapping[str, Filter] = {
    "defined": lambda value: not is_absent(value),
    "undefined": is_absent,
    "none": is_absent,
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "integer": lambda value: is_number(value) and isinstance(value, int),
    "float": lambda value: isinstance(value, float),
    "boolean": lambda value: isinstance(value, bool),
    "mapping": lambda value: isinstance(value, Mapping),
    "sequence": lambda value: isinstance(value, list | tuple),
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "in": is_in,
    "equalto": _COMPARED["eq"],
    "lessthan": _COMPARED["lt"],
    "greaterthan": _COMPARED["gt"],
    **_COMPARED,
}
"""What may follow `is`, by name. `none` is true of anything missing."""


def find_usual_currency(country: str) -> str:
    """Return the ISO 4217 code of a country's money."""
    from babel.numbers import get_territory_currencies  # noqa: PLC0415 - as above

    return next(iter(get_territory_currencies(country)), "")
