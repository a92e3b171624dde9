"""Routes, providers, templates and topics that are sound by themselves are checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.mapping import Path, ask_similar, find_similar, quote_all
from app.mapping.expression import Expression
from app.mapping.fields import Constant, Source
from app.mapping.findings import Findings
from app.mapping.mistakes import find_constant_fault, find_literal_fault, find_name_fault, find_text_comparison
from app.mapping.provider import ProviderSettings
from app.mapping.rules import Hit, Route, Store, match_route
from app.mapping.template import HEADER_KINDS, Template, Templates, find_button_kind, find_language, find_placeholders
from app.model.event import Event
from app.sources import SOURCE
from app.values.text import list_paths

# What an event may hold though it is not known of its topic.
_ANYWHERE = frozenset({"name", "customer", "lead"}).union(*SOURCE.properties.values())
# Two rewards of 100 coins are two.
_NOT_UNIQUE = frozenset({"amount"})


def check_routes(
    routes: Sequence[Route],
    store: Store,
    templates: Templates,
    findings: Findings,
    listed: Collection[str] = (),
    recorded: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Report what is wrong with routes that are each well written. `listed` and `recorded`: see parse_config."""
    for route in routes:
        _check_topic(route, findings)
        _check_reachable(route, findings)
        _check_constants(route, findings)
        _check_sources(route, store.timezone, (recorded or {}).get(route.topic, ()), findings)
        _check_template(route, templates, findings, listed)
    _check_doubles(routes, findings)


def _check_doubles(routes: Sequence[Route], findings: Findings) -> None:
    """Every route that hits sends: none may repeat another, nor one of the same template without a condition."""
    seen: dict[tuple[Any, ...], Route] = {}
    always = {_describe_duty(route): route for route in routes if route.when is None}
    for route in routes:
        first = seen.setdefault((_text(route.when), *_describe_duty(route)), route)
        if first is not route:
            message = f'route "{route.name}" repeats route "{first.name}" of line {first.line}: both would send'
            findings.error(("routes", route.name), message, "remove one, or give them a `when`", at="key")
        if route.when is not None and (other := always.get(_describe_duty(route))) is not None:
            message = f'whenever route "{route.name}" hits, route "{other.name}" of line {other.line} sends the same'
            hint = "give that one the opposite `when`, or remove one"
            findings.warn(("routes", route.name, "when"), f"{message}, too", hint, at="key")


def _describe_duty(route: Route) -> tuple[Any, ...]:
    return (route.topic, route.provider, route.template, _text(route.recipient.number))


def _text(expression: Expression | None) -> str | None:
    return expression.source if expression else None


def check_providers(providers: Mapping[str, ProviderSettings], used: Iterable[str], findings: Findings) -> None:
    """Report accounts that no route uses, and what is doubtful about the others."""
    for name, settings in providers.items():
        for message, hint in settings.list_doubts():
            findings.warn(("providers", name), f'provider "{name}" {message}', hint, at="key")
    for name in set(providers) - set(used):
        findings.warn(("providers", name), f'no route uses provider "{name}"', at="key")


def _check_topic(route: Route, findings: Findings) -> None:
    if route.topic not in SOURCE.topics:
        hint = ask_similar(route.topic, SOURCE.topics, "fine for a trigger of your own; check its spelling")
        path: Path = ("routes", route.name, "event")
        findings.warn(path, f'"{route.topic}" is not in {SOURCE.title}\'s list of topics', hint)


def _check_reachable(route: Route, findings: Findings) -> None:
    """A condition that reads nothing of the event is the same for every event."""
    if route.when is None or route.when.names:
        return
    if not isinstance(match_route(route, Event("", SOURCE.name, route.topic, None, b"{}", {}, 0)), Hit):
        hint = "remove the route, or use mode: shadow to watch it"
        findings.error(("routes", route.name, "when"), f'route "{route.name}" can never be hit', hint)


