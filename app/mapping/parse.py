"""The YAML file as values: what an entry may hold, and the whole once it is checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.mapping.checks import check_providers, check_routes
from app.mapping.document import read_document
from app.mapping.fields import ButtonSource, Fields, VariableSource
from app.mapping.findings import Findings, check_name, report_empty
from app.mapping.grammar import ExpressionCompiler
from app.mapping.problems import Path, Problem, ask_similar, list_leaves, quote_all, sort_problems
from app.mapping.provider import ProviderSettings, is_secret_key
from app.mapping.rules import Config, DefaultsFields, Example, ExampleFields, FileFields, Route, RouteFields, Store
from app.mapping.template import Template, Templates, measure_room
from app.sources import SOURCE

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
_PLACEHOLDER = re.compile(r"\$[a-z_]+")  # in a provider's `body:`, see providers/mapping.py


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
    _report_literal_secrets(_section(document.data, "providers"), findings)
    data = _fill_environment(document.data, environment, findings)
    # Of what is written: the environment's values stay out, as a hash of a secret is a clue to it.
    version = hashlib.sha256(f"{text}\n{sorted(templates.items())!r}".encode(errors="replace")).hexdigest()[:12]
    config = _read_file(data, provider_types, templates, findings, version, listed, recorded)
    return Parsed(None if findings.has_errors() else config, sort_problems(findings.problems))


def _fill_environment(data: dict[str, Any], environment: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    """Return `data` with `${NAME}` and `${NAME:-default}` filled; `$${` stays `${`, and what is not set `${NAME}`.

    Filling parsed values and not the file's text means that nothing in a variable can add a key or a route.
    """
    filled: dict[str, Any] = _fill_value(data, (), environment, findings)
    return filled


def _fill_value(value: Any, path: Path, environment: Mapping[str, str], findings: Findings) -> Any:
    match value:
        case dict():
            return {key: _fill_value(item, (*path, key), environment, findings) for key, item in value.items()}
        case list():
            return [_fill_value(item, (*path, index), environment, findings) for index, item in enumerate(value)]
        case str() if "${" in value:
            return _REFERENCE.sub(lambda found: _fill_reference(found, path, environment, findings), value)
        case _:
            return value


def _fill_reference(found: re.Match[str], path: Path, environment: Mapping[str, str], findings: Findings) -> str:
    name, default = found.groups()
    if found[0] == "$${":
        return "${"
    if name is None:
        hint = "write ${NAME}, ${NAME:-default}, or $${ for the text ${"
        findings.error(path, "this ${…} cannot be read", hint)
        return found[0]
    # As in a shell, `:-` also stands in for a variable that is set and empty.
    value = environment.get(name, "") or default
    if value is not None:
        return value.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as half characters
    message = f"the environment variable {name} is not set"
    hint = f"a property of the event is written without ${{ }}: {name}" if path[0] == "routes" else ""
    mark = findings.document.find_place(path).value
    findings.problems.append(Problem("warning", *mark, message, hint, unset=True))
    findings.silence(path)
    return found[0]


def _report_literal_secrets(providers: Mapping[str, Any], findings: Findings) -> None:
    """Report every secret of `providers:` that is written into the file. The text itself is never told."""
    for path, value in list_leaves(providers, ("providers",)):
        if is_secret_key(path) and not _is_from_environment(value):
            key = next(key for key in reversed(path) if isinstance(key, str))
            variable = re.sub(r"[^A-Z0-9]+", "_", f"{path[1]}_{key}".upper())
            findings.error(path, f'"{path[-1]}": a secret must come from the environment', f"write ${{{variable}}}")
            findings.silence(path)


def _is_from_environment(value: Any) -> bool:
    """Tell whether a raw value leaves the secret to the environment (a default would be a literal, too)."""
    if not value or value is True:
        return True  # nothing that could be a secret; the type's own check speaks
    if not isinstance(value, str):
        return False
    references = [found for found in _REFERENCE.finditer(value) if found[1]]
    if any(found[2] for found in references):
        return False
    return bool(references) or _PLACEHOLDER.fullmatch(value) is not None


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
    store = findings.validate(Store, _section(data, "store"), ("store",)) or Store()
    providers = _read_providers(data, provider_types, findings)
    routes = _read_routes(data, store, providers, templates, findings)
    check_routes(routes, store, templates, findings, listed, recorded)
    used = {route.provider for route in routes} | _list_named_providers(data)
    if not findings.has_errors():  # else a route that could not be read may well be the one that uses it
        check_providers(providers, used, findings)
    mode = file.mode if file else "live"
    only = file.only if file else None
    return Config(mode=mode, store=store, providers=providers, routes=tuple(routes), hash=version_hash, only=only)


_SECTIONS = ("store", "providers", "defaults", "routes")


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


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
    routes = []
    for name, entry in entries.items():
        path: Path = ("routes", name)
        check_name(name, path, findings)
        if not isinstance(entry, dict):
            if not findings.is_silenced(path):
                findings.error(path, f'route "{name}" must be a mapping', "write `event: …` and its keys below it")
            continue
        fields = findings.validate(RouteFields, entry, path, context)
        given = _list_given(defaults) | _list_given(fields)
        if fields is None or not _has_provider(given, entry, path, findings):
            continue
        template = templates.get((given["provider"], fields.template))
        routes.append(_make_route(given, entry, path, template, findings, named=named.get(given["provider"], False)))
    return routes


def _list_given(fields: Fields | None) -> dict[str, Any]:
    return {key: getattr(fields, key) for key in fields.model_fields_set} if fields else {}


def _has_provider(given: Mapping[str, Any], entry: Mapping[str, Any], path: Path, findings: Findings) -> bool:
    if given.get("provider"):
        return True
    if "provider" not in entry and not findings.is_silenced(("defaults", "provider")):
        message = f'"provider" is missing in route "{path[-1]}"'
        findings.error(path, message, "write it here or in defaults:", at="key")
    return False


def _make_route(
    given: Mapping[str, Any],
    entry: Mapping[str, Any],
    path: Path,
    template: Template | None,
    findings: Findings,
    *,
    named: bool,
) -> Route:
    """Return the route of what it and the defaults give. `named`: its provider's API wants variables by name."""
    _check_buttons(given.get("buttons", ()), path, findings)
    variables = _name_variables(given.get("variables", ()), template.variables if template else (), named=named)
    names = [variable.name for variable in variables]
    of_template = {
        "rooms": {each.language: measure_room(each, names) for each in template.versions} if template else {},
        "marketing": template is None or template.category == "MARKETING",
    }
    place = findings.document.find_place(path).key
    of_entry = {
        "name": path[-1],
        "variables": variables,
        "examples": tuple(_read_examples(given.get("examples", ()), entry, path, findings)),
        "line": place.line,
        "column": place.column,
    }
    return Route.model_construct(**{**given, **of_template, **of_entry})


