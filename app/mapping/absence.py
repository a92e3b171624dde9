"""The value that is not there, inside an expression: it may be asked after and replaced, but not used."""

from __future__ import annotations

from typing import Any, NoReturn

from app.values.text import is_blank


class AbsentValueError(Exception):
    """An expression used a value that is not there."""

    def __init__(self, absent: Absent) -> None:
        super().__init__(absent.name)
        self.absent = absent


class UnusableError(Exception):
    """A filter or operator cannot work on what it was given; the text names no value."""


class Absent:
    """A missing value. Only `default` and `is defined` take it; anything else ends the expression.

    `name` is the dotted path, "" where it came out of a filter; `why`: "is missing" or e.g. "is not a date".
    """

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
