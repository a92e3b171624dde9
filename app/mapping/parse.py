"""The YAML file as values: what an entry may hold, and the whole once it is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.mapping.checks import check_providers, check_routes
from app.mapping.document import read_document
from app.mapping.environment import fill_environment, report_literal_secrets
from app.mapping.expression import ExpressionCompiler
from app.mapping.fields import DefaultsFields, FileFields, RecipientFields, RouteFields, StoreFields
from app.mapping.findings import Findings, check_name, report_empty
from app.mapping.parts import ButtonSource, VariableSource
from app.mapping.problems import Path, Problem, ask_similar, quote_all, sort_problems
from app.mapping.provider import ProviderSettings
from app.mapping.rules import Config, Example, Route, Store
from app.mapping.template import Template, Templates, measure_room
from app.sources import SOURCE
from app.values.duration import parse_duration, parse_live_from
from app.values.phone import to_one_form


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's Config, None if any problem is an error, and its problems in the file's order."""

    config: Config | None
    problems: tuple[Problem, ...]


def parse_config(
    text: str,
    *,
    name: str,  # noqa: ARG001 -- the caller prints it; kept so that every reading says what it reads
    environment: Mapping[str, str],
    provider_types: Mapping[str, type[ProviderSettings]],
    templates: Templates,
    listed: Collection[str] = (),
    recorded: Mapping[str, Collection[str]] | None = None,
) -> Parsed:
    """Return the YAML as a checked Config with every problem at once. Never raises.

    `listed`: providers of which `templates` holds every template there is. `recorded`: by topic, the dotted paths
    that real events held.
    """
    document = read_document(text)
    findings = Findings(document)
    if document.data is None:
        return Parsed(None, sort_problems(findings.problems))
    report_literal_secrets(_section(document.data, "providers"), findings)
    data = fill_environment(document.data, environment, findings)
    # Of what is written: the environment's values stay out, as a hash of a secret is a clue to it.
    version = hashlib.sha256(f"{text}\n{sorted(templates.items())!r}".encode(errors="replace")).hexdigest()[:12]
    config = _read_file(data, provider_types, templates, findings, version, listed, recorded)
    return Parsed(None if findings.has_errors() else config, sort_problems(findings.problems))


def _read_file(
    data: dict[str, Any],
    provider_types: Mapping[str, type[ProviderSettings]],
    templates: Templates,
    findings: Findings,
    version_hash: str,
    listed: Collection[str],
    recorded: Mapping[str, Collection[str]] | None,
) -> Config:
    report_empty(data, findings)
    # Sections come one by one below: here only their being there and their kind are checked.
    head = {key: {} if key in _SECTIONS and isinstance(value, dict) else value for key, value in data.items()}
    file = findings.validate(FileFields, head, ())
    store = _read_store(_section(data, "store"), findings)
    providers = _read_providers(data, provider_types, findings)
    routes = _read_routes(data, store, providers, templates, findings)
    check_routes(routes, store, templates, findings, listed, recorded)
    used = {route.provider for route in routes} | _list_named_providers(data)
    if not findings.has_errors():  # else a route that could not be read may well be the one that uses it
        check_providers(providers, used, findings)
    mode = file.mode if file else "live"
    only = _read_only(file.only) if file else None
    return Config(mode=mode, store=store, providers=providers, routes=tuple(routes), hash=version_hash, only=only)


_SECTIONS = ("store", "providers", "defaults", "routes")


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _read_store(data: Mapping[str, Any], findings: Findings) -> Store:
    fields = findings.validate(StoreFields, data, ("store",)) or StoreFields()
    plain = fields.model_dump(include={"country", "timezone", "locale", "day_ends", "start_lifts"})
    return Store(**plain, landlines=fields.landlines == "allow", stop_words=tuple(fields.stop_words))


