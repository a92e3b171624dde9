"""`nector-relay erase` and `export`: what is kept of one person goes, or is written out for them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.ops_client import open_client
from app.cli.wording import count_nouns
from app.errors import OpsError

TIMEOUT_S = 600.0  # every body that is kept is read through
NOTHING = "nothing is kept of this number"

Phone = Annotated[str, typer.Option(metavar="NUMBER", help="Whose: with country code, or as in store.country.")]


def erase(
    phone: Phone,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first; for scripts.")] = False,
) -> int:
    """Erase what the running relay keeps of a person. It cannot be undone, and does not reach backups.

    What is kept on purpose: see docs/privacy.md. Exit 1 if something had to be left for a second call.
    """
    if not yes and not _is_confirmed():
        print("nothing was erased")
        return 1
    answer = open_client().send("POST", "/erase", {"phone": phone}, TIMEOUT_S)
    for line in _list_results(answer):
        print(line)
    return 1 if answer["open"] or not answer["log_emptied"] else 0


def export(
    phone: Phone,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; nothing is overwritten. Else: printed.")
    ] = None,
) -> int:
    """Write everything that the running relay keeps of a person as one JSON document, unmasked."""
    if output is not None and output.exists():  # before the data are asked for: that is logged
        raise OpsError(f"{output} is there already; an export overwrites nothing")
    record = open_client().send("POST", "/export", {"phone": phone}, TIMEOUT_S)
    if not (record["events"] or record["marketing"]["suppressed"] or record["unreachable_since"]):
        print(NOTHING, file=sys.stderr if output is None else sys.stdout)
        return 0
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    if output is None:
        print(text, end="")
        return 0
    _write_new(output, text)
    deliveries = sum(len(event["deliveries"]) for event in record["events"])
    counted = f"{count_nouns(len(record['events']), 'event')}, {count_nouns(deliveries, 'delivery', 'deliveries')}"
    print(f"{output}: {counted}; unmasked, and readable by you alone")
    return 0


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        raise OpsError("erasing cannot be undone: add --yes to say that you mean it")
    return typer.confirm("Erase everything that is kept of this person? It cannot be undone", default=False)


def _list_results(answer: Mapping[str, Any]) -> list[str]:
    """Return what was done, and what is to be done yet, a line each."""
    done = answer["events"] + answer["deliveries"]
    counted = f"{count_nouns(answer['events'], 'event')}, {count_nouns(answer['deliveries'], 'delivery', 'deliveries')}"
    lines = [f"{answer['phone']}: erased: {counted}" if done or answer["open"] else NOTHING]
    if answer["open"]:
        sending = count_nouns(answer["open"], "delivery is", "deliveries are")
        lines.append(f"{sending} being sent and left for now: run this again in a minute")
    if not answer["log_emptied"]:
        lines.append("the log of the database is being read (a backup?) and still holds it: run this again after that")
    if answer["opt_out_kept"]:
        lines.append("that they want no marketing stays known, as a hash")
    if done:
        lines.append("backups are not reached: delete those that are older")
    return lines


def _write_new(path: Path, text: str) -> None:
    """Write a file for its owner alone. Raises OpsError where it cannot be, and leaves no half of it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise OpsError(f"{path} is there already; an export overwrites nothing") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
