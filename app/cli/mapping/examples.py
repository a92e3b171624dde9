"""`nector-relay examples`: what the running relay's recorder has seen, as examples for the YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.authoring.examples import write_example, write_recorded
from app.cli.mapping.preview import choose_routes
from app.cli.mapping.sources import find_recordings, read_config, read_yaml
from app.cli.ops.client import open_client
from app.cli.tables import AsJson, count_nouns, open_console, print_json, print_table
from app.clock import read_clock
from app.errors import RelayError
from app.sources import SOURCE
from app.values.text import list_paths


def examples(
    action: Annotated[
        Literal["list", "capture", "pull"],
        typer.Argument(help="list: the topics. capture TOPIC: an entry for examples:. pull: all, for `check`."),
    ],
    topic: Annotated[str | None, typer.Argument(help="With capture: Nector's topic.")] = None,
    route: Annotated[
        str | None, typer.Option(help="With capture: for this route; else for every one of the topic.")
    ] = None,
    nth: Annotated[
        int, typer.Option(min=1, help="With capture: which of the recorded ones; 1 is the newest, 2 the one before.")
    ] = 1,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    as_json: AsJson = False,
) -> int:
    """Show the events that the relay has recorded, with invented names, numbers and codes."""
    if action == "capture" and topic is None:
        raise RelayError("say which topic: `nector-relay examples capture TOPIC`; `examples list` shows them")
    if action != "capture" and (topic is not None or route is not None):
        raise RelayError(f"`examples {action}` takes neither a topic nor --route")
    query = {"topic": SOURCE.canonical_topic(topic)} if topic is not None else {}
    recorded: list[dict[str, Any]] = open_client().get("/examples", query)["examples"]
    if action == "list":
        return _list(recorded, as_json=as_json)
    if action == "pull":
        return _pull(recorded, config, as_json=as_json)
    return _capture(SOURCE.canonical_topic(topic or ""), recorded, route, nth, config, as_json=as_json)


def _list(recorded: Sequence[dict[str, Any]], *, as_json: bool) -> int:
    topics: dict[str, list[dict[str, Any]]] = {}
    for row in recorded:
        topics.setdefault(row["topic"], []).append(row)
    if as_json:
        print_json(
            {
                "topics": [
                    {"topic": name, "events": len(events), "newest": events[0]["at"], "properties": _list_paths(events)}
                    for name, events in topics.items()
                ]
            }
        )
        return 0
    console = open_console()
    if not topics:
        console.print("nothing recorded yet: no event has come")
        return 0
    rows = [
        [name, str(len(events)), events[0]["at"], ", ".join(_list_paths(events))] for name, events in topics.items()
    ]
    print_table(console, ("topic", "events", "newest", "properties"), rows)
    return 0


def _list_paths(events: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({path for row in events for path in list_paths(row["event"])})


def _capture(
    topic: str, recorded: Sequence[dict[str, Any]], name: str | None, nth: int, path: Path | None, *, as_json: bool
) -> int:
    if not recorded:
        raise RelayError(f"no event of {topic} is recorded; `nector-relay examples list` shows what is")
    if nth > len(recorded):
        raise RelayError(f"only {count_nouns(len(recorded), 'event')} of {topic} recorded: --nth 1 is the newest")
    rules, _ = read_config(path)
    event, at = (recorded[nth - 1][key] for key in ("event", "at"))
    entries = {
        route.name: write_example(route, event, rules, read_clock()) for route in choose_routes(rules, name, topic)
    }
    if as_json:
        print_json({"topic": topic, "at": at, "event": event, "examples": entries})
        return 0
    for route_name, entry in entries.items():
        print(f"# of {at}, with invented values; under `examples:` of route {route_name}:")
        print(entry, end="")
    return 0


def _pull(recorded: Sequence[dict[str, Any]], config: Path | None, *, as_json: bool) -> int:
    """Write the events beside the YAML, where `check` holds every expression against them."""
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for row in recorded:
        by_topic.setdefault(row["topic"], []).append(row["event"])
    path = find_recordings(read_yaml(config).sources)
    try:
        path.write_text(write_recorded(by_topic), encoding="utf-8")
    except OSError as error:
        raise RelayError(f"{path}: cannot be written ({error.strerror})") from None
    if as_json:
        print_json({"file": str(path), "events": len(recorded), "topics": len(by_topic)})
        return 0
    print(f"{path}: {count_nouns(len(recorded), 'event')} of {count_nouns(len(by_topic), 'topic')}")
    return 0
