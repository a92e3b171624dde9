"""`nector-relay erase` and `export`: what is kept of one person goes, or is written out for them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from app.cli import Answer
from app.cli.client import OpsClient, open_client
from app.cli.tables import count_nouns, open_console, print_table, show_progress
from app.errors import OpsError, RelayError
from app.files import read_bytes

TIMEOUT_S = 600.0  # every body that is kept is read through
NOTHING = "nothing is kept of this number"

Phone = Annotated[str, Option(metavar="NUMBER", help="Whose: with country code, or as in store.country.")]


def erase(phone: Phone, yes: Annotated[bool, Option("--yes", help="Do not ask first; for scripts.")] = False) -> Answer:
    """Erase what the running relay keeps of a person. It cannot be undone, and does not reach backups.

    What is kept on purpose: see docs/privacy.md. Exit 1 if something had to be left for a second call.
    """
    if not yes and not sys.stdin.isatty():
        raise OpsError("erasing cannot be undone: add --yes to say that you mean it")
    if not yes and not typer.confirm("Erase everything that is kept of this person? It cannot be undone"):
        return Answer({"erased": False}, lambda: print("nothing was erased"), 1)
    answer = open_client().send("POST", "/erase", {"phone": phone}, TIMEOUT_S)
    is_left = answer["open"] or not answer["log_emptied"]
    return Answer(answer, lambda: print("\n".join(_list_results(answer))), 1 if is_left else 0)


def export(
    phone: Phone,
    output: Annotated[
        Path | None, Option(metavar="FILE", help="Where to; nothing is overwritten. Else: printed.")
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


def _list_results(answer: Mapping[str, Any]) -> list[str]:
    """Return what was done, and what is to be done yet, a line each."""
    done = answer["events"] + answer["deliveries"]
    counted = f"{count_nouns(answer['events'], 'event')}, {count_nouns(answer['deliveries'], 'delivery', 'deliveries')}"
    lines = [f"{answer['phone']}: erased: {counted}" if done or answer["open"] else NOTHING]
    if answer["open"]:
        sending = count_nouns(answer["open"], "delivery is", "deliveries are")
        lines.append(f"{sending} being sent and left for now: run this again in a minute")
    if not answer["log_emptied"]:
        lines.append(
            "the log of the database is being read (a backup?) and still holds it: run this again after that; "
            "PostgreSQL: its dead rows hold it, see docs/replicas.md"
        )
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


PAGE = 500  # numbers a call: far below what a body may hold
LONGEST_NUMBER = 60  # characters of a cell: more is no number, however it is written
LISTED = 1_000
COLUMNS = ("mobile", "phone", "number")
_TIMEOUT_S = 60.0
_EXPECTED = {
    "add": "one number or more",
    "remove": "one number or more",
    "list": "nothing more; a hash cannot be turned back into a number",
    "import": "one file",
}

Action = Literal["add", "remove", "list", "import"]
Placed = tuple[str, str]
"""Where a number stands in a file or a command (`line 7`, `number 2`), and how it is written there."""


def suppressions(
    action: Annotated[
        Action,
        Argument(
            help="add or remove NUMBER…; list; import FILE: a number a line, or a CSV with a column mobile, phone or "
            "number."
        ),
    ],
    given: Annotated[list[str] | None, Argument(metavar="NUMBER|FILE", help="Whom, or a file of them.")] = None,
    reason: Annotated[str, Option(help="With add and import: why, in a word.")] = "by_hand",
) -> Answer:
    """Show and change who gets no marketing messages; utility messages still go out to them.

    A number without a country code is read as one of `store.country`. Exit 1 if any could not be read.
    """
    whom = given or []
    if (action == "list") == bool(whom) or (action == "import" and len(whom) > 1):
        raise RelayError(f"`suppressions {action}` takes {_EXPECTED[action]}")
    if action == "list":
        return _list(open_client())
    named = [(f"number {place}", text) for place, text in enumerate(whom, 1)]
    done = _send(open_client(), _read_file(Path(whom[0])) if action == "import" else named, action, reason)
    word = "marketing again for" if action == "remove" else "no more marketing for"
    counted = f"{word} {count_nouns(done['changed'], 'number')}; as before: {done['unchanged']}"
    lines = [f"{counted}; not read: {len(done['invalid'])}", *done["invalid"]]
    return Answer(done, lambda: print("\n".join(lines)), 1 if done["invalid"] else 0)


def _read_file(path: Path) -> list[Placed]:
    """Return the numbers of a file; raises RelayError where it cannot be read as one."""
    try:
        text = read_bytes(path, 67_108_864).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RelayError(f"{path}: is not UTF-8; save it as CSV UTF-8") from None
    lines = text.splitlines(keepends=True)
    delimiter = next((sign for sign in ",;\t" if sign in "".join(lines[:1])), ",")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        raise RelayError(f"{path}: line {reader.line_num} is no CSV") from None
    if not rows:
        raise RelayError(f"{path}: holds no number")
    titles = [cell.strip().casefold() for cell in rows[0][1]]
    column = next((titles.index(name) for name in COLUMNS if name in titles), None)
    if column is None and any(len(row) > 1 for _, row in rows):
        raise RelayError(f"{path}: has several columns, and none is named {', '.join(COLUMNS)}: name it in line 1")
    rows = rows if column is None else rows[1:]
    return [(f"line {line}", "".join(row[column or 0 :][:1]).strip()) for line, row in rows]


def _send(client: OpsClient, wanted: Sequence[Placed], action: Action, reason: str) -> dict[str, Any]:
    """Hand the numbers over page by page; what was sent twice changes nothing, so it may be begun anew."""
    faults = {
        at: "is too long for a number" if text else "holds no number"
        for at, (_, text) in enumerate(wanted)
        if not 0 < len(text) <= LONGEST_NUMBER
    }
    usable = [at for at in range(len(wanted)) if at not in faults]
    path, more = ("/suppressions/remove", {}) if action == "remove" else ("/suppressions", {"reason": reason})
    counts = {"changed": 0, "unchanged": 0}
    with show_progress("sending") as report:
        for start in range(0, len(usable), PAGE):
            page = usable[start : start + PAGE]
            answer = client.send("POST", path, {"phones": [wanted[at][1] for at in page], **more}, _TIMEOUT_S)
            counts = {name: counts[name] + answer[name] for name in counts}
            faults |= {page[each["place"]]: each["detail"] for each in answer["invalid"]}
            report(start + len(page), len(usable))
    return {**counts, "invalid": [f"{wanted[at][0]}: {faults[at]}" for at in sorted(faults)]}


def _list(client: OpsClient) -> Answer:
    page = client.get("/suppressions", {"limit": LISTED})
    rows: list[dict[str, Any]] = page["suppressions"]
    while page["next_cursor"] is not None:
        page = client.get("/suppressions", {"limit": LISTED, "cursor": page["next_cursor"]})
        rows += page["suppressions"]

    def show() -> None:
        newest_first = sorted(rows, key=lambda row: str(row["since"]), reverse=True)
        titles = ("since", "reason", "id")
        if rows:
            print_table(open_console(), titles, [[str(row[name]) for name in titles] for row in newest_first])
        told = f"no marketing for {count_nouns(len(rows), 'person', 'people')}"
        print(f"{told}; not to be reached: {page['unreachable']}")

    return Answer({"suppressions": rows, "unreachable": page["unreachable"]}, show)
