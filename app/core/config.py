"""The YAML file as values: what an entry may hold, and the whole once it is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from app.core.checking import check_providers, check_routes
from app.core.compiling import Surroundings, compile_route
from app.core.countries import to_country
from app.core.document import read_document
from app.core.durations import parse_duration, parse_rate
from app.core.environment import fill_environment, find_literal_secrets
from app.core.expressions import Expression, ExpressionCompiler
from app.core.fields import DefaultsFields, FileFields, RouteFields, StoreFields
from app.core.findings import Findings
from app.core.naming import check_name, report_empty
from app.core.problems import Path, Problem, ask_similar, format_problem, quote_all, sort_problems
from app.core.routing import Route
from app.core.templates import Templates

__all__ = ["Config", "Parsed", "Problem", "ProviderSettings", "Store", "format_problem", "parse_config"]


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


def _check_timeout(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError("must be more than 0s")
    return text


class ProviderSettings(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """What every `providers:` entry may hold, beside its type's own keys."""

    named_variables: ClassVar[bool] = False  # True: its API wants template variables by name

    type: str = Field(description="The provider's type.")
    rate: Annotated[str, AfterValidator(_check_rate)] = Field(
        "16/s", description="At most so many messages in a time: 16/s, 1000/min.", examples=["16/s", "1000/min"]
    )
    concurrency: int = Field(64, ge=1, le=1000, description="At most so many requests at once.")
    timeout: Annotated[str, AfterValidator(_check_timeout)] = Field(
        "10s",
        description="How long a request may take; after that nobody knows whether it was sent.",
        examples=["10s", "30s"],
    )
    treat_500_as: Literal["retry", "unknown"] = Field(
        "retry", description="What an answer 500 means: surely not sent (retry), or perhaps sent (unknown)."
    )

    @property
    def address(self) -> str:
        """Where the provider's API stands, "" for a type that has no URL."""
        return ""

    @property
    def rate_per_s(self) -> float:
        """Messages per second."""
        return parse_rate(self.rate)

    @property
    def timeout_ms(self) -> int:
        """How long a request may take, in ms."""
        return parse_duration(self.timeout)


@dataclass(frozen=True, slots=True)
class Store:
    """The merchant: how to read a number without a country code, and how to write money and dates."""

    country: str = "IN"  # ISO 3166 alpha-2
    timezone: str = "Asia/Kolkata"
    locale: str = "en_IN"
    stop_words: tuple[str, ...] = ()  # beside those of core.opting


@dataclass(frozen=True, slots=True)
class Config:
    """A checked YAML file. `hash` names this version of it in deliveries, metrics and /readyz.

    `only`: the numbers (E.164) that get messages; None: everybody.
    """

    mode: str
    store: Store
    providers: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    hash: str
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file came to: `config` is None if any problem is an error. Problems are in the file's order."""

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
    findings = Findings(document, document.problems)
    if document.data is None:
        return Parsed(None, sort_problems(findings.problems))
    providers_section = document.data.get("providers")
    for path, problem in find_literal_secrets(
        document, providers_section if isinstance(providers_section, dict) else {}
    ):
        findings.problems.append(problem)
        findings.silence(path)
    filled = fill_environment(document, document.data, environment)
    findings.problems.extend(filled.problems)
    for path in filled.unset:
        findings.silence(path)
    config = _read_file(
        filled.data, provider_types, templates, findings, _hash_sources(text, templates), listed, recorded
    )
    return Parsed(None if findings.has_errors() else config, sort_problems(findings.problems))


def _hash_sources(text: str, templates: Templates) -> str:
    """Name a version by what is written; the environment's values stay out, as a hash of a secret is a clue to it."""
    return hashlib.sha256(f"{text}\n{sorted(templates.items())!r}".encode(errors="replace")).hexdigest()[:12]


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
    check_routes(routes, templates, findings, listed, recorded)
    used = {route.provider for route in routes} | _list_named_providers(data)
    if not findings.has_errors():  # else a route that could not be read may well be the one that uses it
        check_providers(providers, used, findings)
    mode = file.mode if file else "live"
    only = frozenset(file.only) if file and file.only is not None else None
    return Config(mode=mode, store=store, providers=providers, routes=tuple(routes), hash=version_hash, only=only)


_SECTIONS = ("store", "providers", "defaults", "routes")


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _read_store(data: Mapping[str, Any], findings: Findings) -> Store:
    fields = findings.validate(StoreFields, data, ("store",)) or StoreFields()
    country = to_country(fields.country) or "IN"
    return Store(country, fields.timezone, fields.locale, tuple(fields.stop_words))


# -- providers ------------------------------------------------------------------------------------


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
        if name == "nector":
            findings.error(path, 'a provider cannot be named "nector"', "/webhooks/nector is Nector's own", at="key")
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


# -- routes ---------------------------------------------------------------------------------------


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
    context = {"compile": _remember(ExpressionCompiler(store.country, store.timezone, store.locale))}
    context["providers"] = tuple(_section(data, "providers"))
    defaults = findings.validate(DefaultsFields, _section(data, "defaults"), ("defaults",), context)
    named = {name: settings.named_variables for name, settings in providers.items()}
    around = Surroundings(context["compile"], defaults or DefaultsFields(), named, templates)
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


def _remember(compiler: ExpressionCompiler) -> Any:
    """Return `compile` with a memory: an expression is compiled once to be checked and used."""
    compiled: dict[str, Expression] = {}

    def compile_once(source: str) -> Expression:
        if source not in compiled:
            compiled[source] = compiler.compile(source)
        return compiled[source]

    return compile_once
