"""`nector-relay deliveries`: what the running relay has done, and why; `explain`: the story of one of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from app.cli import Answer, AsJson, print_json
from app.cli.client import OpsClient, open_client
from app.cli.tables import STATE_COLOURS, open_console, print_behind, print_table
from app.clock import read_clock
from app.delivery.status import find_cure
from app.delivery.story import MetHold, Told, explain_wait, list_met_holds, read_at, tell_story
from app.errors import NotThereError, OpsError
from app.model.delivery import Reason, State
from app.values.instant import format_instant, round_duration

StateName = Literal["pending", "held", "sending", "accepted", "unknown", "expired", "suppressed", "shadow", "dead"]
FOLLOW_EVERY_S = 2.0
DROPPED = ("created", "provider", "receipt", "recipient", "age", "reason")  # where a terminal is too narrow for all
_COLUMNS = ("id", "route", "provider", "recipient", "state", "receipt", "reason")
_GROUPED_BY = {"state", "route", "provider"}
_GROUPED = ("dead", "unknown", "expired")
_NEVER_GROUPED = ("accepted", "sending")  # too many, too short; and nobody has to do anything


def deliveries(
    state: Annotated[StateName | None, Option(help="Only those in this state.", case_sensitive=False)] = None,
    route: Annotated[str | None, Option(help="Only this route's.")] = None,
    provider: Annotated[str | None, Option(help="Only this provider's.")] = None,
    template: Annotated[str | None, Option(help="Only of this template.")] = None,
    topic: Annotated[str | None, Option(help="Only of events of this topic.")] = None,
    reason: Annotated[str | None, Option(help="Only those that stand so for this reason.")] = None,
    event: Annotated[str | None, Option(help="Only of this event: its id, or its source's of it.")] = None,
    phone: Annotated[str | None, Option(metavar="NUMBER", help="Only those of this person.")] = None,
    since: Annotated[str | None, Option(help="Made since: 2h (ago), a date, an instant.")] = None,
    until: Annotated[str | None, Option(help="Made until: 1h (ago), a date, an instant.")] = None,
    limit: Annotated[int, Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, Option(help="Where the last page ended.")] = None,
    by_reason: Annotated[bool, Option("--by-reason", help="With --state: only how many, and why.")] = False,
    follow: Annotated[bool, Option("--follow", help="Go on with what comes and changes, until Ctrl-C.")] = False,
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


# -- explain: one delivery's story, from the webhook to the receipt ----------------------------------

_ID = re.compile(r"[A-Za-z0-9_-]+")  # anything else would be read as another path
_LIMIT = 50  # stories in a row; whoever wants more wants a list
_SINCE_WIDTH = 8  # +120 min


def explain(
    id_: Annotated[
        str | None,
        Argument(metavar="ID", help="A delivery's, an event's, Nector's delivery id, the provider's; or its end."),
    ] = None,
    last: Annotated[bool, Option("--last", help="The newest event.")] = False,
) -> Answer:
    """Tell one delivery's story, from the webhook to the receipt: times in UTC, values masked."""
    if (id_ is not None) == last:
        raise typer.BadParameter("Missing argument 'ID': an id or the end of one; or --last, and no id")
    client = open_client()
    found = _find_deliveries(client, "last" if id_ is None else id_, by_event=last)

    def show() -> None:
        for number, told in enumerate(found):
            print("\n" * bool(number), end="")
            print_story(told) if "timeline" in told else _print_event(told)

    return Answer(found[0] if len(found) == 1 else {"deliveries": found}, show)