def _check_constants(route: Route, findings: Findings) -> None:
    """Report a recipient or a `dedup_by` that is the same for everybody: it is never what was meant."""
    if route.recipient.number is not None and not route.recipient.number.names:
        at = ("routes", route.name, "recipient")
        where = at if at in findings.document.places else ("defaults", "recipient")
        hint = "name a property, such as customer.mobile; to try a route with a number of yours, write only:"
        findings.error(where, "every message would go to one and the same number", hint)
    if route.dedup_by is not None and route.dedup_by.names <= _NOT_UNIQUE:
        message = "two events of one customer often have the same value here: the second would not be sent"
        hint = "name what the message is about, such as order_id or a coupon's code; or leave dedup_by out"
        findings.warn(("routes", route.name, "dedup_by"), message, hint)


def _check_sources(route: Route, timezone: str, recorded: Collection[str], findings: Findings) -> None:
    """Report what a route's values would not come to. `recorded`: what real events of its topic held."""
    known = {*SOURCE.properties.get(route.topic, ()), *recorded}
    shown = {key for example in route.examples for key in list_paths(example.event)}
    for path, source in _list_sources(route, findings):
        if isinstance(source, Constant):
            fault = find_constant_fault(str(path[4 if path[2] == "buttons" else 3]), source.text)
        elif source.names:
            fault = find_name_fault(source, known | shown | _ANYWHERE)
        else:
            fault = find_literal_fault(path, source, timezone)
        if fault is not None:
            findings.error(path, *fault)
            findings.silence(path)
        if isinstance(source, Constant):
            continue
        if (name := find_text_comparison(source.source, known | _ANYWHERE)) is not None:
            # What a source documents as a text fails beside a number, or is never equal.
            message = f"`{name}` may come from {SOURCE.title} as a text, and here it is compared with a number"
            findings.warn(path, message, f"write {name} | float")
        for name in () if findings.is_silenced(path) else sorted(source.names.difference(shown, known)):
            _check_name(name, source, path, route.topic if recorded else "", known, findings)


def _check_name(
    name: str, expression: Expression, path: Path, recorded: str, known: Collection[str], findings: Findings
) -> None:
    """Report a name that no event is likely to hold. `recorded`: the topic, where real events of it are."""
    if name[0].isupper() and name.isidentifier():
        is_whole = expression.source.strip() == name
        cure = f"is written {{text: {name}}}" if is_whole else f'stands in quotes: "{name}"'
        findings.warn(path, f'"{name}" is read as a property of the event', f"a fixed text {cure}")
        return
    unknown = f'"{name}" is not a property known from {SOURCE.title}'
    similar = find_similar(name, known, cutoff=0.85)
    if similar is None and name not in _ANYWHERE:  # of the topic little may be known
        similar = find_similar(name, _ANYWHERE, cutoff=0.85)
    hint = f'did you mean "{similar}"?' if similar else "if it is right, show it in an example"
    if recorded:
        findings.warn(path, f'"{name}" is in none of the recorded events of {recorded}', hint)
    elif similar is not None:
        findings.warn(path, unknown, hint)
    elif known and path[-1] in {"valid_until", "dedup_by"} and name not in expression.preferred:
        # Anything else may be missing and is seen at once; this would make every single message dead.
        findings.warn(path, f"{unknown}: without it nothing is sent", hint)


def _list_sources(route: Route, findings: Findings) -> Iterator[tuple[Path, Source]]:
    path: Path = ("routes", route.name)
    if route.recipient.number is not None:
        yield (*path, "recipient"), route.recipient.number
    for key in ("when", "language", "limited_time_offer", "valid_until", "dedup_by"):
        if isinstance(expression := getattr(route, key), Expression):
            yield (*path, key), expression
    is_mapping = (*path, "variables", 0) not in findings.document.places
    for place, variable in enumerate(route.variables):
        yield (*path, "variables", variable.name or "" if is_mapping else place), variable.source
    for keys, source in route.header.list_sources() if route.header else ():
        yield (*path, "header", *keys), source
    for place, button in enumerate(route.buttons):
        if button.source is not None:  # an empty place, reported where it stands
            yield (*path, "buttons", place, button.kind), button.source


