"""One checked version of the YAML, with what is built from it: swapped whole, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.config import Config, Parsed, Problem, format_problem, parse_config
from app.core.routing import RouteTable
from app.core.templates import Templates, parse_templates
from app.errors import ConfigError
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


def read_sources(settings: Settings) -> tuple[str, str, str]:
    """Return (name, text, templates text) of the YAML in force; raises ConfigError if it cannot be read."""
    templates_path = settings.config.parent / "templates.yaml"
    templates = templates_path.read_text(encoding="utf-8") if templates_path.is_file() else ""
    if settings.config_yaml:
        return "RELAY_CONFIG_YAML", settings.config_yaml, templates
    try:
        text = settings.config.read_bytes()[: _LONGEST_FILE + 1].decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{settings.config}: cannot be read ({error.strerror}); set RELAY_CONFIG or --config to your YAML file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{settings.config}: is not UTF-8 text") from None
    return str(settings.config), text, templates


def parse_sources(
    name: str, text: str, templates_text: str, environment: Mapping[str, str]
) -> tuple[Parsed, Templates]:
    """Return the parsed YAML with every problem, and the templates beside it."""
    templates = parse_templates(templates_text)
    parsed = parse_config(
        text, name=name, environment=environment, provider_types=settings_types(), templates=templates.templates
    )
    return parsed, templates.templates


def load_snapshot(settings: Settings, environment: Mapping[str, str]) -> tuple[Snapshot, list[Problem]]:
    """Return the rules in force and their warnings; raises ConfigError with every problem at once.

    Stricter than `check`: a `${NAME}` that nothing sets is refused here, since a request built from it fails.
    """
    name, text, templates_text = read_sources(settings)
    parsed, templates = parse_sources(name, text, templates_text, environment)
    fatal = [problem for problem in parsed.problems if problem.severity == "error" or problem.unset]
    if fatal or parsed.config is None:
        listed = "\n".join(format_problem(name, problem) for problem in fatal)
        raise ConfigError(f"{name} cannot be used:\n{listed}")
    return build_snapshot(parsed.config, templates), [p for p in parsed.problems if p.severity == "warning"]


def build_snapshot(config: Config, templates: Templates) -> Snapshot:
    """Return what a checked config is used through."""
    providers = {name: build_provider(settings) for name, settings in config.providers.items()}
    return Snapshot(config, RouteTable(config.routes), providers, templates)
