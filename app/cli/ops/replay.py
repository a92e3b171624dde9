"""`nector-relay replay`: stored events evaluated again with today's YAML. First a plan, then that plan, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from app.cli.ops.client import open_client
from app.cli.ops.deliveries import AsJson
from app.cli.tables import count_nouns, open_console, print_table
from app.errors import OpsError

TIMEOUT_S = 300.0  # 10,000 messages are made anew
SHOWN = 50  # entries that are passed over; --json has them all
PastState = Literal["dead", "unrouted", "expired", "suppressed", "shadow", "unknown", "accepted"]
_CHOICE = (
    "say what to do: --plan shows what would be sent and sends nothing (`nector-relay replay --plan --state dead`), "
    "then --apply PLAN_ID sends it"
)


def replay(
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be sent; sends nothing.")] = False,
    apply: Annotated[str | None, typer.Option(metavar="PLAN_ID", help="Send what a plan says.")] = None,
    event: Annotated[list[str] | None, typer.Option(metavar="ID", help="This event; may be repeated.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only events of this topic.")] = None,
    state: Annotated[
        PastState | None, typer.Option(help="Only events with such a delivery; unrouted: with none.")
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only this route.")] = None,
    since: Annotated[str | None, typer.Option(help="Received since: 7d (ago), a date, an instant.")] = None,
    until: Annotated[str | None, typer.Option(help="Received until: 12h (ago), a date, an instant.")] = None,
    as_json: AsJson = False,
) -> int:
    """Evaluate stored events again with today's YAML: first a plan that sends nothing, then that plan, once.

    (`retry` sends the same frozen message again instead.) Exit 1 if nothing would be sent, or was.
    """
    filters = {"events": event, "topic": topic, "state": state, "route": route, "since": since, "until": until}
    wanted = {name: value for name, value in filters.items() if value}
    if plan == bool(apply):
        raise OpsError(_CHOICE)
    if apply and wanted:
        raise OpsError("--apply goes alone: the plan says which events; leave out " + ", ".join(map(_option, wanted)))
    if plan and not wanted:
        raise OpsError("say which events: --event, --topic, --state, --route, --since or --until")
    answer = open_client().send("POST", "/replay", {"apply": apply} if apply else wanted, TIMEOUT_S)
    sends = answer["counts"].get("send", 0)
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    elif apply:
        _show_applied(answer)
    else:
        _show_plan(answer)
    return 0 if sends else 1


def _option(name: str) -> str:
    return "--event" if name == "events" else f"--{name}"


def _show_plan(answer: Mapping[str, Any]) -> None:
    counts: Mapping[str, int] = answer["counts"]
    sends = [entry for entry in answer["entries"] if entry["verdict"] == "send"]
    others = [entry for entry in answer["entries"] if entry["verdict"] != "send"]
    console = open_console()
    for first, entries in (("event", sends), ("not sent", others[:SHOWN])):
        if entries:
            print_table(console, (first, "route", "verdict", "reason", "detail"), [_row(one) for one in entries])
    if (more := sum(counts.values()) - len(sends) - len(others[:SHOWN])) > 0:
        print(f"and {more} more that are not sent; --json lists them")
    print(f"{count_nouns(len(sends), 'message')} would be sent{_count_others(counts)}")
    if counts.get("unknown"):
        print("unknown: the provider may have taken it; look at its dashboard; not there: nector-relay retry ID")
    if not answer["complete"]:
        print("this is as much as one plan sends: apply it, then plan again for the rest")
    if sends:
        print(f"to send them: nector-relay replay --apply {answer['plan_id']}")


def _show_applied(answer: Mapping[str, Any]) -> None:
    print(f"{count_nouns(len(answer['deliveries']), 'message')} will be sent{_count_others(answer['counts'])}")
    console = open_console()
    rows = [[row["event_id"], row["route"], row["id"], row["state"]] for row in answer["deliveries"][:SHOWN]]
    if rows:
        print_table(console, ("event", "route", "delivery", "state"), rows)
    if (more := len(answer["deliveries"]) - len(rows)) > 0:
        print(f"and {more} more; --json lists them")
    if answer["left_out"]:
        rows = [_row(entry) for entry in answer["left_out"][:SHOWN]]
        print_table(console, ("left out", "route", "verdict", "reason", "detail"), rows)


def _count_others(counts: Mapping[str, int]) -> str:
    others = Counter({verdict: count for verdict, count in counts.items() if verdict != "send"})
    told = ", ".join(f"{count} {verdict}" for verdict, count in others.most_common())
    return f"; not sent: {told}" if told else ""


def _row(entry: Mapping[str, Any]) -> list[str]:
    return [str(entry[name] or "") for name in ("event_id", "route", "verdict", "reason", "detail")]
