"""`nector-relay report`: did it work? How far messages came, and what their customers did after."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Option

from app.authoring.preview import fill_page
from app.cli import AsJson, print_json, write_file
from app.cli.client import open_client
from app.cli.tables import STATE_COLOURS, open_console
from app.delivery.story import read_at
from app.errors import OpsError
from app.values.instant import format_instant, round_duration

LONGEST_BESIDE_MS = 366 * 86_400_000  # of a span that has one of the same length beside it
TIMEOUT_S = 120.0  # millions of deliveries, on a slow disk
# Each step of the way with the one that it is a share of. A tap needs no read receipt, for those may be switched off;
# and an act is counted from the acceptance on, whether or not a receipt came.
STEPS: Mapping[str, str] = {
    "received": "",
    "accepted": "received",
    "delivered": "accepted",
    "read": "delivered",
    "clicked": "delivered",
    "acted": "accepted",
    "ordered": "accepted",
}
LOSSES = ("failed", "dead", "expired", "unknown", "suppressed", "waiting")
_BAR_CELLS, _EIGHTHS = 3, " ▏▎▍▌▋▊▉█"
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
Row = Mapping[str, Any]


def report(
    since: Annotated[str, Option(help="Made since: 7d (ago), a date, an instant.")] = "7d",
    until: Annotated[str | None, Option(help="Made until: 12h (ago), a date, an instant.")] = None,
    by: Annotated[Literal["route", "topic", "day"], Option(help="What each row is.")] = "route",
    window: Annotated[str, Option(help="How long after a message what its customer does counts.")] = "7d",
    html: Annotated[Path | None, Option(metavar="FILE", help="Write one static page with small plots.")] = None,
    as_csv: Annotated[bool, Option("--csv", help="Print the rows as CSV, for a spreadsheet.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show how far messages came, and what their customers did after: docs/reporting.md says what each number means."""
    if as_csv and as_json:
        raise OpsError("give either --csv or --json")
    query = {"since": since, "until": until, "by": by, "window": window}
    client = open_client()
    answer = client.get("/report", query, TIMEOUT_S)
    earlier = _go_back(answer)
    answer["before"] = None if earlier is None else client.get("/report", earlier, TIMEOUT_S)
    if html is not None:
        spans = [{**_name_span(each), "by": "day"} for each in (answer, answer["before"]) if each]
        page = draw_report(answer, *(client.get("/report", span, TIMEOUT_S) for span in spans))
        write_file(html, page)
        print(f"wrote {html}")
    elif as_json:
        print_json(answer)
    elif as_csv:
        _print_csv(answer)
    else:
        print_report(open_console(), answer)
    return 0


def _name_span(answer: Row) -> dict[str, str]:
    return {name: answer[name] for name in ("since", "until", "by", "window")}


def _go_back(answer: Row) -> dict[str, str] | None:
    """Return the query for the span of the same length before; None for one longer than anything is kept."""
    since, until = (read_at(answer[name]) for name in ("since", "until"))
    if until - since > LONGEST_BESIDE_MS:
        return None
    return {**_name_span(answer), "since": format_instant(2 * since - until), "until": answer["since"]}


# -- what is known -----------------------------------------------------------------------------------


def list_rows(answer: Row) -> list[dict[str, Any]]:
    """Return the rows with their sum; `unknown_columns`: what of each cannot be known."""
    unheard = [(each["column"], key) for each in answer.get("unheard", ()) for key in each["rows"]]
    rows = [
        {**row, "unknown_columns": {column for column, key in unheard if key == row["key"]}} for row in answer["rows"]
    ]
    of_all = set.intersection(*(row["unknown_columns"] for row in rows)) if rows else set()
    return [*rows, {"key": "total", **answer["total"], "unknown_columns": of_all}]


def is_known(row: Row, name: str) -> bool:
    """Tell whether a step of the way can be known, which is another thing than none."""
    if name in ("delivered", "read", "clicked"):
        return bool(row["reported"] or row[name]) or not row["accepted"]
    return name not in row["unknown_columns"] or bool(row[name])


def list_notes(answer: Row) -> Iterator[str]:
    """Yield what is to be known when reading it: why something is not known and what to do about that."""
    where = "see Receipts in docs/install.md"
    silent = [row["key"] for row in answer["rows"] if row["accepted"] and not row["reported"]]
    if answer["total"]["accepted"] and not answer["total"]["reported"]:
        why = "they seem not to be set up, so what was delivered and read is not known"
        yield f"not one receipt came: {why}; {where}"
    elif answer["by"] == "route" and silent:
        yield f"no receipt came for {', '.join(silent)}: are they set up at that provider? {where}"
    for each in answer.get("unheard", ()):
        of = "" if each["column"] == "ordered" or answer["by"] == "day" else f" after {', '.join(each['rows'])}"
        cure = "is not known: create that webhook at Nector"
        yield f"no {each['topic']} has ever come, so whether customers {each['column']}{of} {cure}"
    yield answer["note"]


def _describe_span(answer: Row) -> str:
    """Return the span to the minute: from 2026-12-24T18:29Z to 2026-12-31T18:29Z."""
    return f"from {answer['since'][:16]}Z to {answer['until'][:16]}Z"


