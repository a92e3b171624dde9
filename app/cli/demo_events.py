"""The demo's events: each route's first example, made presentable for any day and told apart by its number."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from app.cli.mapping.sources import make_event
from app.clock import new_uuid7, read_clock
from app.errors import ConfigError
from app.mapping.rules import Config, Route
from app.mapping.template import Templates, print_message, show_message
from app.message.render import render_message
from app.model.message import Message
from app.sources.nector import NUMBER_PATHS

FIRST_NUMBER = 9_800_000_000  # 98000 00000 to 99: example numbers
_DATE = re.compile(r"^(\d{4})(-\d\d-\d\d.*)$")


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """One webhook to post, and the text its customer should see."""

    route: str
    provider: str
    topic: str
    delivery_id: str
    body: bytes
    expected_text: str


def make_events(config: Config, templates: Templates) -> list[DemoEvent]:
    """Return one event for every route; raises ConfigError for a route without an example that sends."""
    return [_make_event(route, number, config, templates) for number, route in enumerate(config.routes)]


def _make_event(route: Route, number: int, config: Config, templates: Templates) -> DemoEvent:
    now = read_clock()
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    # WhatsApp takes one message per recipient every 6 s: a number of its own for each route keeps the demo short.
    payload = _give_number(bring_forward(choose_example(route), today), str(FIRST_NUMBER + number % 100))
    message = render_message(route, make_event(route.topic, payload, now), config.store)
    template = templates.get((route.provider, route.template))
    text = ""
    if isinstance(message, Message) and template is not None:
        text = print_message(show_message(template, message))
    return DemoEvent(route.name, route.provider, route.topic, new_uuid7(now), encode_body(payload), text)


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """Return a webhook's body."""
    return json.dumps(payload, ensure_ascii=False, default=str).encode()


def choose_example(route: Route) -> dict[str, Any]:
    """Return a route's first example that sends; raises ConfigError where it has none."""
    example = next((one for one in route.examples if one.hits and one.dead is None), None)
    if example is None:
        raise ConfigError(f"route {route.name} has no example that sends: add one under its `examples:`")
    return example.event


def bring_forward(value: Any, today: date) -> Any:
    """Return the example with its past dates moved to their next return: what has expired is rightly not sent."""
    match value:
        case dict():
            return {key: bring_forward(item, today) for key, item in value.items()}
        case list():
            return [bring_forward(item, today) for item in value]
        case str() if (found := _DATE.match(value)) and value[:10] <= today.isoformat():
            this_year = f"{today.year}{found[2]}".replace("-02-29", "-02-28")
            return this_year if this_year[:10] > today.isoformat() else f"{today.year + 1}{this_year[4:]}"
        case _:
            return value


def _give_number(payload: dict[str, Any], number: str) -> dict[str, Any]:
    """Return the payload with this mobile wherever it has one."""
    changed = copy.deepcopy(payload)
    for *parents, last in NUMBER_PATHS:
        place: Any = changed
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place:
            place[last] = number
    return changed