def _check_template(route: Route, templates: Templates, findings: Findings, listed: Collection[str]) -> None:
    """Report how a route does not fit its template. `listed`: providers of which every template is known."""
    path: Path = ("routes", route.name)
    known = [template_id for provider, template_id in templates if provider == route.provider]
    is_listed = route.provider in listed
    if not (known or is_listed) or findings.is_silenced((*path, "template")):
        return
    template = templates.get((route.provider, route.template))
    report = findings.error if is_listed else findings.warn
    if template is None:
        unlisted = f'template "{route.template}" is not in templates.yaml for provider "{route.provider}"'
        message = f'provider "{route.provider}" has no template "{route.template}"' if is_listed else unlisted
        others = [provider for provider, template_id in templates if template_id == route.template]
        hint = f'it is one of provider "{others[0]}"' if others else ask_similar(route.template, known)
        report((*path, "template"), message, hint)
        return
    language = None if isinstance(route.language, Expression) else route.language
    version = find_language(template, language) or template
    _check_standing(route, template, language, findings, report)
    for key, check in (
        ("variables", _check_variables),
        ("header", _check_header),
        ("buttons", _check_buttons),
        ("limited_time_offer", _check_offer),
    ):
        if not findings.is_silenced((*path, key)):
            check(route, version, findings)
    others = [f"a {name.replace('_', ' ')}" for name in version.others]
    others += [f"a {version.header_kind} header"] if version.header_kind not in {"none", *HEADER_KINDS} else []
    kinds = [(place, find_button_kind(button.kind)) for place, button in enumerate(version.buttons)]
    others += [f"a button of the kind {kind.listed} ({place})" for place, kind in kinds if kind.needs == "more"]
    if others:
        what = f'template "{version.id}" has {" and ".join(others)}, which the relay cannot fill'
        findings.warn((*path, "template"), what, "WhatsApp refuses it without, unless the part needs nothing")


def _check_standing(
    route: Route, template: Template, language: str | None, findings: Findings, report: Callable[..., None]
) -> None:
    """Report why WhatsApp would not take it at all: not approved, not in this language, or, for marketing, too late."""
    path: Path = ("routes", route.name)
    version = find_language(template, language) or template
    if (status := version.status.lower()) != "approved":
        report((*path, "template"), f'template "{template.id}" is {status}, not approved')
    if language is not None and find_language(template, language) is None:
        at = (*path, "language") if (*path, "language") in findings.document.places else ("defaults", "language")
        known = quote_all(version.language for version in template.versions)
        report(at, f'template "{template.id}" is in {known}, and the route asks for "{language}"')
    durations: set[Path] = {(*path, "valid_for"), ("defaults", "valid_for")}
    says_how_long = route.valid_until is not None or durations & findings.document.places.keys()
    if template.category == "MARKETING" and not says_how_long:
        message = f'template "{template.id}" is marketing, and the route does not say how long it is worth sending'
        hint = "add `valid_for:` (the default is 24h) or `valid_until:`; an offer that comes late is a complaint"
        findings.warn((*path, "template"), message, hint)


def _check_variables(route: Route, template: Template, findings: Findings) -> None:
    path: Path = ("routes", route.name, "variables")
    body = find_placeholders(template.body)
    needed = [name for name in template.variables if name in body]
    wanted = "wants {" + ", ".join(needed) + "}" if needed else "has no variables"
    wants = f'template "{template.id}" {wanted}'
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
    """Report variables by position that are too few or too many, or stand where another of that name belongs."""
    path: Path = ("routes", route.name, "variables")
    count = len(route.variables)
    if not len(needed) <= count <= len(template.variables):
        surplus = f"{count - len(template.variables)} too many"
        wrong = f"so {_lack(needed[count:])}" if count < len(needed) else surplus
        findings.error(path, f"{wants}; the route gives {count}, {wrong}", at="value" if count else "key")
        return
    names = template.variables
    words = [_read_words(variable.source) for variable in route.variables]
    for place, own in enumerate(words):
        better = [at for at in range(len(names)) if _fits(own, names[at]) and at != place]
        free = [at for at in better if at >= len(words) or not _fits(words[at], names[at])]
        if free and not _fits(own, names[place]):
            message = f'"{own[0]}" fills {{{{{names[place]}}}}} of template "{template.id}"'
            hint = f"its place is {free[0] + 1}, {{{{{names[free[0]]}}}}}; or write the variables by name"
            findings.warn((*path, place), message, hint)


