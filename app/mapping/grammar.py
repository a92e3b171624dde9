"""An expression is Jinja2's syntax without calls, powers and everything of Python's.

Jinja parses it, and each node becomes a function of the event: what is not in the table below cannot be said. No code
is made of it, so that it can reach no attribute, no name of Jinja's own (`self`, `loop`), nor grow beyond measure.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from app.mapping import ask_similar
from app.mapping.expression import (
    Absent,
    AbsentValueError,
    Expression,
    UnusableError,
    Work,
    apply,
    bound_value,
    call,
    choose,
    follow_path,
)
from app.mapping.filters import TESTS, Filter, is_in, join_texts, make_filters
from app.mapping.mistakes import explain_syntax, find_bare_pattern, find_hyphen, find_pattern_fault
from app.values.instant import find_input_fault
from app.values.text import Path, is_number, look_into, write_path

_LONGEST_SOURCE = 2000
_DEEPEST = 200  # nodes inside each other: each is a call of Python's when the expression is worked out
_TOO_DEEP = "the expression is nested too deeply"
_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Call: "calls are not possible here; use a filter such as `user_name | upper`",
    nodes.Pow: "powers are not possible here",
    nodes.Slice: "slices are not possible here; use a filter such as `truncate(20)`",
    nodes.Dict: "{…} is not possible here; use `… if … else …`",
}
# A date's patterns are read before a customer's date is.
_PATTERNS = {("date", "format"): find_pattern_fault, ("date", "from_"): find_input_fault}
_OWN_NAMES = {("date", "from"): "from_"}  # a word that no Python parameter can have
OWN_ARGUMENT = "event_currency"  # given to `money` by _make_call
_CURRENCY_PATH: Path = ("business_currency_code",)
# Words of other languages (Liquid, Django, PHP), for filters of ours that are spelt quite differently.
_MEANT: Mapping[str, str] = {
    **dict.fromkeys(("currency", "format_currency", "money_with_currency", "price"), "money"),
    **dict.fromkeys(("strftime", "dateformat", "format_date", "datetime", "time"), "date"),
    **dict.fromkeys(("intcomma", "format_number", "number_with_delimiter", "comma"), "number"),
    **dict.fromkeys(("upcase", "uppercase", "toupper"), "upper"),
    **dict.fromkeys(("downcase", "lowercase", "tolower"), "lower"),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), "trim"),
    **dict.fromkeys(("size", "count", "len"), "length"),
    **dict.fromkeys(("tonumber", "parsefloat", "to_f", "decimal"), "float"),
    **dict.fromkeys(("parseint", "to_i", "integer"), "int"),
    **dict.fromkeys(("ifempty", "fallback", "coalesce", "default_if_none"), "default"),
    **dict.fromkeys(("titlecase", "capfirst", "ucfirst"), "title"),
    **dict.fromkeys(("slice", "substring", "left"), "truncate"),
}


class ExpressionError(ValueError):
    """An expression that cannot be compiled; the text says why and, where it can, what was meant."""


class ExpressionCompiler:
    """Compiles expressions for one store (its country, timezone and locale shape the filters)."""

    def __init__(self, country: str, timezone: str, locale: str, landlines: bool = False) -> None:
        """Take ISO 3166 alpha-2, an IANA zone and a locale such as en_IN."""
        self.filters = make_filters(country, timezone, locale, landlines)
        self._syntax = SandboxedEnvironment()

    def compile(self, source: str) -> Expression:
        """Return the compiled expression; raises ExpressionError."""
        if len(source) > _LONGEST_SOURCE:
            raise ExpressionError(f"the expression is longer than {_LONGEST_SOURCE} characters")
        if not source.strip():
            raise ExpressionError("the expression is empty")
        try:
            node = _parse_source(source, self._syntax)
            maker = _Maker(self.filters, [], [], [])
            work = maker.make(node)
        except RecursionError:
            raise ExpressionError(_TOO_DEEP) from None
        preferred = frozenset(write_path(path) for paths in maker.preferred for path in paths)
        paths = tuple(dict.fromkeys((*maker.written, *maker.others)))
        return Expression(source, frozenset(map(write_path, maker.written)), work, preferred, paths, _find_key(node))


def _parse_source(source: str, syntax: Environment) -> nodes.Expr:
    if (fault := find_bare_pattern(source)) is not None:
        raise ExpressionError(fault)
    try:
        parser = Parser(syntax, source, state="variable")
        node = parser.parse_expression()
        if not parser.stream.eos:
            said = f"the expression should end before `{parser.stream.current.value}`"
            raise ExpressionError(explain_syntax(source, said))
    except TemplateSyntaxError as error:
        raise ExpressionError(explain_syntax(source, f"it cannot be read as an expression: {error.message}")) from None
    if (fault := find_hyphen(source)) is not None:
        raise ExpressionError(fault)
    return node


class _Maker(NamedTuple):
    """Makes the work of one expression's nodes, and gathers what they read."""

    filters: Mapping[str, Filter]
    written: list[Path]  # paths, as often as they are
    others: list[Path]  # and those that are not
    preferred: list[Sequence[Path]]  # what stands before the first `default` of each chain: if missing, that shows

    def make(self, node: nodes.Node, depth: int = 0) -> Work:
        """Return how a node is worked out for an event; raises ExpressionError."""
        path = _read_path(node)
        if path is not None:
            self.written.append(path)
            return follow_path(path)
        if depth > _DEEPEST:
            raise ExpressionError(_TOO_DEEP)
        _check_node(node)
        make = partial(self.make, depth=depth + 1)
        if isinstance(node, nodes.Filter | nodes.Test):
            return self._make_call(node, make)
        return _PARTS[type(node)](node, make)

    def _make_call(self, node: nodes.Filter | nodes.Test, make: Callable[..., Work]) -> Work:
        known = self.filters if isinstance(node, nodes.Filter) else TESTS
        arguments, begin, defaults = _bind_arguments(node, known), len(self.written), len(self.preferred)
        value = make(node.node)
        if node.name == "default" and len(self.preferred) == defaults:
            self.preferred.append(self.written[begin:])
        constants = {name: each.value for name, each in arguments.items() if isinstance(each, nodes.Const)}
        others = {name: make(each) for name, each in arguments.items() if name not in constants}
        if node.name == "money":
            self.others.append(_CURRENCY_PATH)
            others[OWN_ARGUMENT] = follow_path(_CURRENCY_PATH)
        return call(partial(known[node.name], **constants) if constants else known[node.name], value, others)


