"""Tables for people: aligned and coloured on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[\d:.]+Z")
_COLOURS = {
    "green": ("accepted", "delivered", "read", "right"),
    "cyan": ("pending", "sending"),
    "yellow": ("held", "unknown", "hold", "uncertain"),
    "blue": ("shadow", "suppressed"),
    "red": ("expired", "dead", "failed", "wrong", "rejected"),
}
STATE_COLOURS = {state: colour for colour, states in _COLOURS.items() for state in states}
PATIENCE_S = 2.0


@contextmanager
def show_waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is waited for, once that takes a while; elsewhere the last line says it all.

    Whoever waits may tell how far it is, which is shown elsewhere, too.
    """
    console, late_at = Console(stderr=True), time.monotonic() + PATIENCE_S
    status = console.status(text)
    timer = threading.Timer(PATIENCE_S, status.start)
    timer.daemon = True

    def tell(progress: str) -> None:
        if console.is_terminal:
            status.update(progress)
        elif time.monotonic() > late_at:
            console.print(progress, highlight=False)

    if console.is_terminal:
        timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        if console.is_terminal:
            timer.join()
            status.stop()


@contextmanager
def show_progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, for whoever tells it (done, whole); elsewhere one line at the end says it all."""
    console = Console(stderr=True)
    columns = (TextColumn(text), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


class PlainConsole(Console):
    """Rich's own exits with 1 where its reader has gone; app/cli/__init__.py knows better."""

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


def print_table(
    console: Console,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    dropped: Sequence[str] = (),
    *,
    titled: bool = True,
) -> None:
    """Print rows under titles; words that name a state get its colour.

    On a terminal that is too narrow, the columns of `dropped` go one by one, empty ones first. An id and what stands
    first in a row are never broken: they are there to be copied.
    """
    columns = {title: [row[place] for row in rows] for place, title in enumerate(titles)}
    widths = {title: max(map(len, (title * titled, *cells))) for title, cells in columns.items()}
    for title in sorted(dropped, key=lambda title: any(columns.get(title, ()))) if console.is_terminal else ():
        if sum(widths.values()) + 2 * (len(widths) - 1) > console.width:
            widths.pop(title, None)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=titled)
    for title, width in widths.items():
        whole = title == titles[0] or any(map(_is_whole, columns[title]))
        table.add_column(title, overflow="fold", no_wrap=whole, min_width=width if whole else None)
    for place in range(len(rows)):
        cells = [columns[title][place] for title in widths]
        table.add_row(*(Text(cell, STATE_COLOURS.get(cell, "")) for cell in cells))  # text is never read as markup
    console.print(table)


def _is_whole(cell: str) -> bool:
    """Tell whether a cell is an id, an instant or a state, which are read as one."""
    return cell in STATE_COLOURS or _WHOLE.fullmatch(cell) is not None


def print_behind(console: Console, head: Text, text: Text) -> None:
    """Print a text behind its head, folded on a terminal so that the head's column stays empty; else one line."""
    width = max(console.width - len(head), 20) if console.is_terminal else max(len(text), 1)
    for line in text.wrap(console, width):
        line.rstrip()
        console.print(Text.assemble(head, line), soft_wrap=True)
        head = Text(" " * len(head))


def count_nouns(number: int, one: str, many: str = "") -> str:
    """Return `1 route`, `2 routes`; `many` where an s does not make it."""
    return f"{number} {one if number == 1 else many or one + 's'}"
