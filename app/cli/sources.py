"""What the commands about the YAML share: reading it leniently (a warning stops nothing) and printing problems."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.core.config import Config, Parsed, format_problem
from app.core.models import Event
from app.core.nector import BodyFault, parse_body
from app.core.templates import Templates
from app.errors import ConfigError, RelayError
from app.settings import Settings, read_environment, read_settings
from app.snapshot import parse_sources, read_sources


def read_yaml(path: Path | None) -> tuple[str, Parsed, Templates]:
    """Return (name, parsed YAML, templates) of `path`, else of the settings; raises ConfigError if unreadable."""
    environment = read_environment()
    settings = _settings_for(path, environment)
    name, text, templates_text = read_sources(settings)
    parsed, templates = parse_sources(name, text, templates_text, environment)
    return name, parsed, templates


def read_config(path: Path | None) -> tuple[Config, Templates]:
    """Return a YAML file that has no error; raises ConfigError with all that it has."""
    name, parsed, templates = read_yaml(path)
    if parsed.config is None:
        errors = [format_problem(name, problem) for problem in parsed.problems if problem.severity == "error"]
        raise ConfigError(f"{name} cannot be used:\n" + "\n".join(errors))
    return parsed.config, templates


def read_event(source: str, topic: str | None, now: int) -> Event:
    """Return the event in a JSON file, or on stdin for `-`.

    The file holds the webhook's body; or `{"topic": …, "payload": {…}}`. Raises RelayError saying what is wrong.
    """
    try:
        body = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise RelayError(f"{source}: cannot be read ({error.strerror})") from None
    payload = parse_body(body)
    if isinstance(payload, BodyFault):
        raise RelayError(f"{source}: {payload.detail}")
    inner = payload.get("payload")
    if isinstance(inner, dict) and isinstance(payload.get("topic"), str):
        topic, payload = topic or payload["topic"], inner
    if not topic:
        raise RelayError(f"{source} holds a body without its topic: add --topic, e.g. --topic coupon_create")
    return make_event(topic, payload, now)


def make_event(topic: str, payload: Mapping[str, Any], now: int) -> Event:
    """Return an event that never came over the wire."""
    return Event("example", "nector", topic, None, json.dumps(payload, default=str).encode(), payload, now)


def _settings_for(path: Path | None, environment: Mapping[str, str]) -> Settings:
    settings = read_settings(environment)
    return settings if path is None else settings.model_copy(update={"config": path, "config_yaml": ""})