# -- what an expression may be made of ---------------------------------------------------------------


def _step_into(value: Any, key: Any) -> Any:
    """Return what `.` and `[]` find: keys and indexes only."""
    if isinstance(value, Absent):
        return value
    found = look_into(value, key)
    return Absent() if found is None else found


def _calculate(node: nodes.BinExpr, make: Callable[..., Work]) -> Work:
    """Make a + b and its like: numbers only, so that "x" * 10**9 and "%999999999d" % 1 cannot be."""
    sign = node.operator

    def run(*sides: Any) -> Any:
        for side in sides:
            if isinstance(side, Absent):
                raise AbsentValueError(side)
            if not is_number(side):
                raise UnusableError(f"`{sign}` needs numbers; use `| float` for a text, `~` to join texts")
        return bound_value(SandboxedEnvironment.default_binop_table[sign](*sides))

    return apply(run, make(node.left), make(node.right))


_COMPARISONS: Mapping[str, Callable[..., Any]] = {
    **TESTS,
    "lteq": operator.le,
    "gteq": operator.ge,
    "notin": lambda value, container: not is_in(value, container),
}
_PARTS: Mapping[type[nodes.Node], Callable[[Any, Callable[..., Work]], Work]] = {
    nodes.Const: lambda node, _: apply(lambda: node.value),
    nodes.List: lambda node, make: apply(lambda *items: [*items], *map(make, node.items)),
    nodes.Tuple: lambda node, make: apply(lambda *items: items, *map(make, node.items)),
    nodes.Getattr: lambda node, make: apply(_step_into, make(node.node), apply(lambda: node.attr)),
    nodes.Getitem: lambda node, make: apply(_step_into, make(node.node), make(node.arg)),
    nodes.Not: lambda node, make: apply(operator.not_, make(node.node)),
    nodes.Neg: lambda node, make: apply(operator.neg, make(node.node)),
    nodes.Pos: lambda node, make: apply(operator.pos, make(node.node)),
    nodes.And: lambda node, make: choose(make(node.left), make(node.right), None),
    nodes.Or: lambda node, make: choose(make(node.left), None, make(node.right)),
    nodes.CondExpr: lambda node, make: choose(make(node.test), make(node.expr1), make(node.expr2)),
    nodes.Compare: lambda node, make: apply(_COMPARISONS[node.ops[0].op], make(node.expr), make(node.ops[0].expr)),
    nodes.Concat: lambda node, make: apply(join_texts, *map(make, node.nodes)),
    **dict.fromkeys((nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod), _calculate),
}


