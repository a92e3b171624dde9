"""`nector-relay hold`, `holds` and `release`: stopping a scope and letting it go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.commands import Answer
from app.cli.ops.client import OpsClient, open_client, quote_part
from app.cli.tables import count_nouns, open_console, print_table
from app.delivery.status import Status
from app.errors import OpsError
from app.settings import read_environment

Scope = Annotated[str, typer.Argument(help="provider:NAME, route:NAME or template:PROVIDER/NAME")]
_USER_NAMES = ("SUDO_USER", "USER", "LOGNAME", "USERNAME")


def holds() -> Answer:
    """List what is stopped, why, by whom and until when; and which provider is down, though nothing stops it."""
    client = open_client()
    answer = client.get("/holds")
    return Answer(answer, lambda: _show(client, answer["holds"]))


def _show(client: OpsClient, holds: Sequence[Mapping[str, Any]]) -> None:
    for lane in Status.model_validate(client.get("/status")).lanes:
        if lane.state == "down":
            how = f"down since {lane.down_since}, next probe {lane.next_probe_at}, {lane.waiting} waiting"
            print(f"{lane.provider} is {how}")
    if not holds:
        print("nothing is on hold")
        return
    titles = ("scope", "reason", "since", "waiting", "by", "until")
    console, rows = open_console(), [_row(hold) for hold in holds]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    if not console.is_terminal or sum(widths) + 2 * len(widths) <= console.width:
        print_table(console, titles, rows)
        return
    for scope, *others in rows:  # a scope is there to be copied
        told = (f"{title}: {cell}" for title, cell in zip(titles[1:], others, strict=True) if cell)
        print(f"{scope}\n  {', '.join(told)}")


def _row(hold: Mapping[str, Any]) -> list[str]:
    since, until = (f"{hold[name][:16]}Z" if hold[name] else "" for name in ("since", "until"))  # to the minute
    return [hold["scope"], hold["reason"], since, str(hold["deliveries"]), hold["by"] or "", until]


def hold(
    scope: Annotated[
        str | None, typer.Argument(help="provider:NAME, route:NAME or template:PROVIDER/NAME; left out: list them.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="For those who find it stopped.")] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="It ends by itself after 2h, 30m, 1d.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who stops it (else the user of this shell).")] = None,
) -> Answer:
    """Stop a provider, a route or a template: its deliveries wait, nothing is lost. Without a scope: list holds."""
    if scope is None:
        if reason or lasts or by:
            raise OpsError("say what to stop: provider:NAME, route:NAME or template:PROVIDER/NAME")
        return holds()
    order = {"reason": reason, "for": lasts, "by": _name_user(by)}
    given = {name: value for name, value in order.items() if value}
    answer = open_client().send("PUT", f"/holds/{quote_part(scope)}", given)
    until = f" until {answer['until']}" if answer.get("until") else ""
    waiting = count_nouns(answer.get("deliveries", 0), "delivery", "deliveries")
    return Answer(answer, lambda: print(f"{scope} is on hold{until}; waiting: {waiting}"))


def _name_user(given: str | None) -> str | None:
    environment = read_environment()
    return given or next((name for each in _USER_NAMES if (name := environment.get(each))), None)


def release(
    scope: Scope,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who lets it go (else the user of this shell).")
    ] = None,
) -> Answer:
    """Let a held scope go on. One that had reached a limit may send as many again."""
    open_client().send("DELETE", f"/holds/{quote_part(scope)}", query={"by": _name_user(by)})
    return Answer({"scope": scope, "released": True}, lambda: print(f"{scope} goes on"))
