"""Tables for people: aligned and coloured on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATE_COLOURS = {
    "accepted": "green",
    "delivered": "green",
    "read": "green",
    "pending": "cyan",
    "sending": "cyan",
    "held": "yellow",
    "unknown": "yellow",
    "shadow": "blue",
    "suppressed": "blue",
    "expired": "red",
    "dead": "red",
    "failed": "red",
    "right": "green",
    "wrong": "red",
    "hold": "yellow",
    "uncertain": "yellow",
    "rejected": "red",
}


class PlainConsole(Console):
    """Rich's own exits with 1 where its reader has gone; app/cli/commands.py knows better."""

    def on_broken_pipe(self) -> None:
        """Let the failure go on: this is called where it is caught."""
        raise  # noqa: PLE0704  # BrokenPipeError


def open_console() -> Console:
    """Return stdout. Away from a terminal nothing is wrapped, so that every row stays one line."""
    console = PlainConsole(highlight=False)
    if not console.is_terminal:
        console.width = 400
        console.soft_wrap = True
    return console


def print_table(console: Console, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under titles; words that name a state get its colour."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(paint_state(cell) for cell in row))
    console.print(table)


def paint_state(word: str) -> Text:
    """Return a cell; user text is never read as markup."""
    return Text(word, style=STATE_COLOURS.get(word, ""))


def count_nouns(number: int, one: str, many: str = "") -> str:
    """Return `1 route`, `2 routes`; `many` where an s does not make it."""
    return f"{number} {one if number == 1 else many or one + 's'}"
