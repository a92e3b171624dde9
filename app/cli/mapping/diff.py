"""`nector-relay diff`: which stored events a new YAML would send otherwise. It reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.commands import Answer
from app.cli.ops.client import open_client
from app.cli.tables import count_nouns, show_waiting
from app.relay.reload import read_text

TIMEOUT_S = 60.0
_WORDS = {
    "newly_sent": "newly sent",
    "no_longer_sent": "no longer sent",
    "another_provider": "sent through another provider",
    "another_template": "sent as another template",
    "another_number": "sent to another number",
    "other_content": "sent with other content",
}


def diff(
    new: Annotated[Path, typer.Argument(metavar="NEW.yaml", help="The YAML to compare with the one in force.")],
    since: Annotated[str, typer.Option(help="Events received since: 7d (ago), a date, an instant.")] = "7d",
) -> Answer:
    """Say which of the running relay's stored events a new YAML would send otherwise, with a masked example each.

    The texts beside it (templates.yaml) are read, too. Exit 0 if nothing changes, 1 if anything does.
    """
    order: dict[str, Any] = {"yaml": read_text(new), "name": str(new), "since": since}
    beside = new.parent / "templates.yaml"
    if beside.is_file():
        order["templates"] = read_text(beside)
    answer = _add_up(_ask(order))
    return Answer(answer, lambda: _show(answer, since), 1 if answer["changes"] else 0)


def _ask(order: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the answers, each about the next events; what takes long says how far it is."""
    client, after, events = open_client(), 0, 0
    with show_waiting("looking at the stored events") as tell:
        while after is not None:
            answer = client.send("POST", "/diff", {**order, "after": after}, TIMEOUT_S)
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


def _show(answer: Mapping[str, Any], since: str) -> None:
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