def _read_providers(
    data: Mapping[str, Any], provider_types: Mapping[str, type[ProviderSettings]], findings: Findings
) -> dict[str, ProviderSettings]:
    entries = _section(data, "providers")
    if not entries and isinstance(data.get("providers"), dict) and ("providers",) not in findings.document.incomplete:
        findings.error(("providers",), "there are no providers", f"types: {quote_all(provider_types)}", at="key")
    providers = {}
    for name, entry in entries.items():
        path: Path = ("providers", name)
        check_name(name, path, findings)
        if name == SOURCE.name:
            cure = f"/webhooks/{name} is {SOURCE.title}'s own"
            findings.error(path, f'a provider cannot be named "{name}"', cure, at="key")
        settings = _read_provider(entry, path, provider_types, findings)
        if settings is not None:
            providers[name] = settings
    return providers


def _read_provider(
    entry: Any, path: Path, provider_types: Mapping[str, type[ProviderSettings]], findings: Findings
) -> ProviderSettings | None:
    if not isinstance(entry, dict):
        if not findings.is_silenced(path):
            findings.error(path, f'provider "{path[-1]}" must be a mapping', "write `type: …` and its keys below it")
        return None
    if not isinstance(entry.get("type"), str):
        findings.validate(ProviderSettings, {key: entry[key] for key in entry if key == "type"}, path)
        return None
    settings_type = provider_types.get(entry["type"])
    if settings_type is None:
        if not findings.is_silenced((*path, "type")):
            hint = ask_similar(entry["type"], provider_types)
            findings.error((*path, "type"), f'unknown provider type "{entry["type"]}"', hint)
        return None
    # Where only unset variables stand in the way, `check` still wants to run the examples.
    return findings.validate(settings_type, entry, path) or settings_type.model_construct(**entry)


def _list_named_providers(data: Mapping[str, Any]) -> set[str]:
    entries = [_section(data, "defaults"), *_section(data, "routes").values()]
    named = (entry.get("provider") for entry in entries if isinstance(entry, dict))
    return {provider for provider in named if isinstance(provider, str)}


