"""`nector-relay route`: which routes an event hits, and why not the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.mapping.sources import read_config, read_event
from app.clock import read_clock
from app.mapping.problems import ask_similar
from app.mapping.rules import Broken, Explanation, Hit, Miss, explain_routes
from app.sources import SOURCE


def route(
    event: Annotated[str, typer.Argument(metavar="EVENT.json", help="A webhook's body, or - for stdin.")],
    topic: Annotated[str | None, typer.Option(help="Its x-nector-topic.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Say for every route whether the event hits it, and why. Exit 0 if one does, else 1."""
    rules, _ = read_config(config)
    given = read_event(event, topic, read_clock())
    if not any(SOURCE.canonical_topic(one.topic) == SOURCE.canonical_topic(given.topic) for one in rules.routes):
        hint = ask_similar(given.topic, (one.topic for one in rules.routes), "")
        print(f"no route waits for {given.topic}" + (f"; {hint}" if hint else ""), file=sys.stderr)
    rows = [_describe(explanation) for explanation in explain_routes(rules.routes, given)]
    if as_json:
        told = {"topic": given.topic, "notes": given.notes, "routes": rows}
        print(json.dumps(told, ensure_ascii=False, indent=2, default=str))
    else:
        # Hits first: they are what is asked for; then the routes that came closest.
        for row in sorted(rows, key=lambda row: ("hit", "broken", "when", "topic").index(row["result"])):
            print(_show(row))
        for note in given.notes:
            print(f"note: {note}")
    return 0 if any(row["result"] == "hit" for row in rows) else 1


def _describe(explanation: Explanation) -> dict[str, Any]:
    match explanation.match:
        case Hit(route=hit):
            name, result, why = hit.name, "hit", f"{hit.provider} sends {hit.template}"
        case Broken(route=broken, detail=detail):
            name, result, why = broken.name, "broken", detail
        case Miss(route=missed, why=kind, detail=detail):
            name, result, why = missed.name, kind, detail
    return {
        "route": name,
        "result": result,
        "why": why,
        "when": explanation.condition or None,
        "reads": dict(explanation.reads),
    }


def _show(row: dict[str, Any]) -> str:
    mark = {"hit": "HIT ", "broken": "FAIL"}.get(row["result"], "miss")
    values = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in row["reads"].items()}
    reads = ", ".join(f"{name} = {value}" for name, value in values.items())
    condition = f"  when {row['when']}" if row["when"] and row["result"] == "hit" else ""
    return f"{mark}  {row['route']}: {row['why']}{condition}" + (f"  ({reads})" if reads else "")
