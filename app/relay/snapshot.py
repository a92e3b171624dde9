"""One checked version of the YAML, with what is built from it: swapped whole, never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ConfigError
from app.mapping.parse import Parsed, parse_config
from app.mapping.problems import Problem, format_problem
from app.mapping.rules import Config, RouteTable
from app.mapping.template import Templates
from app.mapping.template_entries import ParsedTemplates, parse_templates
from app.providers import build_provider, settings_types
from app.providers.base import Provider
from app.settings import Settings

_LONGEST_FILE = 262_144


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rules in force: the config, its routes by topic, its providers by name, its templates."""

    config: Config
    table: RouteTable
    providers: Mapping[str, Provider]
    templates: Templates


@dataclass(frozen=True, slots=True)
class Sources:
    """The YAML and the templates beside it ("" if there are none) as text, with the names that messages give them."""

    name: str
    text: str
    templates_name: str
    templates_text: str


def read_sources(settings: Settings) -> Sources:
    """Return the texts in force; raises ConfigError if one cannot be read."""
    templates_path = settings.config.parent / "templates.yaml"
    templates_text = read_text(templates_path) if templates_path.is_file() else ""
    text = settings.config_yaml or read_text(settings.config, "; set RELAY_CONFIG or --config to your YAML file")
    return Sources(name_source(settings), text, str(templates_path), templates_text)


def name_source(settings: Settings) -> str:
    """Return what messages call the YAML: its path, or the setting that holds it."""
    return "RELAY_CONFIG_YAML" if settings.config_yaml else str(settings.config)


def read_text(path: Path, cure: str = "", longest: int = _LONGEST_FILE) -> str:
    """Return the text of a file, at most a byte longer than `longest`; raises ConfigError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(longest + 1).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){cure}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def parse_sources(sources: Sources, environment: Mapping[str, str]) -> tuple[Parsed, ParsedTemplates]:
    """Return the parsed YAML and the templates beside it, each with every problem."""
    templates = parse_templates(sources.templates_text)
    return parse_text(sources, environment, templates.templates), templates


def parse_text(
    sources: Sources,
    environment: Mapping[str, str],
    templates: Templates,
    listed: Collection[str] = (),
    recorded: Mapping[str, Collection[str]] | None = None,
) -> Parsed:
    """Return the parsed YAML, held against `templates`. `listed` and `recorded`: see parse_config."""
    return parse_config(
        sources.text,
        name=sources.name,
        environment=environment,
        provider_types=settings_types(),
        templates=templates,
        listed=listed,
        recorded=recorded,
    )


def load_snapshot(settings: Settings, environment: Mapping[str, str]) -> tuple[Snapshot, list[Problem]]:
    """Return the rules in force and their warnings; raises ConfigError with every problem at once.

    Stricter than `check`: a `${NAME}` that nothing sets is refused here, since a request built from it fails.
    """
    sources = read_sources(settings)
    parsed, templates = parse_sources(sources, environment)
    problems = [replace(problem, severity="error") if problem.unset else problem for problem in parsed.problems]
    fatal = list_errors(sources.name, problems) + list_errors(sources.templates_name, list_template_problems(templates))
    if fatal or parsed.config is None:
        raise ConfigError(f"{sources.name} cannot be used:\n" + "\n".join(fatal))
    return build_snapshot(parsed.config, templates.templates), problems


def list_template_problems(templates: ParsedTemplates) -> list[Problem]:
    """Return the problems of the templates as those of the YAML are."""
    parts = [problem.split(":", 2) for problem in templates.problems]
    return [Problem("error", int(line), int(column), message.strip()) for line, column, message in parts]


def list_errors(name: str, problems: Iterable[Problem]) -> list[str]:
    """Return the errors among the problems of a file, a line each."""
    return [format_problem(name, problem) for problem in problems if problem.severity == "error"]


def build_snapshot(config: Config, templates: Templates) -> Snapshot:
    """Return what a checked config is used through."""
    providers = {name: build_provider(settings) for name, settings in config.providers.items()}
    return Snapshot(config, RouteTable(config.routes), providers, templates)
