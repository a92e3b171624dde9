"""Stored events evaluated again: `nector-relay replay` with today's YAML, `diff` with one that is not in force yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from app.cli import Answer
from app.cli.client import open_client
from app.cli.tables import count_nouns, open_console, print_table, show_waiting
from app.delivery.replay import explain_no_retry
from app.errors import OpsError
from app.relay.reload import read_text

TIMEOUT_S = 300.0  # 10,000 messages are made anew
SHOWN = 50  # entries that are passed over; --json has them all
PastState = Literal["dead", "unrouted", "expired", "suppressed", "shadow", "unknown", "accepted"]
_CHOICE = (
    "say what to do: --plan shows what would be sent and sends nothing (`nector-relay replay --plan --state dead`), "
    "then --apply PLAN_ID sends it"
)


def replay(
    plan: Annotated[bool, Option("--plan", help="Show what would be sent; sends nothing.")] = False,
    apply: Annotated[str | None, Option(metavar="PLAN_ID", help="Send what a plan says.")] = None,
    event: Annotated[list[str] | None, Option(metavar="ID", help="This event; may be repeated.")] = None,
    topic: Annotated[str | None, Option(help="Only events of this topic.")] = None,
    state: Annotated[PastState | None, Option(help="Only events with such a delivery; unrouted: with none.")] = None,
    route: Annotated[str | None, Option(help="Only this route.")] = None,
    since: Annotated[str | None, Option(help="Received since: 7d (ago), a date, an instant.")] = None,
    until: Annotated[str | None, Option(help="Received until: 12h (ago), a date, an instant.")] = None,
) -> Answer:
    """Evaluate stored events again with today's YAML: first a plan that sends nothing, then that plan, once.

    (`retry` sends the same frozen message again instead.) Exit 1 if nothing would be sent, or was.
    """
    filters = {"events": event, "topic": topic, "state": state, "route": route, "since": since, "until": until}
    wanted = {name: value for name, value in filters.items() if value}
    if plan == bool(apply):
        raise OpsError(_CHOICE)
    if apply and wanted:
        options = ", ".join(f"--{name}".replace("events", "event") for name in wanted)
        raise OpsError(f"--apply goes alone: the plan says which events; leave out {options}")
    if plan and not wanted:
        raise OpsError("say which events: --event, --topic, --state, --route, --since or --until")
    answer = open_client().send("POST", "/replay", {"apply": apply} if apply else wanted, TIMEOUT_S)
    show = _show_applied if apply else _show_plan
    return Answer(answer, lambda: show(answer), 0 if answer["counts"].get("send", 0) else 1)


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


def retry(
    ids: Annotated[list[str] | None, Argument(metavar="ID", help="Deliveries to send again.")] = None,
    state: Annotated[Literal["dead", "unknown", "expired"] | None, Option(help="All that are in this state.")] = None,
    route: Annotated[str | None, Option(help="With --state: only this route's.")] = None,
) -> Answer:
    """Send deliveries again as they are. An unknown one may then arrive twice: that is why nobody but you does it.

    Of all that are dead or expired, those that a provider may have taken are only listed: look there, and name the id.
    Exit 1 if there is one that was asked for by its id and cannot be, or none at all.
    """
    if bool(ids) == bool(state):
        raise OpsError("give either ids or --state dead|unknown|expired")
    if route and not state:
        raise OpsError("--route goes with --state; an id names one delivery already")
    answer = open_client().send("POST", "/deliveries/retry", {"ids": ids or [], "state": state, "route": route})
    retried, why = set(answer["retried"]), answer["why"]
    lines = [f"{count_nouns(len(retried), 'delivery', 'deliveries')} will be sent again"]
    for id_, each in islice(why.items(), SHOWN):
        lines.append(f"{id_}: not sent again: {explain_no_retry(each).replace(' ID`', f' {id_}`')}")
    for each, count in answer["skipped"].items() if state else ():
        lines.append(f"{count_nouns(count, 'delivery', 'deliveries')} not sent again: {explain_no_retry(each)}")
    return Answer(answer, lambda: print("\n".join(lines)), 0 if retried and not (ids and why) else 1)


# -- diff: which stored events a new YAML would send otherwise; it reads, and changes nothing --------

_DIFF_TIMEOUT_S = 60.0  # a page of events is looked at in each of its calls
_WORDS = {
    "newly_sent": "newly sent",
    "no_longer_sent": "no longer sent",
    "another_provider": "sent through another provider",
    "another_template": "sent as another template",
    "another_number": "sent to another number",
    "other_content": "sent with other content",
}


def diff(
    new: Annotated[Path, Argument(metavar="NEW.yaml", help="The YAML to compare with the one in force.")],
    since: Annotated[str, Option(help="Events received since: 7d (ago), a date, an instant.")] = "7d",
) -> Answer:
    """Say which of the running relay's stored events a new YAML would send otherwise, with a masked example each.

    The texts beside it (templates.yaml) are read, too. Exit 0 if nothing changes, 1 if anything does.
    """
    order: dict[str, Any] = {"yaml": read_text(new), "name": str(new), "since": since}
    beside = new.parent / "templates.yaml"
    if beside.is_file():
        order["templates"] = read_text(beside)
    answer = _add_up(_ask(order))
    return Answer(answer, lambda: _show_changes(answer, since), 1 if answer["changes"] else 0)


def _ask(order: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the answers, each about the next events; what takes long says how far it is."""
    client, after, events = open_client(), 0, 0
    with show_waiting("looking at the stored events") as tell:
        while after is not None:
            answer = client.send("POST", "/diff", {**order, "after": after}, _DIFF_TIMEOUT_S)
            yield answer
            after, events = answer["next"], events + answer["events"]
            if after is not None:
                tell(f"looked at {count_nouns(events, 'event')}")


def _add_up(answers: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of the answers; of each change the first example stays."""
    total: dict[str, Any] = {"events": 0, "wiped": 0}
    changes: dict[tuple[str, ...], dict[str, Any]] = {}
    for answer in answers:
        total |= {"hash": answer["hash"], "in_force": answer["in_force"]}
        total |= {name: total[name] + answer[name] for name in ("events", "wiped")}
        for change in answer["changes"]:
            key = (change["route"], change["change"], change["what"])
            known = changes.setdefault(key, {**change, "count": 0})
            known["count"] += change["count"]
    return {**total, "changes": sorted(changes.values(), key=lambda change: -change["count"])}


def _show_changes(answer: Mapping[str, Any], since: str) -> None:
    for change in answer["changes"]:
        what = f" ({change['what']})" if change["what"] else ""
        print(f"{change['route']}: {count_nouns(change['count'], 'event')} {_WORDS[change['change']]}{what}")
        example = change["example"]
        print(f"  for example event {example['event_id']}, {example['topic']}")
        print(f"    was: {example['was']}")
        print(f"    now: {example['now']}")
    looked = f"{count_nouns(answer['events'], 'event')} since {since}"
    if answer["hash"] == answer["in_force"]:
        print("this is the YAML that is in force")
    print(f"{looked}: " + ("would be sent otherwise as listed" if answer["changes"] else "nothing changes"))
    if answer["wiped"]:
        print(f"{count_nouns(answer['wiped'], 'more event')} could not be compared: their payloads are wiped")
