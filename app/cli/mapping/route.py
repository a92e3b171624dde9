"""`nector-relay route`: which routes an event hits, and why not the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.mapping.sources import read_config, read_event
from app.clock import new_uuid7, read_clock
from app.delivery.plan import plan_deliveries
from app.mapping.problems import ask_similar
from app.mapping.rules import Broken, Explanation, Hit, Miss, RouteTable, explain_routes
from app.model.delivery import Delivery, State
from app.sources import SOURCE


def route(
    event: Annotated[str, typer.Argument(metavar="EVENT.json", help="A webhook's body, or - for stdin.")],
    topic: Annotated[str | None, typer.Option(help="Its x-nector-topic.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Say for every route whether the event hits it, why, and what would be sent. Exit 0 if something would, else 1.

    A hit that would be dead is 1, too, as in `preview`.
    """
    rules, _ = read_config(config)
    given = read_event(event, topic, read_clock())
    if not any(SOURCE.canonical_topic(one.topic) == SOURCE.canonical_topic(given.topic) for one in rules.routes):
        hint = ask_similar(given.topic, (one.topic for one in rules.routes), "")
        print(f"no route waits for {given.topic}" + (f"; {hint}" if hint else ""), file=sys.stderr)
    planned = plan_deliveries(given, rules, RouteTable(rules.routes), new_uuid7)
    fates = {delivery.route: _describe_fate(delivery) for delivery in planned}
    rows = [_describe(explanation) for explanation in explain_routes(rules.routes, given)]
    rows = [row | (fates[row["route"]] if row["result"] == "hit" else {}) for row in rows]
    if as_json:
        told = {"topic": given.topic, "notes": given.notes, "routes": rows}
        print(json.dumps(told, ensure_ascii=False, indent=2, default=str))
    else:
        # Hits first: they are what is asked for; then the routes that came closest.
        for row in sorted(rows, key=lambda row: ("hit", "broken", "when", "topic").index(row["result"])):
            print(_show(row))
        for note in given.notes:
            print(f"note: {note}")
    hits = [row["state"] for row in rows if row["result"] == "hit"]
    return 0 if hits and State.DEAD not in hits else 1


def _describe_fate(delivery: Delivery) -> dict[str, Any]:
    """Return what would become of the event on a route that it hits; its author may see the values."""
    message = delivery.message
    filled = message.variables if message else ()
    return {
        "state": delivery.state,
        "reason": delivery.reason,
        "detail": delivery.detail or None,
        "to": message.recipient if message else None,
        "variables": {each.name or str(number): each.value for number, each in enumerate(filled, 1)},
    }


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
    state = row.get("state")
    mark = "DEAD" if state == State.DEAD else {"hit": "HIT ", "broken": "FAIL"}.get(row["result"], "miss")
    values = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in row["reads"].items()}
    reads = ", ".join(f"{name} = {value}" for name, value in values.items())
    condition = f"  when {row['when']}" if row["when"] and row["result"] == "hit" else ""
    return f"{mark}  {row['route']}: {row['why']}{condition}" + (f"  ({reads})" if reads else "") + _show_fate(row)


def _show_fate(row: dict[str, Any]) -> str:
    """Return a second line below a hit: to whom what goes, or why nothing does."""
    match row.get("state"):
        case None:
            return ""
        case State.PENDING:
            filled = "; ".join(f"{name}: {value}" for name, value in row["variables"].items())
            return f"\n      to {row['to']}" + (f"; {filled}" if filled else "")
        case state:
            told = ": ".join(filter(None, (row["reason"], row["detail"])))
            return f"\n      nothing is sent: {state}" + (f", {told}" if told else "")
