"""`nector-relay examples`: what the running relay's recorder has seen, as examples for the YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.authoring.examples import write_example, write_recorded
from app.cli.client import open_client
from app.cli.commands import Answer, write_file
from app.cli.preview import choose_routes
from app.cli.sources import find_recordings, read_config, read_yaml
from app.cli.tables import count_nouns, open_console, print_table
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
) -> Answer:
    """Show the events that the relay has recorded, with invented names, numbers and codes."""
    if action == "capture" and topic is None:
        raise RelayError("say which topic: `nector-relay examples capture TOPIC`; `examples list` shows them")
    if action != "capture" and (topic is not None or route is not None):
        raise RelayError(f"`examples {action}` takes neither a topic nor --route")
    query = {"topic": SOURCE.canonical_topic(topic)} if topic is not None else {}
    recorded: list[dict[str, Any]] = open_client().get("/examples", query)["examples"]
    if action == "list":
        return _list(recorded)
    if action == "pull":
        return _pull(recorded, config)
    return _capture(SOURCE.canonical_topic(topic or ""), recorded, route, nth, config)


def _list(recorded: Sequence[dict[str, Any]]) -> Answer:
    told = [
        {"topic": name, "events": len(events), "newest": events[0]["at"], "properties": _list_paths(events)}
        for name, events in _group(recorded).items()
    ]
    return Answer({"topics": told}, lambda: _show_topics(told))


def _group(recorded: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for row in recorded:
        topics.setdefault(row["topic"], []).append(row)
    return topics


def _show_topics(topics: Sequence[Mapping[str, Any]]) -> None:
    if not topics:
        print("nothing recorded yet: no event has come")
        return
    rows = [[row["topic"], str(row["events"]), row["newest"], ", ".join(row["properties"])] for row in topics]
    print_table(open_console(), ("topic", "events", "newest", "properties"), rows)


def _list_paths(events: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({path for row in events for path in list_paths(row["event"])})


def _capture(topic: str, recorded: Sequence[dict[str, Any]], name: str | None, nth: int, path: Path | None) -> Answer:
    if not recorded:
        raise RelayError(f"no event of {topic} is recorded; `nector-relay examples list` shows what is")
    if nth > len(recorded):
        raise RelayError(f"only {count_nouns(len(recorded), 'event')} of {topic} recorded: --nth 1 is the newest")
    rules, _ = read_config(path)
    event, at = (recorded[nth - 1][key] for key in ("event", "at"))
    entries = {
        route.name: write_example(route, event, rules, read_clock()) for route in choose_routes(rules, name, topic)
    }
    head = f"# of {at}, with invented values; under `examples:` of route"
    text = "".join(f"{head} {route_name}:\n{entry}" for route_name, entry in entries.items())
    told = {"topic": topic, "at": at, "event": event, "examples": entries}
    return Answer(told, lambda: print(text, end=""))


def _pull(recorded: Sequence[dict[str, Any]], config: Path | None) -> Answer:
    """Write the events beside the YAML, where `check` holds every expression against them."""
    by_topic = {name: [row["event"] for row in rows] for name, rows in _group(recorded).items()}
    path = find_recordings(read_yaml(config).sources)
    write_file(path, write_recorded(by_topic))
    text = f"{path}: {count_nouns(len(recorded), 'event')} of {count_nouns(len(by_topic), 'topic')}"
    return Answer({"file": str(path), "events": len(recorded), "topics": len(by_topic)}, lambda: print(text))