def _name_variables(
    variables: Sequence[VariableSource], wanted: Sequence[str], *, named: bool
) -> tuple[VariableSource, ...]:
    """Return the variables in the template's order, with its names where the route gives some or the API wants them."""
    if any(variable.name is not None for variable in variables):
        # An API that counts its variables sees nothing but the order.
        order = {name: place for place, name in enumerate(wanted)}
        return tuple(sorted(variables, key=lambda variable: order.get(variable.name or "", len(wanted))))
    # "1", "2", … where the template is not known or has too few.
    names = [wanted[at] if at < len(wanted) else str(at + 1) for at in range(len(variables))]
    return tuple(VariableSource(names[at] if named else None, each.source) for at, each in enumerate(variables))


def _check_buttons(buttons: Sequence[ButtonSource], path: Path, findings: Findings) -> None:
    seen: dict[int, int] = {}
    for place, button in enumerate(buttons):
        here: Path = (*path, "buttons", place, "index")
        if button.index in seen:
            first = findings.document.find_place((*path, "buttons", seen[button.index], "index")).value.line
            findings.error(here, f"button {button.index} is given twice", f"the first is on line {first}")
        seen.setdefault(button.index, place)


def _read_examples(
    examples: Sequence[ExampleFields], entry: Mapping[str, Any], path: Path, findings: Findings
) -> Iterator[Example]:
    for index, (example, written) in enumerate(zip(examples, entry.get("examples") or (), strict=False)):
        mark = findings.document.find_place((*path, "examples", index)).value
        # As read and not as validated: there 199.50 has become 199.5.
        as_read = {"event": written["event"], "sends": written.get("sends"), "line": mark.line, "column": mark.column}
        yield Example.model_construct(**_list_given(example) | as_read)
