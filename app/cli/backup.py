"""`nector-relay backup`: a consistent copy of the outbox, while the relay runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.tables import AsJson, count_nouns, print_json
from app.clock import read_clock
from app.errors import StoreError
from app.outbox.sqlite.backup import back_up
from app.settings import read_environment, read_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; nothing is overwritten.", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Copy the outbox of RELAY_DATABASE_URL to FILE, also while the relay runs. It holds personal data.

    Put back, the copy sends nothing by itself that had not ended in it: see "Backup" in docs/runbook.md.
    """
    settings = read_settings(read_environment())
    if settings.stateless:
        raise StoreError("RELAY_DATABASE_URL is none: a stateless relay has nothing to back up")
    if settings.shares_database:
        raise StoreError("the outbox is in PostgreSQL: back it up with pg_dump, see Backup in docs/runbook.md")
    with _show_progress() as report:
        done = back_up(settings.database_path, file, read_clock(), report)
    if as_json:
        print_json({"file": str(file), "events": done.events, "deliveries": done.deliveries, "bytes": done.size})
        return 0
    counted = f"{count_nouns(done.events, 'event')}, {count_nouns(done.deliveries, 'delivery', 'deliveries')}"
    print(f"{file}: {counted}, {done.size:,} bytes; checked")
    return 0


@contextmanager
def _show_progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; elsewhere one line at the end says it all."""
    console = Console(stderr=True)
    columns = (TextColumn("copying"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("copying")
        yield lambda done, whole: progress.update(task, completed=done, total=whole)
