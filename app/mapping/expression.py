"""The one expression language of the YAML: Jinja2 expressions over an event's own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Template, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.mapping.filters import Absent, AbsentValueError, Filter, UnusableError, make_filters, make_tests, to_text
from app.mapping.grammar import TEXT_FILTER, ExpressionError, Parsed, parse_expression
from app.values.instant import find_input_fault
from app.values.number import is_number
from app.values.path import Path, look_into, look_up, write_path
from app.values.text import is_blank

_RESULT = "result"
_FORMATS = ("number", "money", "date", "phone")


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Expression:
    """A compiled expression. `names` are the dotted paths it reads; a constant reads none. `paths`: in their order.

    `preferred` are those of them for which a `default(…)` stands in where they are missing.
    """

    source: str
    names: frozenset[str]
    work: Work
    preferred: frozenset[str] = frozenset()
    paths: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    @property
    def is_constant(self) -> bool:
        """Tell whether it reads nothing of the event."""
        return not self.names

    def evaluate(self, payload: Mapping[str, Any]) -> Any | Missing | Failed:
        """Return the value for this payload. Never raises."""
        try:
            value = self.work(payload)
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


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja without globals, in which `.` and `[]` find keys and indexes only."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self, locale: str) -> None:
        super().__init__(optimized=False)  # folding constants at compile time would run filters on them
        self.globals.clear()
        self.filters: dict[str, Filter] = make_filters(locale) | {TEXT_FILTER: to_text}
        self.tests: dict[str, Filter] = make_tests()  # type: ignore[assignment]  # Jinja types them as functions only

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Absent):
            return obj
        found = look_into(obj, argument)
        return Absent() if found is None else found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Work out a + b and its like: numbers only, so that "x" * 10**9 and "%999999999d" % 1 cannot be."""
        for side in (left, right):
            if isinstance(side, Absent):
                raise AbsentValueError(side)
            if not is_number(side):
                raise UnusableError(f"`{operator}` needs numbers; use `| float` for a text, `~` to join texts")
        return super().call_binop(context, operator, left, right)


class ExpressionCompiler:
    """Compiles expressions for one store (its country, timezone and locale shape the filters)."""

    def __init__(self, country: str, timezone: str, locale: str, landlines: bool = False) -> None:
        """Take ISO 3166 alpha-2, an IANA zone and a locale such as en_IN; a wrong one shows at the first use."""
        self._environment = _Environment(locale)
        self._store = (country, timezone, locale, landlines)
        self._environment.filters |= dict.fromkeys(_FORMATS, str)  # known by name until the first use loads them

    def compile(self, source: str) -> Expression:
        """Return the compiled expression; raises ExpressionError."""
        try:
            parsed = parse_expression(source, self._environment, self._prepare_filter)
            work = _follow_path(parsed.path) if parsed.path is not None else _compile_work(parsed, self._environment)
        except (RecursionError, MemoryError, SyntaxError):  # what Python says of a thousand operators in a row
            raise ExpressionError("the expression is nested too deeply") from None
        return Expression(source, frozenset(parsed.names), work, parsed.preferred, tuple(parsed.slots))

    def _prepare_filter(self, node: nodes.Filter) -> None:
        """Load Babel when the first expression wants it, and read a date's pattern before a customer's date does."""
        if node.name not in _FORMATS:
            return
        from app.mapping.formats import find_pattern_fault, make_formats  # noqa: PLC0415 - many files need no Babel

        if self._environment.filters[node.name] is str:
            self._environment.filters |= make_formats(*self._store)
        for keyword in node.kwargs:
            if keyword.key == "from":  # a word that no Python parameter can have
                keyword.key = "from_"  # type: ignore[assignment]  # Jinja types it as Pair
        given: list[tuple[str, nodes.Expr]] = [*zip(("format", "from_"), node.args, strict=False)]
        for name, pattern in (*given, *((keyword.key, keyword.value) for keyword in node.kwargs)):
            if node.name == "date" and isinstance(pattern, nodes.Const):
                find_fault = find_input_fault if name == "from_" else find_pattern_fault
                if (fault := find_fault(pattern.value)) is not None:
                    raise ExpressionError(fault)


def _follow_path(path: Path) -> Work:
    """Return the work of an expression that is only a path: Jinja's machinery would cost ten times as much."""
    absent = Absent(write_path(path))

    def work(payload: Mapping[str, Any]) -> Any:
        value = look_up(payload, path)
        return absent if value is None else value

    return work


def _compile_work(parsed: Parsed, environment: _Environment) -> Work:
    """Return the work of a checked expression: look every path up, then run Jinja's compiled code on them."""
    body = nodes.Assign(nodes.Name(_RESULT, "store"), parsed.node, lineno=1)
    body.set_environment(environment)
    template: Template = environment.from_string(nodes.Template([body], lineno=1))
    slots = [(name, path, Absent(write_path(path))) for path, name in parsed.slots.items()]
    run = template.root_render_func

    def work(payload: Mapping[str, Any]) -> Any:
        values: dict[str, Any] = {}
        for name, path, absent in slots:
            value = look_up(payload, path)
            values[name] = absent if value is None else value
        context = template.new_context(values, shared=True)
        list(run(context))  # it yields nothing, and leaves its result in the context
        return context.vars[_RESULT]

    return work