def _check_node(node: nodes.Node) -> None:
    if type(node) not in {*_PARTS, nodes.Filter, nodes.Test}:
        raise ExpressionError(_REFUSED.get(type(node), f"{type(node).__name__} is not possible here"))
    if isinstance(node, nodes.Const) and node.value == math.inf:
        raise ExpressionError("a number in the expression is too large")
    if isinstance(node, nodes.CondExpr) and node.expr2 is None:
        raise ExpressionError("an `if` needs its `else` here: `a if b else c`")
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Tuple | nodes.List):
        raise ExpressionError("one key or index at a time: write a[0][1]")
    if isinstance(node, nodes.Compare) and len(node.ops) > 1:
        raise ExpressionError("one comparison at a time: write `a < b and b < c`")
    if isinstance(node, nodes.Or) and isinstance(node.right, nodes.Const) and isinstance(node.right.value, str):
        raise ExpressionError('`or` does not fill what is missing; write user_name | default("there")')


def _bind_arguments(node: nodes.Filter | nodes.Test, known: Mapping[str, Filter]) -> Mapping[str, nodes.Expr]:
    """Return the arguments by name; raises ExpressionError for a name or an argument that is not known."""
    kind = type(node).__name__.lower()
    if node.name not in known:
        meant = _MEANT.get(node.name.lower(), node.name) if kind == "filter" else node.name
        hint = ask_similar(meant, sorted(known), f"there are {', '.join(sorted(known))}", quote="`")
        raise ExpressionError(f"there is no {kind} `{node.name}`; {hint}")
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ExpressionError("* and ** are not possible here")
    named = {_OWN_NAMES.get((node.name, str(item.key)), str(item.key)): item.value for item in node.kwargs}
    signature = inspect.signature(known[node.name])
    try:
        bound = signature.bind(None, *node.args, **named)
    except TypeError:
        bound = None
    if bound is None or OWN_ARGUMENT in named:
        raise ExpressionError(f"the {kind} `{node.name}` does not take these arguments; {_show_use(node, signature)}")
    _, *parameters = signature.parameters.values()
    arguments = {each.name: bound.arguments[each.name] for each in parameters if each.name in bound.arguments}
    for each in parameters:
        if isinstance(given := arguments.get(each.name), nodes.Const):
            if each.annotation in {"int", "int | None"} and not isinstance(given.value, int):
                raise ExpressionError(f"the {kind} `{node.name}` takes a whole number as its {each.name}")
            if fault := _PATTERNS.get((node.name, each.name), lambda _: None)(given.value):
                raise ExpressionError(fault)
    return arguments


def _show_use(node: nodes.Filter | nodes.Test, signature: inspect.Signature) -> str:
    """Return `write replace(old, new[, count])`: in square brackets what may be left out."""
    if node.name == "default":
        return 'write default("there")'
    _, *parameters = (each for each in signature.parameters.values() if each.name != OWN_ARGUMENT)
    required = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    optional = [each.name for each in parameters if each.default is not inspect.Parameter.empty]
    if not parameters:
        return "it takes none"
    more = f"[{', ' if required else ''}{', '.join(optional)}]" if optional else ""
    return f"write {node.name}({', '.join(required)}{more})"


def _find_key(node: nodes.Node | None) -> str | None:
    """Return the key of an event that is all an expression reads, with nothing behind it but constant defaults."""
    while isinstance(node, nodes.Filter) and node.name in ("default", "d"):
        if not all(isinstance(each, nodes.Const) for each in (*node.args, *(item.value for item in node.kwargs))):
            return None
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _read_path(node: nodes.Node) -> Path | None:
    """Return the path where a node is a chain of constant keys on a name."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        return None
    key = node.attr if isinstance(node, nodes.Getattr) else _read_key(node.arg)
    inner = _read_path(node.node)
    return None if inner is None or key is None else (*inner, key)


def _read_key(node: nodes.Node) -> str | int | None:
    if isinstance(node, nodes.Neg):  # items[-1]
        key = _read_key(node.node)
        return -key if isinstance(key, int) else None
    constant = node.value if isinstance(node, nodes.Const) else None
    return constant if isinstance(constant, str | int) and not isinstance(constant, bool) else None
