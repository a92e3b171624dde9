"""`nector-relay route`: which routes an event hits, why not the others, and what would become of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.authoring.preview import describe_plan
from app.cli.commands import Answer
from app.cli.mapping.sources import read_config, read_event
from app.cli.ops.client import open_client, quote_part
from app.clock import new_uuid7, read_clock
from app.errors import NoRelayError, RelayError
from app.mapping.problems import ask_similar
from app.model.delivery import State
from app.sources import SOURCE


def route(
    event: Annotated[
        str,
        typer.Argument(metavar="EVENT.json|ID", help="A webhook's body, - for stdin, or the id of a stored event."),
    ],
    topic: Annotated[str | None, typer.Option(help="Its x-nector-topic.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> Answer:
    """Say for every route whether the event hits it, why, and what would be sent. Exit 0 if something would, else 1.

    A hit that would be dead is 1, too, as in `preview`. Of a stored event the relay is asked: values are masked.
    """
    is_file = event == "-" or event.endswith(".json") or Path(event).exists()
    told = _look_at_file(event, topic, config) if is_file else _ask_relay(event, topic, config)
    rows = told["routes"]
    # Hits first: they are what is asked for; then the routes that came closest.
    nearest = sorted(rows, key=lambda row: ("hit", "broken", "when", "topic").index(row["result"]))
    lines = [*map(_show, nearest), *(f"note: {note}" for note in told["notes"])]
    hits = [row["state"] for row in rows if row["result"] == "hit"]
    return Answer(told, lambda: print("\n".join(lines)), 0 if hits and State.DEAD not in hits else 1)


def _look_at_file(name: str, topic: str | None, config: Path | None) -> Mapping[str, Any]:
    rules, _ = read_config(config)
    event = read_event(name, topic, read_clock())
    if not any(SOURCE.canonical_topic(one.topic) == SOURCE.canonical_topic(event.topic) for one in rules.routes):
        hint = ask_similar(event.topic, (one.topic for one in rules.routes), "")
        print(f"no route waits for {event.topic}" + (f"; {hint}" if hint else ""), file=sys.stderr)
    return {"topic": event.topic, "notes": event.notes, "routes": describe_plan(event, rules, new_uuid7)}


def _ask_relay(id_: str, topic: str | None, config: Path | None) -> Mapping[str, Any]:
    if topic or config:
        raise RelayError(f"{id_} is no file, and a stored event has its topic and is judged by the YAML in force")
    try:
        return open_client().get(f"/events/{quote_part(id_)}/routes")
    except NoRelayError as error:
        raise RelayError(f"{id_} is no file, and of an event's id a relay is asked: {error}") from None


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
