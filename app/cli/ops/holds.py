"""`nector-relay holds`, `hold` and `release`: stopping a scope and letting it go on."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from app.cli.ops.client import open_client, quote_part
from app.cli.tables import count_nouns, open_console, print_table

Scope = Annotated[str, typer.Argument(help="provider:NAME, route:NAME or template:PROVIDER/NAME")]


def holds(as_json: Annotated[bool, typer.Option("--json", help="Print the ops API's JSON.")] = False) -> int:
    """List what is stopped, and why."""
    answer = open_client().get("/holds")
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return 0
    rows = [(hold["scope"], hold["reason"], hold["since"], str(hold["deliveries"])) for hold in answer["holds"]]
    if not rows:
        print("nothing is on hold")
        return 0
    print_table(open_console(), ("scope", "reason", "since", "waiting"), rows)
    return 0


def hold(scope: Scope, reason: Annotated[str, typer.Option(help="For those who find it stopped.")] = "by_hand") -> int:
    """Stop a provider, a route or a template: its deliveries wait, nothing is lost."""
    answer = open_client().send("PUT", f"/holds/{quote_part(scope)}", {"reason": reason})
    print(f"{scope} is on hold; waiting: {count_nouns(answer.get('deliveries', 0), 'delivery', 'deliveries')}")
    return 0


def release(scope: Scope) -> int:
    """Let a held scope go on. One that had reached a limit may send as many again."""
    open_client().send("DELETE", f"/holds/{quote_part(scope)}")
    print(f"{scope} goes on")
    return 0
