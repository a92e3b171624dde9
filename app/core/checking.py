"""What can be wrong between sections that are sound by themselves: routes, providers, templates, topics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.core.expressions import Expression
from app.core.findings import Findings
from app.core.models import Event
from app.core.nector import KNOWN_PROPERTIES, TOPICS
from app.core.problems import Path, ask_similar, find_similar, quote_all
from app.core.routing import Hit, Route, match_route
from app.core.template_entries import find_placeholders
from app.core.templates import Template, Templates


def check_routes(routes: Sequence[Route], templates: Templates, findings: Findings) -> None:
    """Report what is wrong with routes that are each well written."""
    seen: dict[tuple[Any, ...], Route] = {}
    for route in routes:
        _check_topic(route, findings)
        _check_reachable(route, findings)
        _check_properties(route, findings)
        _check_template(route, templates, findings)
        key = (route.topic, _text(route.when), route.provider, route.template, _text(route.recipient))
        if key in seen:
            first = seen[key]
            message = f'route "{route.name}" repeats route "{first.name}" of line {first.line}: both would send'
            findings.error(("routes", route.name), message, "remove one, or give them a `when`", at="key")
        seen.setdefault(key, route)


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


def _check_properties(route: Route, findings: Findings) -> None:
    """A name that is nearly one of Nector's is probably that one; any other may well be sent."""
    known = KNOWN_PROPERTIES.get(route.topic, ())
    shown = {key for example in route.examples for key in _list_paths(example.event)}
    for path, expression in _list_expressions(route, findings):
        for name in sorted(expression.names - shown - set(known)):
            if (similar := find_similar(name, known, cutoff=0.85)) is not None:
                findings.warn(path, f'"{name}" is not a property known from Nector', f'did you mean "{similar}"?')


def _list_paths(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield prefix + key
            yield from _list_paths(item, f"{prefix}{key}.")


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


# -- against config/templates.yaml ----------------------------------------------------------------


def _check_template(route: Route, templates: Templates, findings: Findings) -> None:
    path: Path = ("routes", route.name)
    known = [template_id for provider, template_id in templates if provider == route.provider]
    if not known or findings.is_silenced((*path, "template")):
        return
    template = templates.get((route.provider, route.template))
    if template is None:
        message = f'template "{route.template}" is not in templates.yaml for provider "{route.provider}"'
        findings.warn((*path, "template"), message, ask_similar(route.template, known))
        return
    if template.status.lower() != "approved":
        findings.warn((*path, "template"), f'template "{template.id}" is {template.status.lower()}, not approved')
    for key, check in (("variables", _check_variables), ("header", _check_header), ("buttons", _check_buttons)):
        if not findings.is_silenced((*path, key)):
            check(route, template, findings)


def _check_variables(route: Route, template: Template, findings: Findings) -> None:
    path: Path = ("routes", route.name, "variables")
    body = find_placeholders(template.body)
    needed = [name for name in template.variables if name in body]
    wanted = f"it has {quote_all(needed)}" if needed else "it has none"
    listed = findings.document.places.get((*path, 0)) is not None
    if listed or not route.variables:
        if not len(needed) <= len(route.variables) <= len(template.variables):
            message = f'template "{template.id}" has {_count(len(needed))}, and the route gives {len(route.variables)}'
            findings.error(path, message, quote_all(needed), at="value" if listed else "key")
        return
    given = [variable.name or "" for variable in route.variables]
    for name in given:
        if name not in template.variables:
            findings.error((*path, name), f'template "{template.id}" has no variable "{name}"', wanted, at="key")
    unknown = [name for name in given if name not in template.variables]
    missing = [name for name in needed if name not in given]
    if missing and not unknown:
        findings.error(path, f'template "{template.id}" wants {quote_all(missing)}, too', wanted, at="key")


def _count(number: int) -> str:
    return "1 variable" if number == 1 else f"{number} variables"


def _check_header(route: Route, template: Template, findings: Findings) -> None:
    kind = template.header_kind
    if kind == "text" and not find_placeholders(template.header_text):
        kind = "none"
    if route.header is None:
        if kind != "none":
            message = f'template "{template.id}" has a variable {kind} header, and the route gives none'
            findings.warn(("routes", route.name, "template"), message, f"add header: {{{kind}: …}}")
    elif route.header.kind != kind:
        has = f"a variable {kind} header" if kind != "none" else "no variable header"
        path: Path = ("routes", route.name, "header")
        findings.error(
            path, f'the route gives a {route.header.kind} header; template "{template.id}" has {has}', at="key"
        )


def _check_buttons(route: Route, template: Template, findings: Findings) -> None:
    wanted = [place for place, button in enumerate(template.buttons) if find_placeholders(button.url)]
    for place, button in enumerate(route.buttons):
        if button.index not in wanted:
            message = f'button {button.index} of template "{template.id}" has no variable URL'
            findings.error(("routes", route.name, "buttons", place, "index"), message)
    missing = [str(place) for place in wanted if place not in {button.index for button in route.buttons}]
    if missing:
        message = (
            f'template "{template.id}" has a variable URL in button {", ".join(missing)}, and the route gives none'
        )
        findings.error(("routes", route.name, "template"), message, "add buttons: [{index: …, url: …}]")
