"""An expression is Jinja2's syntax without calls, powers and everything of Python's.

Jinja parses it, a list of what is allowed checks it node by node, and each dotted path becomes one variable: what is
left can neither reach an attribute nor a name of Jinja's own (`self`, `loop`) nor grow beyond measure.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.mapping.expression import (
    RESULT,
    Absent,
    AbsentValueError,
    Expression,
    Step,
    UnusableError,
    Work,
    bound_value,
    follow_steps,
    run_code,
)
from app.mapping.filters import Filter, find_pattern_fault, join_texts, make_filters, make_tests
from app.mapping.mistakes import explain_syntax, find_bare_pattern, find_hyphen
from app.mapping.problems import ask_similar
from app.values.instant import find_input_fault
from app.values.text import Path, is_number, look_into, write_path

_LONGEST_SOURCE = 2000
_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Call: "calls are not possible here; use a filter such as `user_name | upper`",
    nodes.Pow: "powers are not possible here",
    nodes.Slice: "slices are not possible here; use a filter such as `truncate(20)`",
    nodes.Dict: "{…} is not possible here; use `… if … else …`",
}
_ALLOWED = frozenset(
    {"Name", "Const", "List", "Tuple", "Getattr", "Getitem", "Filter", "Test", "Keyword", "Compare", "Operand"}
    | {"And", "Or", "Not", "Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Neg", "Pos", "Concat", "CondExpr"}
)
OWN_ARGUMENT = "event_currency"  # given to `money` by the rewriting below
TEXT_FILTER = "~"  # no name one can write
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
AnyNode = TypeVar("AnyNode", bound=nodes.Node)


class ExpressionError(ValueError):
    """An expression that cannot be compiled; the text says why and, where it can, what was meant."""


@dataclass(slots=True)
class Parsed:
    """A checked expression. `node` reads the variables in `slots`; `names` are the dotted paths it was written with."""

    node: nodes.Expr
    slots: dict[Path, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    preferred: frozenset[str] = frozenset()  # those for which a `default` stands in


def parse_expression(source: str, environment: Environment) -> Parsed:
    """Return the checked and rewritten expression; raises ExpressionError."""
    if len(source) > _LONGEST_SOURCE:
        raise ExpressionError(f"the expression is longer than {_LONGEST_SOURCE} characters")
    if not source.strip():
        raise ExpressionError("the expression is empty")
    parsed = Parsed(_parse_source(source, environment))
    for node in (parsed.node, *parsed.node.find_all(nodes.Node)):
        _check_node(node, environment)
    parsed.preferred = frozenset(_list_preferred(parsed.node))
    parsed.node = _rewrite(parsed.node, parsed)
    return parsed


def _parse_source(source: str, environment: Environment) -> nodes.Expr:
    if (bare := find_bare_pattern(source)) is not None:
        raise ExpressionError(bare)
    try:
        parser = Parser(environment, source, state="variable")
        node = parser.parse_expression()
        if not parser.stream.eos:
            said = f"the expression should end before `{parser.stream.current.value}`"
            raise ExpressionError(explain_syntax(source, said))
    except TemplateSyntaxError as error:
        raise ExpressionError(explain_syntax(source, f"it cannot be read as an expression: {error.message}")) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None
    if (hyphen := find_hyphen(source)) is not None:
        raise ExpressionError(hyphen)
    return node


def _check_node(node: nodes.Node, environment: Environment) -> None:
    if type(node).__name__ not in _ALLOWED:
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
    if isinstance(node, nodes.Filter):
        _check_date(node)
        _check_call("filter", node, environment.filters)
    elif isinstance(node, nodes.Test):
        _check_call("test", node, environment.tests)


def _check_date(node: nodes.Filter) -> None:
    """Read a date's patterns before a customer's date does."""
    if node.name != "date":
        return
    for keyword in node.kwargs:
        if keyword.key == "from":  # a word that no Python parameter can have
            keyword.key = "from_"  # type: ignore[assignment]  # Jinja types it as Pair
    given: list[tuple[str, nodes.Expr]] = [*zip(("format", "from_"), node.args, strict=False)]
    for name, pattern in (*given, *((keyword.key, keyword.value) for keyword in node.kwargs)):
        if isinstance(pattern, nodes.Const):
            find_fault = find_input_fault if name == "from_" else find_pattern_fault
            if (fault := find_fault(pattern.value)) is not None:
                raise ExpressionError(fault)


def _check_call(kind: str, node: nodes.Filter | nodes.Test, known: Mapping[str, Any]) -> None:
    """Refuse unknown names, and arguments that the filter or test does not take."""
    if node.name not in known:
        names = sorted(known.keys() - {TEXT_FILTER})
        meant = _MEANT.get(node.name.lower(), node.name) if kind == "filter" else node.name
        hint = ask_similar(meant, names, f"there are {', '.join(names)}", quote="`")
        raise ExpressionError(f"there is no {kind} `{node.name}`; {hint}")
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ExpressionError("* and ** are not possible here")
    named = {str(item.key): item.value for item in node.kwargs}
    signature = inspect.signature(known[node.name])
    try:
        bound = signature.bind(None, *node.args, **named)
    except TypeError:
        bound = None
    if bound is None or OWN_ARGUMENT in named:
        raise ExpressionError(f"the {kind} `{node.name}` does not take these arguments; {_show_use(node, signature)}")
    for name, value in bound.arguments.items():
        wants_number = signature.parameters[name].annotation in {"int", "int | None"}
        if wants_number and isinstance(value, nodes.Const) and not isinstance(value.value, int):
            raise ExpressionError(f"the {kind} `{node.name}` takes a whole number as its {name}")


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


def _list_preferred(node: nodes.Node) -> Iterator[str]:
    """Yield the paths before the first `default` of each chain: if one is missing, a default is what shows."""
    for each in (node, *node.find_all(nodes.Filter)):
        if isinstance(each, nodes.Filter) and each.name == "default" and each.node is not None:
            earlier = (each.node, *each.node.find_all(nodes.Filter))
            if not any(isinstance(inner, nodes.Filter) and inner.name == "default" for inner in earlier):
                yield from _list_paths(each.node)


def _list_paths(node: nodes.Node) -> Iterator[str]:
    path = _read_path(node)
    if path is not None:
        yield write_path(path)
        return
    for child in node.iter_child_nodes():
        yield from _list_paths(child)


def _read_path(node: nodes.Node) -> Path | None:
    """Return the path where a node is a chain of constant keys on a name."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        inner = _read_path(node.node)
        return None if inner is None else (*inner, node.attr)
    if isinstance(node, nodes.Getitem) and (key := _read_key(node.arg)) is not None:
        inner = _read_path(node.node)
        return None if inner is None else (*inner, key)
    return None


