"""`nector-relay route`: which routes an event hits, and why not the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.sources import read_config, read_event
from app.clock import read_clock
from app.core.routing import explain_routes


def route(
    event: Annotated[str, typer.Argument(metavar="EVENT.json", help="A webhook's body, or - for stdin.")],
    topic: Annotated[str | None, typer.Option(help="Its x-nector-topic.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Say for every route whether the event hits it, and why. Exit 0 if one does, else 1."""
    rules, _ = read_config(config)
    given = read_event(event, topic, read_clock())
    raise NotImplementedError