def _read_words(source: object) -> tuple[str, ...]:
    """Return `coins` of `wallet.coins | number`, in the order in which the paths are written; () of a fixed text."""
    if not isinstance(source, Expression):
        return ()
    written = sorted(source.names, key=source.source.find)
    return tuple(name.rpartition(".")[2] for name in written)


def _fits(words: Sequence[str], name: str) -> bool:
    """Tell whether one of the words is the name, or has it among its parts: `user_name` fits `name`."""
    return any(name == word or name in word.split("_") or word in name.split("_") for word in words)


def _lack(names: Sequence[str]) -> str:
    return f"{quote_all(names)} {'is' if len(names) == 1 else 'are'} missing"


def _check_header(route: Route, template: Template, findings: Findings) -> None:
    kind = template.header_kind
    if kind not in HEADER_KINDS or (kind == "text" and not find_placeholders(template.header_text)):
        kind = "none"
    if route.header is None:
        if kind != "none":
            message = f'template "{template.id}" has a variable {kind} header, and the route gives none'
            what = "{latitude: …, longitude: …, name: …, address: …}" if kind == "location" else "…"
            findings.warn(("routes", route.name, "template"), message, f"add header: {{{kind}: {what}}}")
    elif route.header.kind != kind:
        has = f"a variable {kind} header" if kind != "none" else "no variable header"
        given = f"{'an' if route.header.kind == 'image' else 'a'} {route.header.kind} header"
        message = f'the route gives {given}; template "{template.id}" has {has}'
        findings.error(("routes", route.name, "header"), message, at="key")


def _check_offer(route: Route, template: Template, findings: Findings) -> None:
    path: Path = ("routes", route.name)
    if template.offer_expires and route.limited_time_offer is None:
        message = f'template "{template.id}" has a limited-time offer, and the route does not say when it ends'
        findings.error((*path, "template"), message, "add limited_time_offer: with the date, such as expire")
    elif route.limited_time_offer is not None and not template.offer_expires:
        message = f'template "{template.id}" has no limited-time offer that ends'
        findings.error((*path, "limited_time_offer"), message, "remove the key", at="key")


def _check_buttons(route: Route, template: Template, findings: Findings) -> None:
    """A button is filled by its place among all of the template's, whatever their kinds."""
    kinds = [find_button_kind(button.kind) for button in template.buttons]
    has_variable = [bool(find_placeholders(button.url)) for button in template.buttons]
    wanted = [
        at for at, kind in enumerate(kinds) if kind.needs == "value" or (kind.needs == "variable" and has_variable[at])
    ]
    takes = {at: kind.filled_by for at, kind in enumerate(kinds) if at in wanted or kind.needs == "choice"}
    for place, button in enumerate(route.buttons):
        path: Path = ("routes", route.name, "buttons", place)
        there = takes.get(button.index)
        fits = [at for at, key in takes.items() if key == button.kind]
        if there is not None and there != button.kind:
            what = f"is filled with {there}, not with {button.kind}"
            findings.error((*path, button.kind), f'button {button.index} of template "{template.id}" {what}', at="key")
        elif there is None:
            what = "has no variable URL" if button.kind == "url" else f"takes no {button.kind}"
            hint = f"write index: {fits[0]}" if len(fits) == 1 else ""
            findings.error((*path, "index"), f'button {button.index} of template "{template.id}" {what}', hint)
    missing = [at for at in wanted if at not in {button.index for button in route.buttons}]
    if missing:
        urls = [str(at) for at in missing if takes[at] == "url"]
        has = [f"a variable URL in button {', '.join(urls)}"] if urls else []
        has += [f"a button {at} that needs {takes[at]}" for at in missing if takes[at] != "url"]
        message = f'template "{template.id}" has {" and ".join(has)}, and the route gives none'
        hint = "…, url: …" if urls else f"{missing[0]}, {takes[missing[0]]}: …"
        findings.error(("routes", route.name, "template"), message, f"add buttons: [{{index: {hint}}}]")