def _read_routes(
    data: Mapping[str, Any],
    store: Store,
    providers: Mapping[str, ProviderSettings],
    templates: Templates,
    findings: Findings,
) -> list[Route]:
    entries = _section(data, "routes")
    if not entries and isinstance(data.get("routes"), dict) and ("routes",) not in findings.document.incomplete:
        findings.error(("routes",), "there are no routes", "nothing would be sent", at="key")
    compiler = ExpressionCompiler(store.country, store.timezone, store.locale, store.landlines)
    # Each expression is compiled once, to be checked and used.
    context: dict[str, Any] = {"compile": cache(compiler.compile), "providers": tuple(_section(data, "providers"))}
    defaults = findings.validate(DefaultsFields, _section(data, "defaults"), ("defaults",), context)
    named = {name: settings.named_variables for name, settings in providers.items()}
    around = Surroundings(defaults or DefaultsFields(), named, templates)
    routes = []
    for name, entry in entries.items():
        path: Path = ("routes", name)
        check_name(name, path, findings)
        if not isinstance(entry, dict):
            if not findings.is_silenced(path):
                findings.error(path, f'route "{name}" must be a mapping', "write `event: …` and its keys below it")
            continue
        fields = findings.validate(RouteFields, entry, path, context)
        route = compile_route(name, fields, entry, around, findings) if fields else None
        if route is not None:
            routes.append(route)
    return routes


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rest of the file that a route depends on. `named`: by provider, whether its API wants variables by name."""

    defaults: DefaultsFields
    named: Mapping[str, bool]
    templates: Templates


def compile_route(
    name: str, fields: RouteFields, data: Mapping[str, Any], around: Surroundings, findings: Findings
) -> Route | None:
    """Return the route; None where a fault, then reported, keeps it from being one. `data`: the same as read."""
    path: Path = ("routes", name)
    provider = _pick(fields, around.defaults, "provider")
    if not provider:
        if "provider" not in data and not findings.is_silenced(("defaults", "provider")):
            findings.error(path, f'"provider" is missing in route "{name}"', "write it here or in defaults:", at="key")
        return None
    _check_buttons(fields.buttons, path, findings)
    place = findings.document.find_place(path).key
    template = around.templates.get((provider, fields.template))
    variables = _name_variables(fields, template, named=around.named.get(provider, False))
    live_from = _pick(fields, around.defaults, "live_from")
    recipient = _pick(fields, around.defaults, "recipient")
    whose = recipient if isinstance(recipient, RecipientFields) else RecipientFields.model_construct(number=recipient)
    return Route(
        name=name,
        topic=SOURCE.canonical_topic(fields.event),
        provider=provider,
        template=fields.template,
        variables=variables,
        when=fields.when,
        recipient=whose.number,
        country=whose.country,
        language=_pick(fields, around.defaults, "language") or None,
        header=fields.header,
        buttons=tuple(fields.buttons),
        offer=fields.limited_time_offer,
        rooms={
            each.language: measure_room(each, [variable.name for variable in variables]) for each in template.versions
        }
        if template
        else {},
        valid_for_ms=parse_duration(_pick(fields, around.defaults, "valid_for")),
        valid_until=fields.valid_until,
        dedup_by=fields.dedup_by,
        on_unknown=_pick(fields, around.defaults, "on_unknown"),
        mode=_pick(fields, around.defaults, "mode"),
        live_from=parse_live_from(live_from) if live_from else None,
        only=_read_only(_pick(fields, around.defaults, "only")),
        priority=_pick(fields, around.defaults, "priority"),
        marketing=template is None or template.category == "MARKETING",
        examples=tuple(_read_examples(fields, data, path, findings)),
        line=place.line,
        column=place.column,
    )


def _read_only(numbers: Sequence[str] | None) -> frozenset[str] | None:
    return None if numbers is None else frozenset(map(to_one_form, numbers))


def _pick(fields: RouteFields, defaults: DefaultsFields, key: str) -> Any:
    """Return the route's own value, else the default's."""
    return getattr(fields if key in fields.model_fields_set else defaults, key)


def _name_variables(fields: RouteFields, template: Template | None, *, named: bool) -> tuple[VariableSource, ...]:
    """Return the variables in the template's order, with its names where the route gives some or the API wants them."""
    wanted = template.variables if template else ()
    if isinstance(fields.variables, dict):
        # An API that counts its variables sees nothing but the order.
        ordered = sorted(fields.variables, key=lambda name: wanted.index(name) if name in wanted else len(wanted))
        return tuple(VariableSource(name, fields.variables[name]) for name in ordered)
    # "1", "2", … where the template is not known or has too few.
    names = [wanted[at] if at < len(wanted) else str(at + 1) for at in range(len(fields.variables))]
    return tuple(VariableSource(names[at] if named else None, each) for at, each in enumerate(fields.variables))


def _check_buttons(buttons: Sequence[ButtonSource], path: Path, findings: Findings) -> None:
    seen: dict[int, int] = {}
    for place, button in enumerate(buttons):
        here: Path = (*path, "buttons", place, "index")
        if button.index in seen:
            first = findings.document.find_place((*path, "buttons", seen[button.index], "index")).value.line
            findings.error(here, f"button {button.index} is given twice", f"the first is on line {first}")
        seen.setdefault(button.index, place)


def _read_examples(fields: RouteFields, data: Mapping[str, Any], path: Path, findings: Findings) -> list[Example]:
    examples = []
    for index, (example, written) in enumerate(zip(fields.examples, data.get("examples") or (), strict=False)):
        mark = findings.document.find_place((*path, "examples", index)).value
        # As read and not as validated: there 199.50 has become 199.5.
        examples.append(Example(written["event"], written.get("sends"), example.hits, example.dead, *mark))
    return examples
