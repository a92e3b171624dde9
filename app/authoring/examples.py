"""Recorded events as `examples:` of the YAML, with what they send today as what is expected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from app.mapping.rules import Config, Hit, Route, match_route
from app.message.render import render_message
from app.model.event import Event
from app.model.message import Message
from app.sources import SOURCE

Recorded = Mapping[str, Sequence[Mapping[str, Any]]]
"""By topic: events with invented values."""


def write_example(route: Route, payload: Mapping[str, Any], config: Config, now: int) -> str:
    """Return an entry for the route's `examples:`, indented to stand there."""
    entry: dict[str, Any] = {"event": payload, **_expect(route, payload, config, now)}
    yaml = YAML()
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.default_flow_style = None
    stream = StringIO()
    yaml.dump([_quote(entry)], stream)
    return "".join(f"      {line}\n" for line in stream.getvalue().splitlines())


def read_recorded(text: str) -> Recorded | None:
    """Return the events of a recorded.json; None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = list(found.values()) if isinstance(found, dict) else [None]
    is_sound = all(isinstance(events, list) and all(isinstance(event, dict) for event in events) for events in lists)
    return found if is_sound else None


def write_recorded(recorded: Recorded) -> str:
    """Return the text of a recorded.json: sorted, an event a line, so that a change is a readable diff."""
    blocks = []
    for topic, events in sorted(recorded.items()):
        lines = sorted(json.dumps(event, ensure_ascii=False, sort_keys=True) for event in events)
        blocks.append(f"  {json.dumps(topic)}: [\n" + ",\n".join(f"    {line}" for line in lines) + "\n  ]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _expect(route: Route, payload: Mapping[str, Any], config: Config, now: int) -> dict[str, Any]:
    event = Event("example", SOURCE.name, route.topic, None, b"", payload, now)
    if not isinstance(match_route(route, event), Hit):
        return {"hits": False}
    message = render_message(route, event, config.store)
    if not isinstance(message, Message):
        return {"dead": message.reason.value}
    variables = [variable.value for variable in message.variables]
    return {"sends": {"to": message.recipient, "variables": variables}}


def _quote(value: Any) -> Any:
    """Quote texts that YAML would read as something else; a number with a + for one."""
    if isinstance(value, Mapping):
        return {name: _quote(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_quote(item) for item in value]
    plain = isinstance(value, str) and value.replace("_", "").isalpha() and value.isascii()
    return value if plain or not isinstance(value, str) else DoubleQuotedScalarString(value)