def _find_deliveries(client: OpsClient, name: str, *, by_event: bool) -> Sequence[Mapping[str, Any]]:
    """Return the delivery of this id, or those of the event or the provider's message of this id, oldest first.

    An event that no route made anything of is returned itself.
    """
    if _ID.fullmatch(name) and not by_event:
        with suppress(NotThereError):
            return [client.get(f"/deliveries/{name}")]
    if _ID.fullmatch(name):
        with suppress(NotThereError):
            event = client.get(f"/events/{name}")
            return [client.get(f"/deliveries/{row['id']}") for row in event["deliveries"][-_LIMIT:]] or [event]
    rows = client.get("/deliveries", {"provider_message_id": name, "limit": _LIMIT})["deliveries"]
    if not rows:
        raise OpsError(
            "no event has come yet"
            if by_event
            else f"no delivery has the id {name!r}, and none is of an event or a provider's message of this id, or of "
            "one that ends so: `nector-relay deliveries` lists them"
        )
    return [client.get(f"/deliveries/{row['id']}") for row in reversed(rows)]


def _print_event(event: Mapping[str, Any]) -> None:
    """Print the page of an event of which nothing was made."""
    console, names = open_console(), ", ".join(event["routes_today"])
    sent = f", its delivery {event['delivery_id']}" if event["delivery_id"] else ""
    plan = f"`nector-relay replay --plan --event {event['id']}`"
    cure = f"{plan} says what it would hit" if names else f"nothing; if it is to be sent, add a route, then {plan}"
    now = f"no route was hit, so nothing was made of it; today's YAML has {names or 'no route'} for {event['topic']}"
    _print_line(console, "", f"event {event['id']}: unrouted")
    _print_line(console, f"{event['received_at']}  ", f"webhook: {event['source']} sent {event['topic']}{sent}")
    _print_line(console, "now: ", now)
    _print_line(console, "do:  ", cure if event["is_kept"] else "nothing: what it held was wiped since")


def print_story(delivery: Mapping[str, Any]) -> None:
    """Print a delivery's story, oldest first, and at its end how it stands and what to do."""
    console = open_console()
    steps = tell_story(delivery)
    state, receipt = delivery["state"], delivery["receipt"]
    more = receipt or (Reason.REPLAYED if delivery["reason"] == Reason.REPLAYED else "")
    _print_line(console, "", f"delivery {delivery['id']}: {state}{', ' + more if more else ''}", receipt or state)
    for step in steps:
        after = f"+{round_duration(max(step.at - steps[0].at, 0))}"
        _print_line(console, f"{format_instant(step.at)} {after:>{_SINCE_WIDTH}}  ", step.text, step.mark)
    for name, text in zip(("now: ", "do:  "), advise(delivery), strict=True):
        _print_line(console, name, text, state)


def _print_line(console: Console, head: str, text: str, mark: str = "") -> None:
    painted = Text(text)
    if mark in STATE_COLOURS:
        painted.highlight_words([mark], STATE_COLOURS[mark])
    print_behind(console, Text(head), painted)


_LOOK_FIRST = "the provider may have taken it: look at its dashboard; only if it is not there: `nector-relay retry ID`"
_EXPLAIN = "`nector-relay explain ID`"  # whoever reads this has just done so


def advise(delivery: Told) -> tuple[str, str]:
    """Return how a delivery stands, and what to do."""
    state, next_at = delivery["state"], delivery["next_attempt_at"]
    match state:
        case "held":
            return _advise_held(delivery)
        case State.PENDING:
            text = f"pending; waits {_explain_now(delivery)}; its deadline is {delivery['deadline_at']}"
            is_down = (delivery.get("lane") or {}).get("state") == "down"
            return text, "nothing, it goes by itself; `nector-relay status` shows the lane" if is_down else "nothing"
        case State.SENDING:
            return "sending: an attempt is open", "nothing; it ends within a minute or two"
        case State.ACCEPTED:
            named = f" as {delivery['provider_message_id']}" if delivery["provider_message_id"] else ""
            standing = f"accepted by {delivery['provider']}{named}, {delivery['receipt'] or 'no receipt yet'}"
        case State.UNKNOWN if next_at is not None:
            return f"unknown: it may have arrived. Sent again at {next_at}, unless a receipt settles it", "nothing"
        case State.UNKNOWN:
            standing = "unknown: it may have arrived"
        case _:
            standing = state
    reason = delivery["reason"]
    if reason == Reason.REPLAYED:
        return _advise_replayed(delivery)
    ended = state in (State.DEAD, State.EXPIRED)
    doubtful = ended and any(map(was_perhaps_taken, delivery["attempt_list"]))
    cure = _fit_cure(_LOOK_FIRST if doubtful else find_cure(reason), delivery["id"])
    return f"{standing} ({reason})" if reason else standing, cure or "nothing"


