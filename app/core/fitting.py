"""Whether a route fits the approved template it names: standing, language, variables, header, buttons."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.core.expressions import Expression
from app.core.findings import Findings
from app.core.problems import Path, ask_similar, quote_all
from app.core.routing import Route
from app.core.template_entries import find_placeholders
from app.core.templates import Template, Templates


def check_template(route: Route, templates: Templates, findings: Findings, listed: Collection[str]) -> None:
    """Report how a route does not fit its template. `listed`: providers of which every template is known."""
    path: Path = ("routes", route.name)
    known = [template_id for provider, template_id in templates if provider == route.provider]
    is_listed = route.provider in listed
    if not (known or is_listed) or findings.is_silenced((*path, "template")):
        return
    template = templates.get((route.provider, route.template))
    if template is None:
        if is_listed:
            message = f'provider "{route.provider}" has no template "{route.template}"'
            findings.error((*path, "template"), message, ask_similar(route.template, known))
        else:
            message = f'template "{route.template}" is not in templates.yaml for provider "{route.provider}"'
            findings.warn((*path, "template"), message, ask_similar(route.template, known))
        return
    _check_standing(route, template, findings, is_listed=is_listed)
    for key, check in (("variables", _check_variables), ("header", _check_header), ("buttons", _check_buttons)):
        if not findings.is_silenced((*path, key)):
            check(route, template, findings)


def _check_standing(route: Route, template: Template, findings: Findings, *, is_listed: bool) -> None:
    """Whether WhatsApp would take it at all: approved, in this language, and for marketing, in time."""
    path: Path = ("routes", route.name)
    if (status := template.status.lower()) != "approved":
        report = findings.error if is_listed else findings.warn
        report((*path, "template"), f'template "{template.id}" is {status}, not approved')
    if route.language is not None and route.language != template.language:
        report = findings.error if is_listed else findings.warn
        at = (*path, "language") if (*path, "language") in findings.document.places else ("defaults", "language")
        report(at, f'template "{template.id}" is in "{template.language}", and the route asks for "{route.language}"')
    if template.category == "MARKETING" and not _says_how_long(route, findings):
        message = f'template "{template.id}" is marketing, and the route does not say how long it is worth sending'
        hint = "add `valid_for:` (the default is 24h) or `valid_until:`; an offer that comes late is a complaint"
        findings.warn((*path, "template"), message, hint)


def _says_how_long(route: Route, findings: Findings) -> bool:
    own: Path = ("routes", route.name, "valid_for")
    return route.valid_until is not None or bool({own, ("defaults", "valid_for")} & findings.document.places.keys())


def _check_variables(route: Route, template: Template, findings: Findings) -> None:
    path: Path = ("routes", route.name, "variables")
    body = find_placeholders(template.body)
    needed = [name for name in template.variables if name in body]
    wants = f'template "{template.id}" {f"wants {_brace(needed)}" if needed else "has no variables"}'
    if (*path, 0) in findings.document.places or not route.variables:
        _check_places(route, template, needed, wants, findings)
        return
    given = [variable.name or "" for variable in route.variables]
    unknown = [name for name in given if name not in template.variables]
    for name in unknown:
        findings.error((*path, name), f'{wants}; it has no "{name}"', ask_similar(name, needed), at="key")
    missing = [name for name in needed if name not in given]
    if missing and not unknown:
        findings.error(path, f"{wants}; {_lack(missing)}", at="key")


def _check_places(route: Route, template: Template, needed: Sequence[str], wants: str, findings: Findings) -> None:
    """Variables by position: as many as the template has, and none where another of that name belongs."""
    path: Path = ("routes", route.name, "variables")
    count = len(route.variables)
    if not len(needed) <= count <= len(template.variables):
        surplus = f"{count - len(template.variables)} too many"
        wrong = f"so {_lack(needed[count:])}" if count < len(needed) else surplus
        findings.error(path, f"{wants}; the route gives {count}, {wrong}", at="value" if count else "key")
        return
    for place, variable in enumerate(route.variables):
        word = _read_last_word(variable.source)
        if word in template.variables and template.variables.index(word) != place:
            right = template.variables.index(word) + 1
            message = f'"{word}" fills {{{{{template.variables[place]}}}}} of template "{template.id}"'
            hint = f"its place is {right}; or write the variables by name"
            findings.warn((*path, place), message, hint)


def _read_last_word(source: object) -> str:
    """Return `coins` of `wallet.coins`, "" of anything but a plain path."""
    is_path = isinstance(source, Expression) and {source.source.strip()} == {*source.names}
    return source.source.strip().rpartition(".")[2] if isinstance(source, Expression) and is_path else ""


def _brace(names: Sequence[str]) -> str:
    return "{" + ", ".join(names) + "}"


def _lack(names: Sequence[str]) -> str:
    return f"{quote_all(names)} {'is' if len(names) == 1 else 'are'} missing"


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
            path, f'the route gives {_say_a(route.header.kind)} header; template "{template.id}" has {has}', at="key"
        )


def _say_a(kind: str) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"


def _check_buttons(route: Route, template: Template, findings: Findings) -> None:
    wanted = [place for place, button in enumerate(template.buttons) if find_placeholders(button.url)]
    for place, button in enumerate(route.buttons):
        if button.index not in wanted:
            message = f'button {button.index} of template "{template.id}" has no variable URL'
            hint = f"write index: {wanted[0]}" if len(wanted) == 1 else ""
            findings.error(("routes", route.name, "buttons", place, "index"), message, hint)
    missing = [str(place) for place in wanted if place not in {button.index for button in route.buttons}]
    if missing:
        message = (
            f'template "{template.id}" has a variable URL in button {", ".join(missing)}, and the route gives none'
        )
        findings.error(("routes", route.name, "template"), message, "add buttons: [{index: …, url: …}]")
