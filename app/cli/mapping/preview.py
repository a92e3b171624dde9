"""`nector-relay preview`: the message before a customer sees it; as text, as files to review, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.authoring.page import draw_page
from app.authoring.preview import Preview, preview_message, print_preview
from app.cli.mapping.golden import compare_golden, print_golden
from app.cli.mapping.sources import make_event, read_config, read_webhook
from app.clock import read_clock
from app.errors import RelayError
from app.mapping.rules import Config, Route
from app.mapping.template import Templates
from app.sources import SOURCE


def preview(
    route: Annotated[str | None, typer.Argument(help="A route of the YAML; all of them if left out.")] = None,
    event: Annotated[str | None, typer.Option(help="A JSON file with an event, or - for stdin.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    golden: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare with the files of this folder, one a route; write those not there."),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="With --golden: write every file anew.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that looks like WhatsApp.")] = None,
) -> int:
    """Show each message as the customer sees it: from the routes' examples, or from one event. Exit 1 if one fails."""
    if update and golden is None:
        raise RelayError("--update writes the files of --golden DIR: name the folder")
    rules, templates = read_config(config)
    topic, payload = (None, None) if event is None else read_webhook(event)
    chosen = choose_routes(rules, route, topic)
    now = read_clock()
    if payload is None:
        shown = {one.name: preview_examples(one, rules, templates, now) for one in chosen}
    else:
        shown = {
            one.name: [
                preview_message(one, make_event(topic or one.topic, payload, now), rules.store, templates, "event")
            ]
            for one in chosen
        }
    if html is not None:
        _write_page(html, [each for previews in shown.values() for each in previews])
    if golden is not None:
        texts = {name: print_golden(previews) for name, previews in shown.items() if previews}
        return compare_golden(golden, texts, update=update, whole=route is None and event is None)
    if html is not None:
        print(f"wrote {html}")
        return 0
    right = [_print_route(one, shown[one.name], from_event=payload is not None) for one in chosen]
    return 0 if all(right) else 1


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
    routes = [route for route in config.routes if SOURCE.canonical_topic(route.topic) == SOURCE.canonical_topic(topic)]
    if not routes:
        raise RelayError(f"no route waits for {topic!r}; name one to see its message all the same")
    return routes


def preview_examples(route: Route, config: Config, templates: Templates, now: int) -> list[Preview]:
    """Return a preview of every example of a route, those that send nothing included."""
    return [
        preview_message(route, make_event(route.topic, one.event, now), config.store, templates, f"example {number}")
        for number, one in enumerate(route.examples, 1)
    ]


def _print_route(route: Route, previews: list[Preview], *, from_event: bool) -> bool:
    """Print a route's messages; of its examples only those that are meant to send. False if one is not sent."""
    print(f"── {route.name}: {route.provider} · {route.template}")
    if not from_event:
        meant = [one.hits and one.dead is None for one in route.examples]
        previews = [preview for preview, sends in zip(previews, meant, strict=True) if sends]
    for preview in previews:
        print(print_preview(preview), end="\n\n")
    if not previews:
        print("no example that sends: add one under its `examples:`, or give --event FILE", end="\n\n")
    return bool(previews) and all(preview.is_sent for preview in previews)


def _write_page(path: Path, previews: list[Preview]) -> None:
    try:
        path.write_text(draw_page(previews, "What customers see"), encoding="utf-8")
    except OSError as error:
        raise RelayError(f"{path}: cannot be written ({error.strerror})") from None
