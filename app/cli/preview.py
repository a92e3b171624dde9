"""`nector-relay preview`: the message before a customer sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from app.cli.sources import make_event, read_config, read_event
from app.clock import read_clock
from app.core.config import Config
from app.core.models import Event, Message
from app.core.rendering import Unrendered, render_message
from app.core.routing import Route
from app.core.templates import Templates, fill_template, print_message
from app.errors import RelayError


def preview(
    route: Annotated[str | None, typer.Argument(help="A route of the YAML; all of them if left out.")] = None,
    event: Annotated[str | None, typer.Option(help="A JSON file with an event, or - for stdin.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> int:
    """Show each message as the customer sees it: from the routes' examples, or from one event. Exit 1 if one fails."""
    rules, templates = read_config(config)
    right = True
    for chosen in choose_routes(rules, route):
        for example in _events_for(chosen, event):
            message = render_message(chosen, example, rules.store)
            print(f"── {chosen.name}: {chosen.provider} · {chosen.template}")
            print(show_message(message, chosen, templates), end="\n\n")
            right = right and isinstance(message, Message)
    return 0 if right else 1


def choose_routes(config: Config, name: str | None) -> list[Route]:
    """Return the route of this name, or all; raises RelayError naming those there are."""
    routes = [route for route in config.routes if name in (None, route.name)]
    if not routes:
        raise RelayError(f"no route is named {name!r}; there are {', '.join(route.name for route in config.routes)}")
    return routes


def show_message(message: Message | Unrendered, route: Route, templates: Templates) -> str:
    """Return what the customer sees, or why there is no message."""
    if isinstance(message, Unrendered):
        return f"not sent: {message.reason.value} ({message.detail})"
    template = templates.get((route.provider, route.template))
    if template is not None:
        return f"to {message.recipient}\n" + print_message(
            fill_template(template, message.variables, message.header, message.buttons)
        )
    values = [f"  {variable.name or number}: {variable.value}" for number, variable in enumerate(message.variables, 1)]
    unknown = f"to {message.recipient}\nconfig/templates.yaml does not hold this template's text; its variables are:"
    return "\n".join([unknown, *values])


def _events_for(route: Route, source: str | None) -> Iterator[Event]:
    now = read_clock()
    if source is not None:
        yield read_event(source, route.topic, now)
        return
    if not route.examples:
        raise RelayError(f"route {route.name} has no examples: add one, or give --event FILE")
    for example in route.examples:
        if example.hits and example.dead is None:
            yield make_event(route.topic, example.event, now)
