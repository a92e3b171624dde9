"""`nector-relay preview`: the message before a customer sees it; `route`: which routes an event hits, and why."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from app.authoring.preview import Preview, describe_plan, draw_page, preview_message, print_preview
from app.cli import Answer, AsJson, ConfigFile, print_json, write_file
from app.cli.client import open_client, quote_part
from app.cli.sources import make_event, read_config, read_event, read_webhook
from app.clock import new_uuid7, read_clock
from app.errors import NoRelayError, RelayError
from app.mapping import ask_similar
from app.mapping.rules import Config, Route
from app.mapping.template import Templates, print_message
from app.model.delivery import State
from app.sources import SOURCE


def preview(
    route: Annotated[
        str | None, Argument(help="A route of the YAML, or the YAML file, as `check` takes it; else all routes.")
    ] = None,
    event: Annotated[str | None, Option(help="A JSON file with an event, or - for stdin.")] = None,
    config: ConfigFile = None,
    golden: Annotated[
        Path | None,
        Option(metavar="DIR", help="Compare with the files of this folder, one a route; write those not there."),
    ] = None,
    update: Annotated[bool, Option("--update", help="With --golden: write every file anew.")] = False,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write a page that looks like WhatsApp.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show each message as the customer sees it: from the routes' examples, or from one event. Exit 1 if one fails."""
    if update and golden is None:
        raise RelayError("--update writes the files of --golden DIR: name the folder")
    if as_json and (golden or html):
        raise RelayError("--json prints the messages: leave --golden and --html out")
    if route is not None and route.endswith((".yaml", ".yml")):
        config, route = Path(route), None
    rules, templates = read_config(config)
    topic, payload = (None, None) if event is None else read_webhook(event)
    chosen = choose_routes(rules, route, topic)
    now = read_clock()
    silent = golden is not None or html is not None
    shown = {
        one.name: preview_examples(one, rules, templates, now, silent=silent)
        if payload is None
        else [preview_message(one, make_event(topic or one.topic, payload, now), rules.store, templates, "event")]
        for one in chosen
    }
    if html is not None:
        previews = [each for previews in shown.values() for each in previews]
        write_file(html, draw_page(previews, "What customers see"))
    if golden is not None:
        texts = {name: print_golden(previews) for name, previews in shown.items() if previews}
        return compare_golden(golden, texts, update=update, whole=route is None and event is None)
    if html is not None:
        print(f"wrote {html}")
        return 0
    _print_routes(chosen, shown, as_json=as_json)
    return 0 if all(previews and all(each.is_sent for each in previews) for previews in shown.values()) else 1


def choose_routes(config: Config, name: str | None, topic: str | None) -> list[Route]:
    """Return the route of this name, else those for the topic, else all; raises RelayError naming those there are."""
    if name is not None:
        routes = [route for route in config.routes if route.name == name]
        if not routes:
            known = ", ".join(route.name for route in config.routes)
            raise RelayError(f"no route is named {name!r}; there are {known}")
        return routes
    if topic is None:
        return list(config.routes)
    routes = [route for route in config.routes if SOURCE.canonical_topic(route.topic) == SOURCE.canonical_topic(topic)]
    if not routes:
        raise RelayError(f"no route waits for {topic!r}; name one to see its message all the same")
    return routes


def preview_examples(route: Route, config: Config, templates: Templates, now: int, *, silent: bool) -> list[Preview]:
    """Return a preview of every example of a route. `silent`: also of those that are not meant to send."""
    return [
        preview_message(route, make_event(route.topic, one.event, now), config.store, templates, f"example {number}")
        for number, one in enumerate(route.examples, 1)
        if silent or (one.hits and one.dead is None)
    ]


def _describe_route(route: Route, previews: list[Preview]) -> dict[str, Any]:
    messages = [
        {
            "title": each.title,
            "sent": each.is_sent and not each.miss,
            "to": each.recipient or None,
            "variables": [variable.value for variable in each.variables],
            "text": print_message(each.filled) if each.filled else None,
            "fault": each.fault or None,
            "miss": each.miss or None,
            "notes": each.notes,
        }
        for each in previews
    ]
    return {"route": route.name, "provider": route.provider, "template": route.template, "messages": messages}


def _print_routes(routes: list[Route], shown: Mapping[str, list[Preview]], *, as_json: bool) -> None:
    if as_json:
        print_json({"routes": [_describe_route(one, shown[one.name]) for one in routes]})
        return
    for one in routes:
        print(f"── {one.name}: {one.provider} · {one.template}")
        for preview in shown[one.name]:
            print(print_preview(preview), end="\n\n")
        if not shown[one.name]:
            print("no example that sends: add one under its `examples:`, or give --event FILE", end="\n\n")


# -- kept as files beside the YAML, one a route: a change of a message is then a diff that somebody reviews --------

_SUFFIX = ".txt"
_LENGTH = re.compile(r"\d+ of \d+ characters")


def print_golden(previews: Sequence[Preview]) -> str:
    """Return the file of one route: its facts, then every example."""
    route, template = previews[0].route, previews[0].template
    told = f" · {template.language} · {template.category.lower()}" if template else ""
    blocks = [f"{route.name}: {route.topic} → {route.provider} · {route.template}{told}"]
    for preview in previews:
        notes = [note for note in preview.notes if not _LENGTH.fullmatch(note)]  # it would change with every word
        blocks.append(f"── {preview.title}\n{print_preview(replace(preview, notes=tuple(notes)))}")
    return "\n\n".join(blocks) + "\n"


def compare_golden(folder: Path, texts: Mapping[str, str], *, update: bool, whole: bool) -> int:
    """Compare each route's text with its file and say what differs; 1 if something does.

    A file that is not there is written, except where CI runs (`CI` is set): there it is a fault, as nobody would
    commit it. `update` writes all. `whole`: `texts` are all routes, so that a file of no route is stale.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {folder / f"{name}{_SUFFIX}": text for name, text in texts.items()}
        stale = sorted(set(folder.glob(f"*{_SUFFIX}")).difference(wanted)) if whole else []
        results = [_settle_file(path, text, update=update) for path, text in wanted.items()]
        for path in stale:
            if update:
                path.unlink()
            print(f"{'removed ' if update else ''}{path}: no route has its name")
        results += [update] * len(stale)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # of what is printed
            raise
        raise RelayError(f"{error.filename or folder}: cannot be used ({error.strerror})") from None
    wrong = results.count(False)
    cure = f"; if that is meant, run `nector-relay preview --golden {folder} --update`" if wrong else ""
    print(f"{folder}: {len(results) - wrong} right, {wrong} not{cure}")
    return 1 if wrong else 0


def _settle_file(path: Path, text: str, *, update: bool) -> bool:
    kept = path.read_text(encoding="utf-8") if path.exists() else None
    if kept == text:
        return True
    if update or (kept is None and not os.environ.get("CI")):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
        return True
    if kept is None:
        print(f"{path}: is not there")
        return False
    lines = difflib.unified_diff(kept.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "now")
    print("".join(line if line.endswith("\n") else f"{line}\n" for line in lines), end="")  # one may lack its end
    return False


# -- route: which routes an event hits, why not the others, and what would become of it --------------


def route(
    event: Annotated[
        str,
        Argument(metavar="EVENT.json|ID", help="A webhook's body, - for stdin, or the id of a stored event."),
    ],
    topic: Annotated[str | None, Option(help="Its x-nector-topic.")] = None,
    config: ConfigFile = None,
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
