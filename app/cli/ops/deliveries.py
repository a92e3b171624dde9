"""`nector-relay deliveries`: what the running relay has done, and why."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from app.cli.commands import AsJson, print_json
from app.cli.ops.client import OpsClient, open_client
from app.cli.tables import open_console, print_table
from app.clock import read_clock
from app.delivery.status import find_cure
from app.delivery.story import read_at
from app.errors import OpsError
from app.values.instant import round_duration

StateName = Literal["pending", "held", "sending", "accepted", "unknown", "expired", "suppressed", "shadow", "dead"]
FOLLOW_EVERY_S = 2.0
DROPPED = ("created", "provider", "receipt", "recipient", "age", "reason")  # where a terminal is too narrow for all
_COLUMNS = ("id", "route", "provider", "recipient", "state", "receipt", "reason")
_GROUPED_BY = {"state", "route", "provider"}
_GROUPED = ("dead", "unknown", "expired")
_NEVER_GROUPED = ("accepted", "sending")  # too many, too short; and nobody has to do anything


def deliveries(
    state: Annotated[StateName | None, typer.Option(help="Only those in this state.", case_sensitive=False)] = None,
    route: Annotated[str | None, typer.Option(help="Only this route's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    template: Annotated[str | None, typer.Option(help="Only of this template.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only of events of this topic.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those that stand so for this reason.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event: its id, or its source's of it.")] = None,
    phone: Annotated[str | None, typer.Option(metavar="NUMBER", help="Only those of this person.")] = None,
    since: Annotated[str | None, typer.Option(help="Made since: 2h (ago), a date, an instant.")] = None,
    until: Annotated[str | None, typer.Option(help="Made until: 1h (ago), a date, an instant.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    by_reason: Annotated[bool, typer.Option("--by-reason", help="With --state: only how many, and why.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes and changes, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> int:
    """List deliveries, newest first; those that need a person (dead, unknown, expired) are counted by reason before."""
    wanted = {"state": state, "route": route, "provider": provider, "template": template, "topic": topic}
    wanted |= {"reason": reason, "event_id": event, "phone": phone, "since": since, "until": until, "cursor": cursor}
    query = {name: value for name, value in wanted.items() if value is not None}
    if by_reason:
        if state is None or state in _NEVER_GROUPED:
            raise OpsError("--by-reason goes with --state dead, unknown, expired, suppressed, shadow, pending or held")
        if query.keys() - _GROUPED_BY or follow:
            raise OpsError("--by-reason counts a whole state, with --route and --provider theirs; leave out the rest")
        return _list_reasons(open_client(), query, as_json=as_json)
    client = open_client()
    if follow:
        return _follow(client, {**query, "limit": limit}, as_json=as_json)
    page = _find(client, {**query, "limit": limit})
    console = open_console()
    if as_json:
        print_json(page)
    elif not page["deliveries"]:
        console.print("no deliveries")
    else:
        if state in _GROUPED and not query.keys() - _GROUPED_BY:
            _list_reasons(client, query, as_json=False)
            console.print()
        _print_deliveries(console, page["deliveries"])
        if page["next_cursor"]:
            console.print(f"more: --cursor {page['next_cursor']}")
    return 0


def _find(client: OpsClient, query: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a page; a person's number goes in a body, where no log keeps it."""
    return client.send("POST", "/deliveries/find", query) if "phone" in query else client.get("/deliveries", query)


def _follow(client: OpsClient, query: Mapping[str, Any], *, as_json: bool) -> int:
    """Print what the list has, then each that comes or changes, until Ctrl-C."""
    console, seen = open_console(), dict[str, tuple[str, ...]]()
    while True:
        rows = _find(client, query)["deliveries"][::-1]
        news = [row for row in rows if seen.get(row["id"]) != (row["state"], row["receipt"])]
        for row in news if as_json else ():
            print(json.dumps(row, ensure_ascii=False), flush=True)
        if news and not as_json:
            _print_deliveries(console, news, titled=not seen)
        seen = {row["id"]: (row["state"], row["receipt"]) for row in rows}
        time.sleep(FOLLOW_EVERY_S)


def _print_deliveries(console: Console, found: Sequence[Mapping[str, Any]], *, titled: bool = True) -> None:
    """Print a line each. A narrow terminal keeps what is needed to go on from here: id, route, state and reason."""
    names = {"created": "created_at"} | {name: name for name in _COLUMNS}
    rows = [{title: str(row[name] or "") for title, name in names.items()} for row in found]
    for row in rows:
        row["recipient"] = row["recipient"] or "(unread)" * (row["reason"] == "recipient_invalid")
        if console.is_terminal:
            row["age"] = round_duration(max(read_clock() - read_at(row["created"]), 0))
    titles = ["age"] * console.is_terminal + list(names)
    print_table(console, titles, [[row[title] for title in titles] for row in rows], dropped=DROPPED, titled=titled)


def _list_reasons(client: OpsClient, query: Mapping[str, Any], *, as_json: bool) -> int:
    """Print a state's deliveries by reason and route, the largest group first, and what to do about each."""
    answer = client.get("/deliveries/reasons", {"state": query["state"]})
    names = [name for name in ("route", "provider") if name in query]
    groups = [group for group in answer["reasons"] if all(group[name] == query[name] for name in names)]
    if not groups and names:
        client.get("/deliveries", {**query, "limit": 1})  # which tells of a name that is none
    if as_json:
        print_json({"reasons": groups})
        return 0
    console = open_console()
    if not groups:
        console.print("no deliveries")
        return 0
    columns = {"count": "count", "reason": "reason", "route": "route", "provider": "provider", "newest": "newest_id"}
    if not console.is_terminal:
        columns |= {"at": "newest_at", "what to do": "cure"}
    told = [{**group, "cure": find_cure(group["reason"])} for group in groups]
    rows = [[str(group[name] or "") for name in columns.values()] for group in told]
    print_table(console, tuple(columns), rows, dropped=("provider",))
    if console.is_terminal:
        for reason, cure in {group["reason"]: group["cure"] for group in told}.items():
            console.print(Text(f"{reason}: {cure}"))
    return 0
