"""`nector-relay backup`: a consistent copy of the outbox, while the relay runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.commands import Answer
from app.cli.tables import count_nouns, show_progress
from app.clock import read_clock
from app.errors import StoreError
from app.outbox.sqlite.backup import back_up
from app.settings import read_environment, read_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; nothing is overwritten.", show_default=False)],
) -> Answer:
    """Copy the outbox of RELAY_DATABASE_URL to FILE, also while the relay runs. It holds personal data.

    Put back, the copy sends nothing by itself that had not ended in it: see "Backup" in docs/runbook.md.
    """
    settings = read_settings(read_environment())
    if settings.stateless:
        raise StoreError("RELAY_DATABASE_URL is none: a stateless relay has nothing to back up")
    with show_progress("copying") as report:
        done = back_up(settings.database_path, file, read_clock(), report)
    counted = f"{count_nouns(done.events, 'event')}, {count_nouns(done.deliveries, 'delivery', 'deliveries')}"
    told = {"file": str(file), "events": done.events, "deliveries": done.deliveries, "bytes": done.size}
    return Answer(told, lambda: print(f"{file}: {counted}, {done.size:,} bytes; checked"))
