"""`nector-relay explain`: one delivery's story, from the webhook to the receipt."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from app.cli.ops.client import OpsClient, open_client
from app.cli.ops.deliveries import AsJson, find_cure
from app.cli.tables import STATE_COLOURS, open_console
from app.delivery.story import advise, tell_story
from app.errors import NotThereError, OpsError
from app.values.duration import round_duration
from app.values.instant import format_instant

_ID = re.compile(r"[A-Za-z0-9_-]+")  # anything else would be read as another path
_LIMIT = 50  # stories in a row; whoever wants more wants a list
_SINCE_WIDTH = 8  # +120 min


def explain(
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="A delivery's id; or an event's, or the provider's of a message.")
    ],
    as_json: AsJson = False,
) -> int:
    """Tell one delivery's story, from the webhook to the receipt: times in UTC, values masked."""
    found = _find_deliveries(open_client(), id_)
    if as_json:
        print(json.dumps(found[0] if len(found) == 1 else {"deliveries": found}, ensure_ascii=False, indent=2))
        return 0
    for number, delivery in enumerate(found):
        print("\n" * bool(number), end="")
        print_story(delivery)
    return 0


def _find_deliveries(client: OpsClient, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the delivery of this id, or those of the event or the provider's message of this id, oldest first."""
    if _ID.fullmatch(name):
        try:
            return [client.get(f"/deliveries/{name}")]
        except NotThereError:
            pass
    for query in ({"event_id": name}, {"provider_message_id": name}):
        rows = client.get("/deliveries", {**query, "limit": _LIMIT})["deliveries"]
        if rows:
            return [client.get(f"/deliveries/{row['id']}") for row in reversed(rows)]
    raise OpsError(
        f"no delivery has the id {name!r}, and none is of an event or a provider's message of this id: "
        "`nector-relay deliveries` lists them; an event that hit no route has none, and "
        "`nector-relay replay --plan --event ID` says what it would hit today"
    )


def print_story(delivery: Mapping[str, Any]) -> None:
    """Print a delivery's story, oldest first, and at its end how it stands and what to do."""
    console = open_console()
    steps = tell_story(delivery)
    state, receipt = delivery["state"], delivery["receipt"]
    _print_lines(
        console, "", f"delivery {delivery['id']}: {state}{', ' + receipt if receipt else ''}", receipt or state
    )
    for step in steps:
        after = f"+{round_duration(max(step.at - steps[0].at, 0))}"
        _print_lines(console, f"{format_instant(step.at)} {after:>{_SINCE_WIDTH}}  ", step.text, step.mark)
    for name, text in zip(("now: ", "do:  "), advise(delivery, find_cure), strict=True):
        _print_lines(console, name, text, state)


def _print_lines(console: Console, head: str, text: str, mark: str) -> None:
    """Print a text behind its head, folded on a terminal so that the head's column stays empty; else one line."""
    width = max(console.width - len(head), 20) if console.is_terminal else len(text) or 1
    for number, line in enumerate(textwrap.wrap(text, width, break_on_hyphens=False)):
        painted = Text(line)
        if mark in STATE_COLOURS:
            painted.highlight_words([mark], STATE_COLOURS[mark])
        console.print(Text(head if number == 0 else " " * len(head)) + painted, soft_wrap=True)
