"""`nector-relay status`: how the relay is now, and what needs a person; `hold`, `release`, `holds`: what is to wait."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Option

from app.cli import Answer, AsJson
from app.cli.client import OpsClient, open_client, quote_part
from app.cli.tables import count_nouns, open_console, print_behind, print_table
from app.delivery.status import LaneStatus, Status
from app.delivery.story import read_at
from app.errors import NoRelayError, OpsError
from app.settings import read_environment
from app.values.instant import round_duration

EVERY_S = 2.0
_HEAD = 12
_UNITS = (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024))


def status(
    watch: Annotated[bool, Option("--watch", help="Show it again every 2 s, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show how the relay is now. Exit 0, 1 if something needs a person, 69 if no relay answers."""
    try:
        client = open_client()
        while watch:
            _show(client, as_json=as_json, clear=not as_json)
            time.sleep(EVERY_S)
        return _show(client, as_json=as_json)
    except NoRelayError as error:
        print(f"nector-relay: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE


def _show(client: OpsClient, *, as_json: bool, clear: bool = False) -> int:
    found = Status.model_validate(client.get("/status"))
    if as_json:
        print(found.model_dump_json(), flush=True)
        return 1 if found.needs else 0
    console = open_console()
    if clear:
        console.clear()
    for head, text in list_lines(found):
        print_behind(console, Text(f"{head:<{_HEAD}}"), Text(text))
    if found.lanes:
        titles = ("provider", "state", "waiting", "oldest due", "receipts of accepted")
        print_table(console, titles, [_row(lane, found) for lane in found.lanes])
    for need in found.needs:
        print_behind(console, Text(f"{'needs you':<{_HEAD}}", "red"), Text(need.what))
        print_behind(console, Text(f"{'  do':<{_HEAD}}"), Text(need.do))
    if not found.needs:
        console.print("nothing needs a person", style="green")
    return 1 if found.needs else 0


def list_lines(found: Status) -> Iterator[tuple[str, str]]:
    """Yield what stands on the screen above the lanes, as heads and texts."""
    config, event, store = found.config, found.last_event, found.store
    yield "relay", f"nector-relay {found.version}, running for {_tell_age(found.started_at, found)}"
    shadow = "" if config.mode == "live" else f", mode {config.mode}: nothing is sent"
    yield "yaml", f"{config.path} ({config.hash}), in force for {_tell_age(config.since, found)}{shadow}"
    if config.refused:
        yield "", f"refused {_tell_age(config.refused.at, found)} ago: {config.refused.faults[0]}"
    yield "last event", f"{event.topic}, {_tell_age(event.at, found)} ago" if event else "none yet"
    told = [f"{one.count} {one.kind} {one.reason} ({_tell_age(one.last_at, found)} ago)" for one in found.refused]
    yield "refused", ", ".join(told) or "no request since the start"
    for hold in found.holds:
        who = f" by {hold.by}" if hold.by else " by hand" if hold.by_hand else ""
        end = f"until {hold.until}" if hold.until else f"probe {hold.probe_at}" if hold.probe_at else "no end"
        waiting = f"{hold.deliveries} waiting"
        yield "hold", f"{hold.scope}: {hold.reason}{who}, for {_tell_age(hold.since, found)}, {end}, {waiting}"
    if not found.holds:
        yield "holds", "none"
    ended = Counter[str]()
    for group in found.unhandled:
        ended[group.state] += group.count
    yield "unhandled", f"{ended['dead']} dead, {ended['unknown']} unknown"
    size, free = (_tell_bytes(count) for count in (store.size_bytes, store.free_bytes))
    yield "store", f"{store.place}, {size}, {free} free" + ("" if store.can_commit else ", CANNOT COMMIT")


def _row(lane: LaneStatus, found: Status) -> list[str]:
    since = f" for {_tell_age(lane.down_since, found)}, probe {_tell_wait(lane.next_probe_at, found)}"
    pause = f" until {lane.paused_until}" if lane.paused_until else ""
    oldest = _tell_age(lane.oldest_due_at, found) if lane.oldest_due_at else "-"
    last = f", last {_tell_age(lane.last_receipt_at, found)} ago" if lane.last_receipt_at else ""
    receipts = f"{lane.reported} of {lane.accepted}{last}" if lane.accepted else "-"
    state = f"down{since}" if lane.state == "down" else f"{lane.state}{pause}"
    return [lane.provider, state, str(lane.waiting), oldest, receipts]


def _tell_age(at: str | None, found: Status) -> str:
    return round_duration(max(read_at(found.now) - read_at(at), 0)) if at else "?"


def _tell_wait(at: str | None, found: Status) -> str:
    wait_ms = max(read_at(at) - read_at(found.now), 0) if at else 0
    return f"in {round_duration(wait_ms)}" if wait_ms else "now"


def _tell_bytes(count: int | None) -> str:
    if count is None:
        return "size unknown"
    unit, size = next(((unit, size) for unit, size in _UNITS if count >= size), _UNITS[-1])
    return f"{count / size:.0f} {unit}"


# -- holds: stopping a scope and letting it go on ----------------------------------------------------

Scope = Annotated[str, Argument(help="provider:NAME, route:NAME or template:PROVIDER/NAME")]
_USER_NAMES = ("SUDO_USER", "USER", "LOGNAME", "USERNAME")


def holds() -> Answer:
    """List what is stopped, why, by whom and until when; and which provider is down, though nothing stops it."""
    client = open_client()
    answer = client.get("/holds")
    return Answer(answer, lambda: _show_holds(client, answer["holds"]))


def _show_holds(client: OpsClient, holds: Sequence[Mapping[str, Any]]) -> None:
    for lane in Status.model_validate(client.get("/status")).lanes:
        if lane.state == "down":
            how = f"down since {lane.down_since}, next probe {lane.next_probe_at}, {lane.waiting} waiting"
            print(f"{lane.provider} is {how}")
    if not holds:
        print("nothing is on hold")
        return
    titles = ("scope", "reason", "since", "waiting", "by", "until")
    console, rows = open_console(), [_tell_hold(hold) for hold in holds]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    if not console.is_terminal or sum(widths) + 2 * len(widths) <= console.width:
        print_table(console, titles, rows)
        return
    for scope, *others in rows:  # a scope is there to be copied
        told = (f"{title}: {cell}" for title, cell in zip(titles[1:], others, strict=True) if cell)
        print(f"{scope}\n  {', '.join(told)}")


def _tell_hold(hold: Mapping[str, Any]) -> list[str]:
    since, until = (f"{hold[name][:16]}Z" if hold[name] else "" for name in ("since", "until"))  # to the minute
    return [hold["scope"], hold["reason"], since, str(hold["deliveries"]), hold["by"] or "", until]


def hold(
    scope: Annotated[
        str | None, Argument(help="provider:NAME, route:NAME or template:PROVIDER/NAME; left out: list them.")
    ] = None,
    reason: Annotated[str | None, Option(help="For those who find it stopped.")] = None,
    lasts: Annotated[
        str | None, Option("--for", metavar="DURATION", help="It ends by itself after 2h, 30m, 1d.")
    ] = None,
    by: Annotated[str | None, Option(metavar="NAME", help="Who stops it (else the user of this shell).")] = None,
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
    by: Annotated[str | None, Option(metavar="NAME", help="Who lets it go (else the user of this shell).")] = None,
) -> Answer:
    """Let a held scope go on. One that had reached a limit may send as many again."""
    open_client().send("DELETE", f"/holds/{quote_part(scope)}", query={"by": _name_user(by)})
    return Answer({"scope": scope, "released": True}, lambda: print(f"{scope} goes on"))