def _read_key(node: nodes.Node) -> str | int | None:
    if isinstance(node, nodes.Neg):  # items[-1]
        key = _read_key(node.node)
        return -key if isinstance(key, int) else None
    constant = node.value if isinstance(node, nodes.Const) else None
    return constant if isinstance(constant, str | int) and not isinstance(constant, bool) else None


def _rewrite(node: AnyNode, parsed: Parsed) -> Any:
    """Return the node with every path as a variable, `in` as a test, and `~` as a filter that joins its parts."""
    path = _read_path(node)
    if path is not None:
        parsed.names.add(write_path(path))
        return _read_slot(path, parsed)
    for name, child in node.iter_fields():
        if isinstance(child, nodes.Node):
            setattr(node, name, _rewrite(child, parsed))
        elif isinstance(child, list):
            setattr(node, name, [_rewrite(item, parsed) if isinstance(item, nodes.Node) else item for item in child])
    if isinstance(node, nodes.Compare) and node.ops[0].op in {"in", "notin"}:
        found = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None)
        return found if node.ops[0].op == "in" else nodes.Not(found)
    if isinstance(node, nodes.Concat):
        return nodes.Filter(nodes.List(node.nodes), TEXT_FILTER, [], [], None, None)
    if isinstance(node, nodes.Filter) and node.name == "money":
        currency: Any = nodes.Keyword(OWN_ARGUMENT, _read_slot(_CURRENCY_PATH, parsed))  # typed as Pair by Jinja
        node.kwargs.append(currency)
    return node