def was_perhaps_taken(attempt: Told) -> bool:
    """Tell whether an attempt's message may have been taken: nobody knows, or a 2xx refused it."""
    outcome, detail = attempt["outcome"], attempt["detail"] or ""
    return outcome == "uncertain" or (outcome == "rejected" and detail.startswith("HTTP 2"))


def _advise_held(delivery: Told) -> tuple[str, str]:
    standing = [hold for hold in list_met_holds(delivery["hold_changes"]) if hold.released_at is None]
    told = [
        (hold.scope, hold.reason, hold.by and f"by {hold.by}", hold.until and f"until {hold.until}")
        for hold in standing
    ]
    scopes = " and ".join(f"{scope} ({', '.join(filter(None, facts))})" for scope, *facts in told)
    text = f"held behind {scopes or 'a hold'}; its deadline is {delivery['deadline_at']}"
    return text, "; ".join(dict.fromkeys(_list_releases(standing))) or "`nector-relay holds` says why"


def _advise_replayed(delivery: Told) -> tuple[str, str]:
    """Return how it stands with one that a replay has made anew: the newest of its successors does its work."""
    successor = [one for one in delivery["siblings"] if one["created_at"] != delivery["created_at"]][-1]
    text = f"{delivery['state']}, replayed as {successor['id']}, by now {successor['state']}"
    settled = successor["state"] in (State.ACCEPTED, State.PENDING, State.SENDING)
    return text, "nothing" if settled else f"`nector-relay explain {successor['id']}`"


def _list_releases(standing: list[MetHold]) -> Iterator[str]:
    for hold in standing:
        cure = find_cure(Reason.BY_HAND) if hold.by_hand else find_cure(hold.reason)
        cure = f"nothing; it ends by itself. Sooner: {cure}" if hold.until else cure
        yield cure.replace("SCOPE", hold.scope) or f"`nector-relay release {hold.scope}`"


def _fit_cure(cure: str, delivery_id: str) -> str:
    """Put the delivery's id into a cure, and leave out what whoever reads it has done."""
    cure = cure.removeprefix(f"{_EXPLAIN} names it; ").replace(f"{_EXPLAIN} shows the provider's words; ", "")
    return cure.replace(" ID`", f" {delivery_id}`")


def _explain_now(delivery: Told) -> str:
    """Return for what exactly a delivery that nothing holds waits now, and until when."""
    row = [row for row in delivery["timeline"] if row["kind"] == "state"][-1]
    lane, next_at, gap = delivery.get("lane"), delivery["next_attempt_at"], delivery.get("gap_until")
    if lane is None:
        return f"for {delivery['provider']}, which the YAML in force does not have"
    if lane["state"] == "down":
        since, probe = lane["down_since"] or "an earlier run", lane["next_probe_at"]
        return f"behind an outage: {delivery['provider']} is down since {since}, the next probe is at {probe}"
    if lane["state"] == "paused":
        return f"for the pause that {delivery['provider']} asked for, until {lane['paused_until']}"
    now = lane["now"]
    if gap is not None and gap > now and gap >= next_at:
        return f"for the gap of 6 s between two messages to one person, until {gap}"
    if next_at > now:
        limit = Reason.LIMIT_PERSON if delivery["reason"] == Reason.LIMIT_PERSON else None
        return f"{explain_wait(row, limit)}, until {next_at}"
    return f"for its turn at {lane['rate']}, the rate of {delivery['provider']}"