def _write_percent(share: float) -> str:
    """Return a share in whole percent; what is little is not nothing, and what is nearly all is not all."""
    if 0 < share < 0.01:  # noqa: PLR2004  # one percent
        return "<1%"
    return f"{int(share * 100)}%" if 0.99 < share < 1 else f"{share:.0%}"  # noqa: PLR2004  # ninety-nine percent


# -- on a terminal, in a log, in a spreadsheet ---------------------------------------------------------


def print_report(console: Console, answer: Row) -> None:
    """Print the ops API's answer as tables, and what is to be known when reading them."""
    span = _describe_span(answer)
    if not answer["rows"]:
        console.print(f"no deliveries were made {span}")
        console.print("`--since 30d` looks further back; `nector-relay deliveries` lists what there is")
        return
    console.print(f"by {answer['by']}, {span}, acts within {answer['window']}", style="bold")
    rows = list_rows(answer)
    cells = [[_draw_step(console, row, name, whole) for name, whole in STEPS.items()] for row in rows]
    console.print(_draw_table(answer["by"], STEPS, rows, cells))
    if lost := [row for row in rows if any(row[name] for name in LOSSES)]:
        console.print()
        cells = [
            [Text(f"{row[name]:,}", STATE_COLOURS.get(name, "") if row[name] else "dim") for name in LOSSES]
            for row in lost
        ]
        console.print(_draw_table(f"not through, by {answer['by']}", LOSSES, lost, cells))
    console.print()
    if (before := answer.get("before")) is not None:
        total = list_rows(before)[-1]
        counts = (f"{name} {total[name]:,}" if is_known(total, name) else f"{name} -" for name in STEPS)
        length = round_duration(read_at(answer["until"]) - read_at(answer["since"]))
        console.print(f"the {length} before: {', '.join(counts)}")
    for line in list_notes(answer):
        console.print(line, markup=False)  # a topic is what somebody sent


def _draw_table(
    first: str, columns: Sequence[str] | Row, rows: Sequence[Row], cells: Sequence[Sequence[Text]]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, drawn in zip(rows, cells, strict=True):
        table.add_row(Text(row["key"]), *drawn, style="bold" if row["key"] == "total" else "")
    return table


def _draw_step(console: Console, row: Row, name: str, whole: str) -> Text:
    """Return a count with its share of the step before, and on a terminal a small bar."""
    if not is_known(row, name):
        return Text("-")
    count = Text(f"{row[name]:,}")
    if not whole or not row[whole]:
        return count
    share = row[name] / row[whole]
    if not console.is_terminal:
        return count.append(f" {_write_percent(share)}")
    bar = "" if console.options.ascii_only else _draw_bar(share)
    return count.append("\n").append(bar, "green").append(f" {_write_percent(share):>4}", "not bold dim")


def _draw_bar(share: float) -> str:
    """Return a bar of three cells, in eighths; anything above nothing is seen."""
    eighths = min(max(round(share * _BAR_CELLS * 8), share > 0), _BAR_CELLS * 8)
    return "".join(_EIGHTHS[min(max(eighths - 8 * cell, 0), 8)] for cell in range(_BAR_CELLS))


def _print_csv(answer: Row) -> None:
    """Print the rows as RFC 4180 has it; a cell is empty where nobody knows.

    The sum is left out: a spreadsheet would add it to itself. No spreadsheet runs a key as a formula: a topic is what
    somebody sent.
    """
    names = list(answer["total"])
    writer = csv.writer(sys.stdout)
    writer.writerow([answer["by"], *names])
    for row in list_rows(answer)[:-1]:
        key = f"'{row['key']}" if row["key"].startswith(_FORMULAS) else row["key"]
        writer.writerow([key, *(row[name] if is_known(row, name) else "" for name in names)])


# -- as one static page: no script, nothing loaded from elsewhere --------------------------------------


def draw_report(answer: Row, days: Row, days_before: Row | None = None) -> str:
    """Return the page of a report: its rows, the span before beside it, and the days of both."""
    rows, before = list_rows(answer), answer["before"]
    spans = [{**rows[-1], "key": "this span"}]
    spans += [{**list_rows(before)[-1], "key": "the one before"}] if before else []
    length = timedelta(round((read_at(answer["until"]) - read_at(answer["since"])) / 86_400_000) or 1)
    earlier = days_before["rows"] if days_before else ()
    return fill_page(
        "report.html",
        title=f"Did it work? {_describe_span(answer).capitalize()}, acts within {answer['window']}",
        by=answer["by"],
        rows=rows,
        spans=spans,
        plots=[(name, *_list_days(name, days["rows"], earlier, length)) for name in ("received", "accepted")],
        length=length,
        notes=list(list_notes(answer)),
        steps=STEPS,
        is_known=is_known,
        percent=_write_percent,
    )


def _list_days(
    column: str, now: Sequence[Row], before: Sequence[Row], length: timedelta
) -> tuple[list[tuple[date, int, int]], int]:
    """Return a count by day, each beside that of the same day of the span before, and the highest of them."""
    counts = {date.fromisoformat(row["key"]): row[column] for row in now}
    earlier = {date.fromisoformat(row["key"]) + length: row[column] for row in before}
    if not (known := {*counts, *earlier}):
        return [], 1
    first = min(*known, max(known) - length + timedelta(1))  # days without any have a place, too
    days = [first + timedelta(at) for at in range((max(known) - first).days + 1)]
    return [(day, counts.get(day, 0), earlier.get(day, 0)) for day in days], max(*counts.values(), *earlier.values(), 1)
