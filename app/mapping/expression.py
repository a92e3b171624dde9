"""The one expression language of the YAML: an expression is worked out for an event, without its compiler at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from app.model.value import dataclass
from app.values.text import VALUE_LIMIT, Path, is_blank, is_missing, is_plain, look_up, write_path


class AbsentValueError(Exception):
    """An expression used a value that is not there."""

    def __init__(self, absent: Absent) -> None:
        super().__init__(absent.name)
        self.absent = absent


class UnusableError(Exception):
    """A filter or operator cannot work on what it was given; the text names no value."""


LONGEST_TEXT = 65_536  # as long as a whole event may be
MOST_BITS = 1_024  # of a whole number: as large as a float may be
MOST_WORK = 8 * LONGEST_TEXT  # characters of long texts that one evaluation may go over
_LONG_NUMBER = 10**18  # that and longer ones are looked at more closely
SHORT_TEXT = 4_096  # what is no longer is not worth counting
_WORK: ContextVar[int] = ContextVar("work", default=0)


def bound_value(value: Any) -> Any:
    """Return what a part of an expression comes to, unless it is too long, too large, or took too much work.

    Of texts only those above SHORT_TEXT come here: the callers see to it.
    """
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise UnusableError(f"it comes to a text longer than {LONGEST_TEXT:,} characters")
        _WORK.set(_WORK.get() + len(value))
        if _WORK.get() > MOST_WORK:
            raise UnusableError("it goes over long texts too often; use fewer filters, or truncate first")
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise UnusableError("it comes to a number of more than 300 digits")
    return value


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


@dataclass(frozen=True, slots=True)
class Missing:
    """The expression came to nothing. `why` is another than "is missing" where something unreadable stands there."""

    name: str  # what was read, e.g. "customer.mobile"
    why: str = "is missing"

    @property
    def unreadable(self) -> bool:
        """Tell whether something stands there after all."""
        return self.why != "is missing"

    def __str__(self) -> str:
        return f"(`{self.name}`) {self.why}"


@dataclass(frozen=True, slots=True)
class Failed:
    """The expression could not be worked out; `detail` names fields and filters, never values."""

    detail: str


Work = Callable[[Mapping[str, Any]], Any]


def follow_path(path: Path) -> Work:
    """Return the work of an expression that is only a path: Jinja's machinery would cost ten times as much."""
    absent, key = Absent(write_path(path)), path[0]

    def work(payload: Mapping[str, Any]) -> Any:
        value = look_up(payload, path)
        return absent if value is None else value

    def work_flat(payload: Mapping[str, Any]) -> Any:
        value = payload.get(key)  # type: ignore[arg-type]  # a text
        if type(value) is str and is_plain(value):  # as most are
            return value
        return absent if value is None or is_missing(value) else value

    return work_flat if len(path) == 1 and type(key) is str else work


def apply(run: Callable[..., Any], *parts: Work) -> Work:
    """Return the work of a function of what its parts come to."""
    return lambda payload: run(*[part(payload) for part in parts])


def call(run: Callable[..., Any], value: Work, named: Mapping[str, Work]) -> Work:
    """Return the work of a filter or test, of which most have constant arguments only."""
    if not named:
        return lambda payload: run(value(payload))
    return lambda payload: run(value(payload), **{name: each(payload) for name, each in named.items()})


def choose(test: Work, first: Work | None, other: Work | None) -> Work:
    """Return the work of one of two, by what a test comes to; None: that itself is what comes of it."""

    def work(payload: Mapping[str, Any]) -> Any:
        found = test(payload)
        chosen = first if found else other
        return found if chosen is None else chosen(payload)

    return work


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Expression:
    """A compiled expression. `names` are the dotted paths it reads; a constant reads none. `paths`: in their order.

    `preferred` are those of them for which a `default(…)` stands in where they are missing. `key`: of an event, whose
    value this is wherever it is a plain text; None where more is done than to look it up.
    """

    source: str
    names: frozenset[str]
    work: Work
    preferred: frozenset[str] = frozenset()
    paths: tuple[Path, ...] = ()
    key: str | None = None

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def glance(self, payload: Mapping[str, Any]) -> str:
        """Return the text to be shown where a look is enough, as it mostly is; "" where `evaluate` has to tell."""
        if self.key is None:
            return ""
        value = payload.get(self.key)
        if type(value) is int:
            return str(value) if abs(value) < _LONG_NUMBER else ""
        return value if type(value) is str and len(value) <= VALUE_LIMIT and is_plain(value) else ""

    def evaluate(self, payload: Mapping[str, Any]) -> Any | Missing | Failed:
        """Return the value for this payload. Never raises."""
        _WORK.set(0)
        try:
            value = self.work(payload)
            if type(value) is not str or len(value) > SHORT_TEXT:
                bound_value(value)
            elif is_plain(value):  # as most are
                return value
        except AbsentValueError as error:
            return self._miss(error.absent)
        except UnusableError as error:
            return self._fail(str(error))
        except TypeError:
            return self._fail("it mixes text with numbers (or with a list); turn text into a number with `| float`")
        except ZeroDivisionError:
            return self._fail("it divides by zero")
        except Exception as error:  # noqa: BLE001 - whatever a payload brings, the event must end as a visible delivery
            return self._fail(f"it could not be worked out ({type(error).__name__})")
        if isinstance(value, Absent):
            return self._miss(value)
        return Missing(self._list_names()) if is_blank(value) else value

    def _miss(self, absent: Absent) -> Missing:
        return Missing(absent.name or self._list_names(), absent.why)

    def _fail(self, why: str) -> Failed:
        return Failed(f"`{self.source}`: {why}")

    def _list_names(self) -> str:
        return ", ".join(sorted(self.names)) or self.source
