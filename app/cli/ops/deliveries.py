"""`nector-relay deliveries`: what the running relay has done, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from app.cli.ops.client import open_client
from app.cli.tables import open_console, print_table
from app.delivery.cures import find_cure
from app.errors import OpsError

StateName = Literal["pending", "held", "sending", "accepted", "unknown", "expired", "suppressed", "shadow", "dead"]
_GROUPED = ("dead", "unknown", "expired")
_NEVER_GROUPED = ("accepted", "sending")  # too many, too short; and nobody has to do anything
AsJson = Annotated[bool, typer.Option("--json", help="Print the ops API's JSON.")]


def deliveries(
    state: Annotated[StateName | None, typer.Option(help="Only those in this state.")] = None,
    route: Annotated[str | None, typer.Option(help="Only this route's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    event: Annotated[str | None, typer.Option(help="Only those of this event id.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    by_reason: Annotated[bool, typer.Option("--by-reason", help="With --state: only how many, and why.")] = False,
    as_json: AsJson = False,
) -> int:
    """List deliveries, newest first; those that need a person (dead, unknown, expired) are counted by reason before."""
    if by_reason and (state is None or state in _NEVER_GROUPED):
        raise OpsError("--by-reason goes with --state dead, unknown, expired, suppressed, shadow, pending or held")
    if by_reason and (event or cursor):
        raise OpsError("--by-reason counts a whole state, or with --route and --provider theirs; leave out the rest")
    if by_reason:
        return _list_reasons(state, route, provider, as_json)
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
    if state in _GROUPED and not (event or cursor):
        _list_reasons(state, route, provider, as_json=False)
        console.print()
    print_table(console, ("created", "id", "route", "provider", "recipient", "state", "receipt", "reason"), rows)
    if page["next_cursor"]:
        console.print(f"more: --cursor {page['next_cursor']}")
    return 0


def _list_reasons(state: str | None, route: str | None, provider: str | None, as_json: bool) -> int:
    """Print a state's deliveries by reason and route, the largest group first, and what to do about each."""
    answer = open_client().get("/deliveries/reasons", {"state": state})
    groups = [
        group
        for group in answer["reasons"]
        if route in (None, group["route"]) and provider in (None, group["provider"])
    ]
    if as_json:
        print(json.dumps({"reasons": groups}, ensure_ascii=False, indent=2))
        return 0
    console = open_console()
    if not groups:
        console.print("no deliveries")
        return 0
    names = ("count", "reason", "route", "provider", "newest_id", "newest_at")
    rows = [[*(str(group[name] or "") for name in names), find_cure(group["reason"])] for group in groups]
    print_table(console, ("count", "reason", "route", "provider", "newest", "at", "what to do"), rows)
    return 0


def _row(delivery: Mapping[str, Any]) -> list[str]:
    names = ("created_at", "id", "route", "provider", "recipient", "state", "receipt", "reason")
    return [str(delivery[name] or "") for name in names]
