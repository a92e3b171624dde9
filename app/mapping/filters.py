"""The filters and tests of expressions that need no locale.

Jinja's own names and meanings (https://jinja.palletsprojects.com/en/stable/templates/#builtin-filters), but each takes
only what it can really work on, and hands a missing value on so that a `default` at the end still sees it.
"""

from __future__ import annotations

import html
import operator
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import wraps
from typing import Any, NoReturn
from urllib.parse import quote

from jinja2.filters import do_title

from app.values.number import SentFloat, is_number, read_amount, read_decimal
from app.values.text import cut_letters, find_first_name, is_blank, is_missing, write_scalar

Filter = Callable[..., Any]
_LONGEST_TEXT = 65_536  # as long as a whole event may be
_ROUNDINGS = {"common": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}


class AbsentValueError(Exception):
    """An expression used a value that is not there."""

    def __init__(self, absent: Absent) -> None:
        super().__init__(absent.name)
        self.absent = absent


class UnusableError(Exception):
    """A filter or operator cannot work on what it was given; the text names no value."""


class Absent:
    """A missing value, which only `default` and `is defined` take. `name` is its dotted path, "" behind a filter."""

    __slots__ = ("name", "why")

    def __init__(self, name: str = "", why: str = "is missing") -> None:
        self.name = name
        self.why = why

    def _refuse(self, *_: Any) -> NoReturn:
        raise AbsentValueError(self)

    __bool__ = __str__ = __len__ = __iter__ = __contains__ = __hash__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __neg__ = __pos__ = _refuse


def is_absent(value: Any) -> bool:
    """Tell whether `value` stands for nothing. What an event holds was looked at before; "-" may be a default."""
    return isinstance(value, Absent) or is_blank(value)


def make_filters(locale: str) -> dict[str, Filter]:
    """Return the filters by name; `locale` tells how texts spell numbers."""
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
    others = {
        "round": _make_round(locale),
        "abs": lambda value: abs(_to_number(value, locale)),
        "length": lambda value: len(_to_sized(value)),
        "first": lambda value: _pick(value, 0),
        "last": lambda value: _pick(value, -1),
        "join": join_list,
    }
    return {
        "default": replace_absent,
        "d": replace_absent,
        "int": _make_reading(locale, lambda _, number: int(number)),
        "float": _make_reading(locale, _to_float),
        **{name: pass_absent(_on_text(work)) for name, work in texts.items()},
        **{name: pass_absent(work) for name, work in others.items()},
    }


def pass_absent(work: Filter) -> Filter:
    """Return the filter such that a missing value goes through it untouched."""

    @wraps(work)
    def passing(value: Any, *args: Any, **kwargs: Any) -> Any:
        if is_absent(value):
            return value if isinstance(value, Absent) else Absent()
        return work(value, *args, **kwargs)

    return passing


def _on_text(work: Filter) -> Filter:
    @wraps(work)
    def on_text(value: Any, *args: Any, **kwargs: Any) -> Any:
        return work(to_text(value), *args, **kwargs)

    return on_text


def to_text(value: Any) -> str:
    """Return the text of a single value; a missing one or a list ends the expression."""
    if isinstance(value, Absent):
        str(value)
    text = write_scalar(value)
    if text is None:
        raise UnusableError("a list or an object is no text; use join, or name a key of it")
    return text


def replace_absent(value: Any, default_value: Any, boolean: Any = False) -> Any:
    """`default`: the other value where this one is missing; with `true` also where it is false, 0 or empty."""
    return default_value if is_absent(value) or (boolean and not value) else value


def _make_reading(locale: str, convert: Callable[[Any, Decimal], Any]) -> Filter:
    """Return `int` or `float`: the converted number; missing (or `default`) where the text is none."""

    def read(value: Any, default: Any = None) -> Any:
        number = None if is_absent(value) else read_amount(value, locale)
        if number is not None:
            return convert(value, number)
        if default is not None:
            return default
        return value if isinstance(value, Absent) else Absent(why="is not a number")

    return read


def _to_float(value: Any, number: Decimal) -> float:
    """Return the number, which shows as it was sent or, once grouped, plain."""
    return value if isinstance(value, float) else SentFloat(f"{number:f}")


def _make_round(locale: str) -> Filter:
    def round_number(value: Any, precision: int = 0, method: str = "common") -> Any:
        """`round`: half up on the exact number; whole where no places are asked for."""
        number = _to_number(value, locale)
        if method not in _ROUNDINGS:
            raise UnusableError("round knows common, ceil and floor")
        try:
            rounded = Decimal(str(read_decimal(number))).quantize(Decimal(1).scaleb(-precision), _ROUNDINGS[method])
        except InvalidOperation:  # more digits than Decimal's 28: nothing to round away
            return number
        return float(rounded) if precision > 0 else int(rounded)

    return round_number


def replace_text(text: str, old: Any, new: Any, count: int | None = None) -> str:
    """`replace`: refuses what would grow beyond all measure."""
    before, after = to_text(old), to_text(new)
    if len(text) + text.count(before) * len(after) > _LONGEST_TEXT:
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
    between = to_text(separator)
    texts = [to_text(item) for item in value]
    if sum(len(text) for text in texts) + len(texts) * len(between) > _LONGEST_TEXT:
        raise UnusableError("join would make the text too long")
    return between.join(texts)


def _to_number(value: Any, locale: str) -> Any:
    """Return a number for a number or a text that spells one."""
    if is_number(value):
        return value
    number = read_amount(value, locale)
    if number is None:
        raise UnusableError("this is not a number")
    return int(number) if number == int(number) else float(number)


def _to_sized(value: Any) -> Any:
    if isinstance(value, list | tuple | Mapping):
        return value
    return to_text(value)


def _pick(value: Any, index: int) -> Any:
    if isinstance(value, Mapping):
        raise UnusableError("an object has no first or last; name a key of it")
    items = _to_sized(value)
    return items[index] if items and not is_missing(items[index]) else Absent()


def make_tests() -> dict[str, Filter]:
    """Return what may follow `is`, by name. `none` is true of anything missing."""
    compared = {name: _make_comparison(getattr(operator, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
    aliases = {"equalto": compared["eq"], "lessthan": compared["lt"], "greaterthan": compared["gt"]}
    tests: dict[str, Filter] = {
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
    }
    return tests | compared | aliases


def _make_comparison(compare: Callable[[Any, Any], bool]) -> Filter:
    """Give the built-in a signature by which the grammar can count arguments."""

    def comparison(value: Any, other: Any) -> bool:
        return compare(value, other)

    return comparison


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
