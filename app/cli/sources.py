"""The commands about the YAML share this: reading it leniently (a warning stops nothing) and printing problems."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from app.authoring.examples import Recorded, read_recorded
from app.errors import ConfigError, Refusal, RelayError
from app.files import read_bytes
from app.mapping.rules import Config
from app.mapping.template import Templates
from app.model.event import Event
from app.providers import PROVIDER_TYPES
from app.relay.reload import Reading, Sources, read_rules, read_sources, read_text
from app.settings import read_environment, read_settings
from app.sources import SOURCE
from app.sources.base import parse_body
from app.sources.properties import find_notes
from app.values.text import list_paths

_LONGEST_RECORDED = 16 * 1024 * 1024
_LONGEST_EVENT = 1024 * 1024


def read_yaml(path: Path | None, environment: Mapping[str, str] | None = None) -> Reading:
    """Return the YAML of `path`, else of the settings, whatever is wrong in it; raises ConfigError if unreadable."""
    environment = read_environment() if environment is None else environment
    settings = read_settings(environment)
    if path is not None:
        settings = settings.model_copy(update={"config": path, "config_yaml": ""})
    return read_rules(read_sources(settings), environment, PROVIDER_TYPES)


def read_again(
    read: Reading, environment: Mapping[str, str], live: Templates, listed: Collection[str], recorded: Recorded
) -> Reading:
    """Return the same YAML held against the templates that the `listed` providers have now, and recorded events."""
    seen = {topic: {path for event in events for path in list_paths(event)} for topic, events in recorded.items()}
    return read_rules(read.sources, environment, PROVIDER_TYPES, live=live, listed=listed, recorded=seen)


def read_recordings(sources: Sources) -> Recorded:
    """Return the events in recorded.json beside the YAML, none if there is no such file; raises ConfigError."""
    path = find_recordings(sources)
    if not path.is_file():
        return {}
    recorded = read_recorded(read_text(path, longest=_LONGEST_RECORDED))
    if recorded is None:
        raise ConfigError(f"{path}: is not what `nector-relay examples pull` writes; pull again, or remove it")
    return recorded


def find_recordings(sources: Sources) -> Path:
    """Return where recorded events are kept: beside the YAML, as the templates are."""
    return Path(sources.templates_name).with_name("recorded.json")


def read_config(path: Path | None, environment: Mapping[str, str] | None = None) -> tuple[Config, Templates]:
    """Return a YAML file that has no error; raises ConfigError with all that it has."""
    read = read_yaml(path, environment)
    return read.use(), read.templates.templates


def read_event(source: str, topic: str | None, now: int) -> Event:
    """Return the event in a JSON file, or on stdin for `-`; `topic` wins over the file's. Raises RelayError."""
    named, payload = read_webhook(source)
    if not (topic := topic or named):
        raise RelayError(f"{source} holds a body without its topic: add --topic, e.g. --topic coupon_create")
    return make_event(topic, payload, now)


def read_webhook(source: str) -> tuple[str | None, Mapping[str, Any]]:
    """Return (topic, body) of a JSON file, or of stdin for `-`.

    The file holds the webhook's body, and no topic then; or `{"topic": …, "payload": {…}}`. Raises RelayError
    saying what is wrong.
    """
    try:
        body = sys.stdin.buffer.read() if source == "-" else read_bytes(Path(source), _LONGEST_EVENT)
    except OSError as error:
        raise RelayError(f"{source}: cannot be read ({error.strerror})") from None
    payload = parse_body(body)
    if isinstance(payload, Refusal):
        raise RelayError(f"{source}: {payload.detail}")
    topic, inner = payload.get("topic"), payload.get("payload")
    if isinstance(topic, str) and isinstance(inner, dict):
        return topic, inner
    return None, payload


def make_event(topic: str, payload: Mapping[str, Any], now: int) -> Event:
    """Return an event that never came over the wire."""
    body = json.dumps(payload, default=str).encode()
    notes = find_notes(SOURCE.find_model(SOURCE.canonical_topic(topic)), payload)
    return Event("example", SOURCE.name, topic, None, body, payload, now, notes=notes)
