"""`nector-relay preview`: the message before a customer sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.sources import make_event, read_config, read_webhook
from app.clock import read_clock
from app.core.config import Config
from app.core.models import Event, Message
from app.core.nector import canonical_topic
from app.core.rendering import Unrendered, render_message
from app.core.routing import Broken, Miss, Route, match_route
from app.core.templates import Templates, fill_template, print_message
from app.errors import RelayError


def preview(
    route: Annotated[str | None, typer.Argument(help="A route of the YAML; all of them if left out.")] = None,
    event: Annotated[str | None, typer.Option(help="A JSON file with an event, or - for stdin.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> int:
    """Show each message as the customer sees it: from the routes' examples, or from one event. Exit 1 if one fails."""
    rules, templates = read_config(config)
    now = read_clock()
    topic, payload = (None, None) if event is None else read_webhook(event)
    right = True
    for chosen in choose_routes(rules, route, topic):
        print(f"── {chosen.name}: {chosen.provider} · {chosen.template}")
        events = _list_examples(chosen, now) if payload is None else [make_event(topic or chosen.topic, payload, now)]
        for given in events:
            message = render_message(chosen, given, rules.store)
            print(_describe_miss(chosen, given) + show_message(message, chosen, templates), end="\n\n")
            right = right and isinstance(message, Message)
        if not events:
            print("no example that sends: add one under its `examples:`, or give --event FILE", end="\n\n")
            right = False
    return 0 if right else 1


def choose_routes(config: Config, name: str | None, topic: str | None) -> list[Route]:
    """Return the route of this name, else those for the topic, else all; raises RelayError naming those there are."""
    if name is not None:
        routes = [route for route in config.routes if route.name == name]
        if not routes:
            known = ", ".join(route.name for route in config.routes)
            raise RelayError(f"no route is named {name!r}; there are {known}")
        return routes
    if topic is None:
        return list(config.routes)
    routes = [route for route in config.routes if canonical_topic(route.topic) == canonical_topic(topic)]
    if not routes:
        raise RelayError(f"no route waits for {topic!r}; name one to see its message all the same")
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


def _list_examples(route: Route, now: int) -> list[Event]:
    return [make_event(route.topic, one.event, now) for one in route.examples if one.hits and one.dead is None]


def _describe_miss(route: Route, event: Event) -> str:
    """Say that the message is never sent, for the event does not hit the route; "" if it does."""
    match match_route(route, event):
        case Miss(detail=detail) | Broken(detail=detail):
            return f"this event does not hit the route ({detail}); if it did:\n"
        case _:
            return ""
