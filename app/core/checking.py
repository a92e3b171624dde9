"""What can be wrong between sections that are sound by themselves: routes, providers, templates, topics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.core.expressions import Expression
from app.core.findings import Findings
from app.core.fitting import check_template
from app.core.models import Event
from app.core.nector import KNOWN_PROPERTIES, TOPICS
from app.core.paths import list_paths
from app.core.problems import Path, find_similar
from app.core.routing import Hit, Route, match_route
from app.core.templates import Templates

# Two rewards of 100 coins are two.
_NOT_UNIQUE = frozenset({"amount"})


def check_routes(
    routes: Sequence[Route],
    templates: Templates,
    findings: Findings,
    listed: Collection[str] = (),
    recorded: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Report what is wrong with routes that are each well written. `listed` and `recorded`: see parse_config."""
    seen: dict[tuple[Any, ...], Route] = {}
    for route in routes:
        _check_topic(route, findings)
        _check_reachable(route, findings)
        _check_constants(route, findings)
        _check_properties(route, (recorded or {}).get(route.topic, ()), findings)
        check_template(route, templates, findings, listed)
        key = (route.topic, _text(route.when), route.provider, route.template, _text(route.recipient))
        if key in seen:
            first = seen[key]
            message = f'route "{route.name}" repeats route "{first.name}" of line {first.line}: both would send'
            findings.error(("routes", route.name), message, "remove one, or give them a `when`", at="key")
        seen.setdefault(key, route)
    _check_doubles(routes, findings)


def _check_doubles(routes: Sequence[Route], findings: Findings) -> None:
    """Every route that hits sends: one with a condition repeats one of the same template without."""
    always = {(*_describe_duty(route),): route for route in routes if route.when is None}
    for route in routes:
        other = always.get(_describe_duty(route))
        if route.when is not None and other is not None:
            message = (
                f'whenever route "{route.name}" hits, route "{other.name}" of line {other.line} sends the same, too'
            )
            hint = "give that one the opposite `when`, or remove one"
            findings.warn(("routes", route.name, "when"), message, hint, at="key")


def _describe_duty(route: Route) -> tuple[Any, ...]:
    return (route.topic, route.provider, route.template, _text(route.recipient))


def check_providers(names: Iterable[str], used: Iterable[str], findings: Findings) -> None:
    """Report accounts that no route uses."""
    for name in set(names) - set(used):
        findings.warn(("providers", name), f'no route uses provider "{name}"', at="key")


def _text(expression: Expression | None) -> str | None:
    return expression.source if expression else None


def _check_topic(route: Route, findings: Findings) -> None:
    if route.topic not in TOPICS:
        similar = find_similar(route.topic, TOPICS)
        hint = f'did you mean "{similar}"?' if similar else "fine for a trigger of your own; check its spelling"
        path: Path = ("routes", route.name, "event")
        findings.warn(path, f'"{route.topic}" is not in Nector\'s list of topics', hint)


def _check_reachable(route: Route, findings: Findings) -> None:
    """A condition that reads nothing of the event is the same for every event."""
    if route.when is None or route.when.names:
        return
    if not isinstance(match_route(route, Event("", "nector", route.topic, None, b"{}", {}, 0)), Hit):
        hint = "remove the route, or use mode: shadow to watch it"
        findings.error(("routes", route.name, "when"), f'route "{route.name}" can never be hit', hint)


def _check_constants(route: Route, findings: Findings) -> None:
    """A recipient or a `dedup_by` that is the same for everybody is never what was meant."""
    if route.recipient is not None and not route.recipient.names:
        at = ("routes", route.name, "recipient")
        where = at if at in findings.document.places else ("defaults", "recipient")
        hint = "name a property, such as customer.mobile; to try a route with a number of yours, write only:"
        findings.error(where, "every message would go to one and the same number", hint)
    if route.dedup_by is not None and route.dedup_by.names <= _NOT_UNIQUE:
        message = "two events of one customer often have the same value here: the second would not be sent"
        hint = "name what the message is about, such as order_id or a coupon's code; or leave dedup_by out"
        findings.warn(("routes", route.name, "dedup_by"), message, hint)


def _check_properties(route: Route, recorded: Collection[str], findings: Findings) -> None:
    """Report names that no event of the topic is likely to hold; `recorded`: those that events held so far."""
    known = {*KNOWN_PROPERTIES.get(route.topic, ()), *recorded}
    shown = {key for example in route.examples for key in list_paths(example.event)}
    for path, expression in _list_expressions(route, findings):
        for name in sorted(expression.names - shown - known):
            if name[0].isupper() and name.isidentifier():
                findings.warn(path, f'"{name}" is read as a property of the event', _cure_capital(name, expression))
                continue
            similar = find_similar(name, known, cutoff=0.85)
            hint = f'did you mean "{similar}"?' if similar else "if it is right, show it in an example"
            if recorded:
                findings.warn(path, f'"{name}" is in none of the recorded events of {route.topic}', hint)
            elif similar is not None:
                findings.warn(path, f'"{name}" is not a property known from Nector', hint)
            elif known and path[-1] in {"valid_until", "dedup_by"} and name not in expression.preferred:
                # Anything else may be missing and is seen at once; this would make every single message dead.
                findings.warn(path, f'"{name}" is not a property known from Nector: without it nothing is sent', hint)


def _cure_capital(name: str, expression: Expression) -> str:
    if expression.source.strip() == name:
        return f"a fixed text is written {{text: {name}}}"
    return f'a fixed text stands in quotes: "{name}"'


def _list_expressions(route: Route, findings: Findings) -> Iterator[tuple[Path, Expression]]:
    path: Path = ("routes", route.name)
    is_mapping = (*path, "variables", 0) not in findings.document.places
    for key, expression in (
        ("when", route.when),
        ("recipient", route.recipient),
        ("valid_until", route.valid_until),
        ("dedup_by", route.dedup_by),
    ):
        if expression is not None:
            yield (*path, key), expression
    for place, variable in enumerate(route.variables):
        if isinstance(variable.source, Expression):
            yield (*path, "variables", variable.name or "" if is_mapping else place), variable.source
    if route.header is not None and isinstance(route.header.source, Expression):
        yield (*path, "header", route.header.kind), route.header.source
    for place, button in enumerate(route.buttons):
        if isinstance(button.url, Expression):
            yield (*path, "buttons", place, "url"), button.url