def _read_slot(path: Path, parsed: Parsed) -> nodes.Name:
    return nodes.Name(parsed.slots.setdefault(path, f"slot{len(parsed.slots)}"), "load")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja without globals, in which `.` and `[]` find keys and indexes only."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self, filters: Mapping[str, Filter]) -> None:
        super().__init__(optimized=False)  # folding constants at compile time would run filters on them
        self.globals.clear()
        self.filters: dict[str, Filter] = {**filters, TEXT_FILTER: join_texts}
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
        return bound_value(super().call_binop(context, operator, left, right))


class ExpressionCompiler:
    """Compiles expressions for one store (its country, timezone and locale shape the filters)."""

    def __init__(self, country: str, timezone: str, locale: str, landlines: bool = False) -> None:
        """Take ISO 3166 alpha-2, an IANA zone and a locale such as en_IN."""
        self._environment = _Environment(make_filters(country, timezone, locale, landlines))

    def compile(self, source: str) -> Expression:
        """Return the compiled expression; raises ExpressionError."""
        try:
            parsed = parse_expression(source, self._environment)
            stepwise = _compile_steps(parsed, self._environment)
            work = stepwise or _compile_code(parsed, self._environment)
        except (RecursionError, MemoryError, SyntaxError):  # what Python says of a thousand operators in a row
            raise ExpressionError("the expression is nested too deeply") from None
        key = _find_key(parsed) if stepwise else None
        return Expression(source, frozenset(parsed.names), work, parsed.preferred, tuple(parsed.slots), key)


def _compile_steps(parsed: Parsed, environment: _Environment) -> Work | None:
    """Return the work of a path, with filters behind it whose arguments are constants; None for anything else."""
    paths = {slot: path for path, slot in parsed.slots.items()}
    node: nodes.Node | None = parsed.node
    steps: list[Step] = []
    while isinstance(node, nodes.Filter):
        named = {str(each.key): each.value for each in node.kwargs}
        currency = named.pop(OWN_ARGUMENT, None)
        if not all(isinstance(each, nodes.Const) for each in (*node.args, *named.values())):
            return None
        arguments = [each.value for each in node.args if isinstance(each, nodes.Const)]
        constants = {name: each.value for name, each in named.items() if isinstance(each, nodes.Const)}
        own = {OWN_ARGUMENT: paths[currency.name]} if isinstance(currency, nodes.Name) else {}
        steps.append(Step(environment.filters[node.name], arguments, constants, own))
        node = node.node
    return follow_steps(paths[node.name], steps[::-1]) if isinstance(node, nodes.Name) else None


def _find_key(parsed: Parsed) -> str | None:
    """Return the key of an event that is all an expression reads, with nothing behind it but defaults."""
    node: nodes.Node | None = parsed.node
    while isinstance(node, nodes.Filter) and node.name in ("default", "d"):
        node = node.node
    ((key, *deeper), *others) = parsed.slots
    return key if isinstance(node, nodes.Name) and isinstance(key, str) and not deeper and not others else None


def _compile_code(parsed: Parsed, environment: _Environment) -> Work:
    body = nodes.Assign(nodes.Name(RESULT, "store"), parsed.node, lineno=1)
    body.set_environment(environment)
    template: Template = environment.from_string(nodes.Template([body], lineno=1))
    ways = EvalContext(environment, template.name)
    return run_code(parsed.slots, template.root_render_func, partial(_Values, ways))


class _Values:
    """The part of Jinja's context that compiled code asks for; a whole one takes longer to make than to use."""

    __slots__ = ("eval_ctx", "exported_vars", "resolve_or_missing", "vars")

    def __init__(self, eval_ctx: EvalContext, values: dict[str, Any]) -> None:
        self.eval_ctx = eval_ctx
        self.resolve_or_missing = values.__getitem__
        self.vars: dict[str, Any] = {}
        self.exported_vars: set[str] = set()
