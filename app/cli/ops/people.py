"""`nector-relay erase` and `export`: what is kept of one person goes, or is written out for them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.cli.commands import AsJson
from app.cli.ops.client import OpsClient, open_client
from app.cli.tables import count_nouns, open_console, print_table
from app.errors import OpsError, RelayError
from app.files import read_bytes

TIMEOUT_S = 600.0  # every body that is kept is read through
NOTHING = "nothing is kept of this number"

Phone = Annotated[str, typer.Option(metavar="NUMBER", help="Whose: with country code, or as in store.country.")]


def erase(
    phone: Phone,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first; for scripts.")] = False,
    as_json: AsJson = False,
) -> int:
    """Erase what the running relay keeps of a person. It cannot be undone, and does not reach backups.

    What is kept on purpose: see docs/privacy.md. Exit 1 if something had to be left for a second call.
    """
    if not yes and not _is_confirmed():
        print("nothing was erased", file=sys.stderr if as_json else sys.stdout)
        return 1
    answer = open_client().send("POST", "/erase", {"phone": phone}, TIMEOUT_S)
    print(json.dumps(answer, ensure_ascii=False, indent=2) if as_json else "\n".join(_list_results(answer)))
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


PAGE = 500  # numbers a call: far below what a body may hold
LONGEST_NUMBER = 60  # characters of a cell: more is no number, however it is written
LISTED = 1_000
COLUMNS = ("mobile", "phone", "number")
_TIMEOUT_S = 60.0

Action = Literal["add", "remove", "list", "import"]


@dataclass(frozen=True, slots=True)
class Written:
    """A number as it stands in a file or a command, and where: line 7, number 2."""

    kind: Literal["line", "number"]
    place: int
    text: str


@dataclass(slots=True)
class Done:
    """These counts say what has come of the numbers so far."""

    changed: int = 0
    unchanged: int = 0
    faults: list[tuple[Written, str]] = field(default_factory=list)

    @property
    def invalid(self) -> list[str]:
        """Return what could not be read, in the order in which it stands there."""
        told = sorted(self.faults, key=lambda fault: fault[0].place)
        return [f"{each.kind} {each.place}: {why}" for each, why in told]


def suppressions(
    action: Annotated[
        Action,
        typer.Argument(
            help="add or remove NUMBER…; list; import FILE: a number a line, or a CSV with a column mobile, phone or "
            "number."
        ),
    ],
    given: Annotated[list[str] | None, typer.Argument(metavar="NUMBER|FILE", help="Whom, or a file of them.")] = None,
    reason: Annotated[str, typer.Option(help="With add and import: why, in a word.")] = "by_hand",
    as_json: AsJson = False,
) -> int:
    """Show and change who gets no marketing messages; utility messages still go out to them.

    A number without a country code is read as one of `store.country`. Exit 1 if any could not be read.
    """
    if (action == "list") == bool(given):
        raise RelayError(f"`suppressions {action}` takes {_EXPECTED[action]}")
    if action == "list":
        return _list(open_client(), as_json)
    if action == "import" and len(given or ()) != 1:
        raise RelayError(f"`suppressions import` takes {_EXPECTED[action]}")
    wanted = _read_file(Path((given or [""])[0])) if action == "import" else _read_arguments(given or ())
    done = _send(open_client(), wanted, action, reason)
    if as_json:
        print(json.dumps({"changed": done.changed, "unchanged": done.unchanged, "invalid": done.invalid}, indent=2))
    else:
        _show(done, action)
    return 1 if done.faults else 0


_EXPECTED = {
    "add": "one number or more",
    "remove": "one number or more",
    "list": "nothing more; a hash cannot be turned back into a number",
    "import": "one file",
}


# -- what was written ------------------------------------------------------------------------------


def _read_arguments(given: Sequence[str]) -> list[Written]:
    return [Written("number", place, text) for place, text in enumerate(given, 1)]


def _read_file(path: Path) -> list[Written]:
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
    cells = [(line, row[column or 0].strip() if len(row) > (column or 0) else "") for line, row in rows]
    return [Written("line", line, cell) for line, cell in cells]


# -- what becomes of it ----------------------------------------------------------------------------


def _send(client: OpsClient, wanted: Sequence[Written], action: Action, reason: str) -> Done:
    """Hand the numbers over page by page; what was sent twice changes nothing, so it may be begun anew."""
    done = Done()
    usable = []
    for each in wanted:
        if each.text and len(each.text) <= LONGEST_NUMBER:
            usable.append(each)
        else:
            done.faults.append((each, "is too long for a number" if each.text else "holds no number"))
    path, more = ("/suppressions/remove", {}) if action == "remove" else ("/suppressions", {"reason": reason})
    with _show_progress(len(usable)) as advance:
        for start in range(0, len(usable), PAGE):
            page = usable[start : start + PAGE]
            answer = client.send("POST", path, {"phones": [each.text for each in page], **more}, _TIMEOUT_S)
            done.changed += answer["changed"]
            done.unchanged += answer["unchanged"]
            done.faults += [(page[each["place"]], each["detail"]) for each in answer["invalid"]]
            advance(len(page))
    return done


def _show(done: Done, action: Action) -> None:
    word = "marketing again for" if action == "remove" else "no more marketing for"
    print(f"{word} {count_nouns(done.changed, 'number')}; as before: {done.unchanged}; not read: {len(done.faults)}")
    for line in done.invalid:
        print(line)


def _list(client: OpsClient, as_json: bool) -> int:
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = client.get("/suppressions", {"limit": LISTED, "cursor": cursor})
        rows += page["suppressions"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    if as_json:
        print(json.dumps({"suppressions": rows, "unreachable": page["unreachable"]}, ensure_ascii=False, indent=2))
        return 0
    if rows:
        newest_first = sorted(rows, key=lambda row: str(row["since"]), reverse=True)
        titles = ("since", "reason", "id")
        print_table(open_console(), titles, [[str(row[name]) for name in titles] for row in newest_first])
    print(f"no marketing for {count_nouns(len(rows), 'person', 'people')}; not to be reached: {page['unreachable']}")
    return 0


@contextmanager
def _show_progress(whole: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; elsewhere one line at the end says it all."""
    console = Console(stderr=True)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("sending", total=whole)
        yield lambda count: progress.advance(task, count)
