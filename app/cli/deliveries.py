"""`nector-relay deliveries` and `explain`: what the running relay has done, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import typer

from app.cli.ops_client import open_client
from app.cli.tables import open_console, paint_state, print_table
from app.errors import OpsError

_ID = re.compile(r"[A-Za-z0-9_-]+")  # anything else would be read as another path
StateName = Literal["pending", "held", "sending", "accepted", "unknown", "expired", "suppressed", "shadow", "dead"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the ops API's JSON.")]


def deliveries(
    state: Annotated[StateName | None, typer.Option(help="Only those in this state.")] = None,
    route: Annotated[str | None, typer.Option(help="Only this route's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    event: Annotated[str | None, typer.Option(help="Only those of this event id.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    as_json: AsJson = False,
) -> int:
    """List deliveries, newest first."""
    query = {"state": state, "route": route, "provider": provider, "event_id": event, "limit": limit, "cursor": cursor}
    page = open_client().get("/deliveries", query)
    if as_json:
        print(json.dumps(page, ensure_ascii=False, indent=2))
        return 0
    rows = [_row(delivery) for delivery in page["deliveries"]]
    console = open_console()
    if not rows:
        console.print("no deliveries")
        return 0
    print_table(console, ("created", "id", "route", "provider", "recipient", "state", "receipt", "reason"), rows)
    if page["next_cursor"]:
        console.print(f"more: --cursor {page['next_cursor']}")
    return 0


def explain(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="A delivery's id.")], as_json: AsJson = False
) -> int:
    """Show one delivery's whole timeline, from the webhook to the receipt."""
    if not _ID.fullmatch(delivery_id):
        raise OpsError(f"no delivery has the id {delivery_id!r}: `nector-relay deliveries` lists them")
    delivery = open_client().get(f"/deliveries/{delivery_id}")
    if as_json:
        print(json.dumps(delivery, ensure_ascii=False, indent=2))
        return 0
    console = open_console()
    for name, value in _list_facts(delivery):
        console.print(f"{name:<20}", paint_state(value))
    console.print()
    print_table(console, ("at", "what", "became", "reason", "detail"), [_step(step) for step in delivery["timeline"]])
    return 0


def _list_facts(delivery: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known, flat: the delivery's own, then `event.…` and `message.…`."""
    for name, value in delivery.items():
        if name in ("event", "message") and value:
            yield from _list_facts({f"{name}.{key}": item for key, item in value.items()})
        elif name == "message.variables":
            yield name, ", ".join(f"{one['name'] or number}: {one['value']}" for number, one in enumerate(value, 1))
        elif value not in (None, "") and not isinstance(value, list | dict):
            yield name, str(value)


def _row(delivery: Mapping[str, Any]) -> list[str]:
    names = ("created_at", "id", "route", "provider", "recipient", "state", "receipt", "reason")
    return [str(delivery[name] or "") for name in names]


def _step(step: Mapping[str, Any]) -> list[str]:
    return [str(step.get(name) or "") for name in ("at", "kind", "value", "reason", "detail")]
