"""An expression is Jinja2's syntax without calls, powers and everything of Python's.

Jinja parses it, a list of what is allowed checks it node by node, and each dotted path becomes one variable: what is
left can neither reach an attribute nor a name of Jinja's own (`self`, `loop`) nor grow beyond measure.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser

from app.mapping.problems import ask_similar
from app.values.path import Path, write_path

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
AnyNode = TypeVar("AnyNode", bound=nodes.Node)


class ExpressionError(ValueError):
    """An expression that cannot be compiled; the text says why and, where it can, what was meant."""


@dataclass(slots=True)
class Parsed:
    """A checked expression. `node` reads the variables in `slots`; `names` are the dotted paths it was written with."""

    node: nodes.Expr
    path: Path | None = None  # where the expression is nothing but one
    slots: dict[Path, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    preferred: frozenset[str] = frozenset()  # those for which a `default` stands in


def parse_expression(source: str, environment: Environment, prepare_filter: Callable[[nodes.Filter], None]) -> Parsed:
    """Return the checked and rewritten expression; raises ExpressionError, as `prepare_filter` may for a filter."""
    if len(source) > _LONGEST_SOURCE:
        raise ExpressionError(f"the expression is longer than {_LONGEST_SOURCE} characters")
    if not source.strip():
        raise ExpressionError("the expression is empty")
    parsed = Parsed(_parse_source(source, environment))
    for node in (parsed.node, *parsed.node.find_all(nodes.Node)):
        _check_node(node, environment, prepare_filter)
    parsed.path = _read_path(parsed.node)
    parsed.preferred = frozenset(_list_preferred(parsed.node))
    parsed.node = _rewrite(parsed.node, parsed)
    return parsed


def _parse_source(source: str, environment: Environment) -> nodes.Expr:
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


def _check_node(node: nodes.Node, environment: Environment, prepare_filter: Callable[[nodes.Filter], None]) -> None:
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
        prepare_filter(node)
        _check_call("filter", node, environment.filters)
    elif isinstance(node, nodes.Test):
        _check_call("test", node, environment.tests)


def _check_call(kind: str, node: nodes.Filter | nodes.Test, known: Mapping[str, Any]) -> None:
    """Refuse unknown names, and arguments that the filter or test does not take."""
    if node.name not in known:
        hint = ask_similar(node.name, known, "", quote="`")
        raise ExpressionError(f"there is no {kind} `{node.name}`" + (f"; {hint}" if hint else ""))
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
    """Return the node with every path as a variable, `in` as a test, and each part of `~` as a text."""
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
        node.nodes = [nodes.Filter(item, TEXT_FILTER, [], [], None, None) for item in node.nodes]
    if isinstance(node, nodes.Filter) and node.name == "money":
        currency: Any = nodes.Keyword(OWN_ARGUMENT, _read_slot(_CURRENCY_PATH, parsed))  # typed as Pair by Jinja
        node.kwargs.append(currency)
    return node


def _read_slot(path: Path, parsed: Parsed) -> nodes.Name:
    return nodes.Name(parsed.slots.setdefault(path, f"slot{len(parsed.slots)}"), "load")


QUOTED_TEXTS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_CUT = "in YAML, ` #` and a comma inside [ ] end a value: put the whole of it in quotes"
_FIXED_TEXT = re.compile(r"[^\W\d]\w*[.,!]?(?: [\w.,!&-]+)+")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_HYPHENATED = re.compile(r"[^\W\d]\w*-[^\W\d]\w*")
# Looked for in this order, outside of quoted texts: (pattern, what is wrong, the cure).
_FOREIGN: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), message, hint)
    for pattern, message, hint in (
        ("[\u2018-\u201f]", "typographic quotes do not mark a text", 'write straight ones: "Gold"'),
        ("[\"']", "a quote is not closed", _CUT),
        (r"\$", "`$` does not stand before a property", "write its name alone: user_name"),
        ("&&", "`&&` is not known here", "write `and`"),
        (r"\|\|", "`||` is not known here", 'write `or`; for what may be missing: user_name | default("there")'),
        (r"\?\?", "`??` is not known here", 'for what may be missing: user_name | default("there")'),
        (r"\?", "`… ? … : …` is not known here", "write `a if b else c`"),
        ("[=!]==", "`===` is not known here", "compare with == or !="),
        ("<>", "`<>` is not known here", "compare with !="),
        ("=[<>]", "`=>` is not known here", "compare with >= or <="),
        (r"!(?=\s*[\w(])", "`!` is not known here", "write `not`"),
        (r"\|\s*\w+\s*:", "the argument of a filter stands in brackets", 'write user_name | default("there")'),
        ("(?<![=!<>])=(?!=)", "the expression should end before `=`", "compare with =="),
        (r"\b(?:AND|OR|NOT|IN|IS)\b", "`and`, `or`, `not`, `in` and `is` are written in small letters", ""),
        (r"\bcontains\b", "`contains` is not known here", 'write "VIP" in user_tags'),
    )
)


def explain_syntax(source: str, said: str) -> str:
    """Return what is wrong with an expression that cannot be read, with its cure; `said` where nothing is known."""
    if "{{" in source or "{%" in source:
        return "{{ }} and {% %} do not belong here; write the expression without them: user_name | upper"
    bare = QUOTED_TEXTS.sub('""', source)
    for pattern, message, hint in _FOREIGN:
        if pattern.search(bare.replace('""', "")):
            return f"{message}; {hint}" if hint else message
    for opening, closing in ("()", "[]"):
        if bare.count(opening) != bare.count(closing):
            return f"a bracket {opening} {closing} lacks its other half; {_CUT}"
    if source.strip().startswith(("http://", "https://")):
        return "an address is no expression; a fixed one is written {text: https://…}"
    if _DATE.fullmatch(source.strip()):
        return f"`{source.strip()}` is no expression; a fixed date is written '\"{source.strip()}\"'"
    if _FIXED_TEXT.fullmatch(source.strip()):
        return f"`{source.strip()}` is not the name of a property; a fixed text is written {{text: …}}"
    return "the expression ends too early" if "end of" in said else said


def find_hyphen(source: str) -> str | None:
    """Return what is wrong with `product-name`, which would be read as a subtraction; None if nothing is."""
    found = _HYPHENATED.search(QUOTED_TEXTS.sub('""', source))
    if found is None:
        return None
    before, _, after = found[0].partition("-")
    return (
        f"`{found[0]}` would be {before} minus {after}; a minus has blanks around it, "
        f'and a key with a hyphen is written in brackets: product["{found[0]}"]'
    )
