"""A relay that notes each time that its process opens the outbox's file itself. SQLite's opens are not Python's.

Run as `python audited_relay.py NOTES [careless] serve …`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from app.outbox.sqlite import file as opening
from app.outbox.sqlite import store as sqlite


def audit(notes: int, database: str) -> None:
    """Note every open of `database`."""

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str | os.PathLike) and str(Path(given[0]).absolute()) == database:
            os.write(notes, f"{database}\n".encode())

    sys.addaudithook(hear)


if __name__ == "__main__":
    audit(os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT), str(Path("data/relay.db").absolute()))
    if sys.argv[1] == "careless":
        sys.argv.pop(1)
        leave_trace = opening.leave_trace

        def read_header(path: Path) -> None:
            leave_trace(path)
            path.open("rb").close()

        setattr(sqlite, "leave_trace", read_header)  # noqa: B010  # the fault itself
    from app.__main__ import main

    main()
