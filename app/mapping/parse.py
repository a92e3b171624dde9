"""The YAML file is read, filled from the environment and checked, and becomes a Config."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

from app.mapping import Path, Problem, ask_similar, list_leaves, quote_all, sort_problems
from app.mapping.checks import check_providers, check_routes
from app.mapping.document import read_document
from app.mapping.fields import ButtonSource, Fields, VariableSource
from app.mapping.findings import Findings, check_name, report_empty
from app.mapping.grammar import ExpressionCompiler
from app.mapping.provider import ProviderSettings, is_secret_key
from app.mapping.rules import Config, DefaultsFields, Example, FileFields, Route, RouteFields, Store
from app.mapping.template import Template, Templates, measure_room
from app.model.message import NO_LIMITS, Limits
from app.model.value import dataclass
from app.sources import SOURCE

REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
_SECTIONS = ("store", "providers", "defaults", "routes")
_PLACEHOLDER = re.compile(r"\$[a-z_]+")  # in a provider's `body:`, see providers/request.py


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's Config, None if any problem is an error, and its problems in the file's order."""

    config: Config | None
    problems: tuple[Problem, ...]


def parse_config(
    text: str,
    *,
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
    # A name that is right elsewhere in the file is not the one that was meant here.
    used = {found[1] for found in REFERENCE.finditer(text)}
    spare = [name for name, value in environment.items() if value and name not in used]
    fill = partial(_fill_reference, environment=environment, spare=spare, findings=findings)
    data = _fill_value(document.data, (), fill)
    report_empty(data, findings)
    # Sections come one by one below: here only their being there and their kind are checked.
    head = {key: {} if key in _SECTIONS and isinstance(value, dict) else value for key, value in data.items()}
    file = findings.validate(FileFields, head, ())
    store = findings.validate(Store, _section(data, "store"), ("store",)) or Store()
    providers = _read_providers(data, provider_types, findings)
    routes = tuple(_read_routes(data, store, providers, templates, findings))
    check_routes(routes, store, templates, findings, listed, recorded)
    if not findings.has_errors():  # else a route that could not be read may well be the one that uses it
        check_providers(providers, {route.provider for route in routes} | _list_named_providers(data), findings)
    problems = sort_problems(findings.problems)
    if findings.has_errors() or file is None:
        return Parsed(None, problems)
    # Of what is written: the environment's values stay out, as a hash of a secret is a clue to it.
    version = hashlib.sha256(f"{text}\n{sorted(templates.items())!r}".encode(errors="replace")).hexdigest()[:12]
    own = {route.name: (route.limits.person, route.limits.route) for route in routes if route.limits.model_fields_set}
    whole = file.limits
    limits = Limits(whole.person, whole.route, whole.all, own) if own or whole.model_fields_set else NO_LIMITS
    return Parsed(Config(file.mode, store, providers, routes, version, file.only, limits), problems)


def _fill_value(value: Any, path: Path, fill: Callable[[re.Match[str], Path], str]) -> Any:
    """Return `value` with `${NAME}` and `${NAME:-default}` filled; `$${` stays `${`, and what is not set `${NAME}`.

    Filling parsed values and not the file's text means that nothing in a variable can add a key or a route.
    """
    match value:
        case dict():
            return {key: _fill_value(item, (*path, key), fill) for key, item in value.items()}
        case list():
            return [_fill_value(item, (*path, index), fill) for index, item in enumerate(value)]
        case str() if "${" in value:
            return REFERENCE.sub(lambda found: fill(found, path), value)
        case _:
            return value


def _fill_reference(
    found: re.Match[str], path: Path, environment: Mapping[str, str], spare: Sequence[str], findings: Findings
) -> str:
    name, default = found.groups()
    if found[0] == "$${":
        return "${"
    if name is None:
        findings.error(path, "this ${…} cannot be read", "write ${NAME}, ${NAME:-default}, or $${ for the text ${")
        return found[0]
    # As in a shell, `:-` also stands in for a variable that is set and empty.
    value = environment.get(name, "") or default
    if value is not None:
        return value.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as half characters
    message = f"the environment variable {name} is not set"
    hint = f"a property of the event is written without ${{ }}: {name}" if path[0] == "routes" else ""
    hint = hint or ask_similar(name, spare, "", cutoff=0.75)
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
    references = [found for found in REFERENCE.finditer(value) if found[1]]
    if any(found[2] for found in references):
        return False
    return bool(references) or _PLACEHOLDER.fullmatch(value) is not None


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _read_providers(
    data: Mapping[str, Any], provider_types: Mapping[str, type[ProviderSettings]], findings: Findings
) -> dict[str, ProviderSettings]:
    providers = {}
    for path, entry in _list_entries(data, "providers", f"types: {quote_all(provider_types)}", findings):
        type_ = entry.get("type")
        if not isinstance(type_, str):
            findings.validate(ProviderSettings, {key: entry[key] for key in entry if key == "type"}, path)
        elif (settings_type := provider_types.get(type_)) is not None:
            settings = findings.validate(settings_type, entry, path)
            # Where only unset variables stand in the way, `check` still wants to run the examples.
            providers[str(path[-1])] = settings or settings_type.model_construct(**entry)
        elif not findings.is_silenced((*path, "type")):
            hint = ask_similar(type_, provider_types)
            findings.error((*path, "type"), f'unknown provider type "{type_}"', hint)
    return providers


def _list_entries(
    data: Mapping[str, Any], section: str, none: str, findings: Findings
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the entries of a section that are mappings, with their paths. `none`: what is told where there are none."""
    entries = _section(data, section)
    if not entries and isinstance(data.get(section), dict) and (section,) not in findings.document.incomplete:
        findings.error((section,), f"there are no {section}", none, at="key")
    for name, entry in entries.items():
        path: Path = (section, name)
        check_name(name, path, findings)
        if path == ("providers", SOURCE.name):
            cure = f"/webhooks/{name} is {SOURCE.title}'s own"
            findings.error(path, f'a provider cannot be named "{name}"', cure, at="key")
        if isinstance(entry, dict):
            yield path, entry
        elif not findings.is_silenced(path):
            first = "type" if section == "providers" else "event"
            message = f'{section.removesuffix("s")} "{name}" must be a mapping'
            findings.error(path, message, f"write `{first}: …` and its keys below it")


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
) -> Iterator[Route]:
    compiler = ExpressionCompiler(store.country, store.timezone, store.locale, store.landlines)
    # Each expression is compiled once, to be checked and used.
    context: dict[str, Any] = {"compile": cache(compiler.compile), "providers": tuple(_section(data, "providers"))}
    defaults = findings.validate(DefaultsFields, _section(data, "defaults"), ("defaults",), context)
    for path, entry in _list_entries(data, "routes", "nothing would be sent", findings):
        fields = findings.validate(RouteFields, entry, path, context)
        given = _list_given(defaults) | _list_given(fields)
        provider = given.get("provider")
        if fields and not provider and "provider" not in entry and not findings.is_silenced(("defaults", "provider")):
            message = f'"provider" is missing in route "{path[-1]}"'
            findings.error(path, message, "write it here or in defaults:", at="key")
        if fields and provider:
            _check_buttons(fields.buttons, path, findings)
            template = templates.get((provider, fields.template))
            is_named = provider in providers and providers[provider].named_variables
            place = findings.document.find_place(path).key
            examples = tuple(_read_examples(fields, entry, path, findings))
            own = {"name": path[-1], "line": place.line, "column": place.column, "examples": examples}
            yield Route.model_construct(**given | own | _fit_template(fields.variables, template, is_named=is_named))


def _list_given(fields: Fields | None) -> dict[str, Any]:
    return {key: getattr(fields, key) for key in fields.model_fields_set} if fields else {}


def _fit_template(variables: Sequence[VariableSource], template: Template | None, *, is_named: bool) -> dict[str, Any]:
    """Return what a route has of its template. `is_named`: its provider's API wants variables by name."""
    if template is None:
        return {"variables": _name_variables(variables, (), is_named=is_named)}
    named = _name_variables(variables, template.variables, is_named=is_named)
    names = [variable.name for variable in named]
    rooms = {each.language: measure_room(each, names) for each in template.versions}
    return {"variables": named, "rooms": rooms, "marketing": template.category == "MARKETING"}


def _name_variables(
    variables: Sequence[VariableSource], wanted: Sequence[str], *, is_named: bool
) -> tuple[VariableSource, ...]:
    """Return the variables in the template's order, with its names where the route gives some or the API wants them."""
    if any(variable.name is not None for variable in variables):
        # An API that counts its variables sees nothing but the order.
        order = {name: place for place, name in enumerate(wanted)}
        return tuple(sorted(variables, key=lambda variable: order.get(variable.name or "", len(wanted))))
    # "1", "2", … where the template is not known or has too few.
    names = [wanted[at] if at < len(wanted) else str(at + 1) for at in range(len(variables))]
    return tuple(VariableSource(names[at] if is_named else None, each.source) for at, each in enumerate(variables))


def _check_buttons(buttons: Sequence[ButtonSource], path: Path, findings: Findings) -> None:
    seen: dict[int, int] = {}
    for place, button in enumerate(buttons):
        here: Path = (*path, "buttons", place, "index")
        if button.index in seen:
            first = findings.document.find_place((*path, "buttons", seen[button.index], "index")).value.line
            findings.error(here, f"button {button.index} is given twice", f"the first is on line {first}")
        seen.setdefault(button.index, place)


def _read_examples(fields: RouteFields, entry: Mapping[str, Any], path: Path, findings: Findings) -> Iterator[Example]:
    for index, (example, written) in enumerate(zip(fields.examples, entry.get("examples") or (), strict=False)):
        mark = findings.document.find_place((*path, "examples", index)).value
        # As read and not as validated: there 199.50 has become 199.5.
        as_read = {"event": written["event"], "sends": written.get("sends"), "line": mark.line, "column": mark.column}
        yield Example.model_construct(**_list_given(example) | as_read)
