"""`nector-relay report`: did it work? How far messages came, and what their customers did after."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.commands import AsJson
from app.cli.ops.client import open_client
from app.cli.ops.report_page import draw_days, draw_report_page, draw_rows
from app.cli.tables import STATE_COLOURS, open_console
from app.delivery.story import read_at
from app.errors import OpsError
from app.values.duration import round_duration
from app.values.instant import format_instant

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


def report(
    since: Annotated[str, typer.Option(help="Made since: 7d (ago), a date, an instant.")] = "7d",
    until: Annotated[str | None, typer.Option(help="Made until: 12h (ago), a date, an instant.")] = None,
    by: Annotated[Literal["route", "topic", "day"], typer.Option(help="What each row is.")] = "route",
    window: Annotated[str, typer.Option(help="How long after a message what its customer does counts.")] = "7d",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one static page with small plots.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV, for a spreadsheet.")] = False,
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
        _write_page(html, draw_report(answer, *(client.get("/report", span, TIMEOUT_S) for span in spans)))
        print(f"wrote {html}")
    elif as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    elif as_csv:
        _print_csv(answer)
    else:
        print_report(open_console(), answer)
    return 0


def _name_span(answer: Mapping[str, Any]) -> dict[str, str]:
    return {name: answer[name] for name in ("since", "until", "by", "window")}


def _go_back(answer: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the query for the span of the same length before; None where that was before anything was kept."""
    since, until = (read_at(answer[name]) for name in ("since", "until"))
    if until - since > LONGEST_BESIDE_MS:
        return None
    return {**_name_span(answer), "since": format_instant(2 * since - until), "until": answer["since"]}


def draw_report(
    answer: Mapping[str, Any], days: Mapping[str, Any], days_before: Mapping[str, Any] | None = None
) -> str:
    """Return the page of a report: its rows, the span before beside it, and the days of both."""
    rows, before = list_rows(answer), answer["before"]
    spans = [{**rows[-1], "key": "this span"}]
    spans += [{**list_rows(before)[-1], "key": "the one before"}] if before else []
    unknown = [(row["key"], name) for row in (*rows, *spans) for name in STEPS if not is_known(row, name)]
    length_days = round((read_at(answer["until"]) - read_at(answer["since"])) / 86_400_000) or 1
    sections = [
        (f"By {answer['by']}", draw_rows(answer["by"], STEPS, rows, unknown)),
        ("Beside the span of the same length before", draw_rows("", STEPS, spans, unknown)),
        *(
            ("", draw_days(name, days["rows"], days_before["rows"] if days_before else (), length_days))
            for name in ("received", "accepted")
        ),
    ]
    told = (_find_unreported(answer), *tell_unheard(answer), answer["note"])
    span = f"{_cut_seconds(answer['since'])} to {_cut_seconds(answer['until'])}, acts within {answer['window']}"
    return draw_report_page(f"Did it work? {span}", sections, [line for line in told if line])


def _write_page(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OpsError(f"{path}: cannot be written ({error.strerror})") from None


def print_report(console: Console, answer: Mapping[str, Any]) -> None:
    """Print the ops API's answer as tables, and what is to be known when reading them."""
    span = f"from {_cut_seconds(answer['since'])} to {_cut_seconds(answer['until'])}"
    if not answer["rows"]:
        console.print(f"no deliveries were made {span}")
        console.print("`--since 30d` looks further back; `nector-relay deliveries` lists what there is")
        return
    console.print(f"by {answer['by']}, {span}, acts within {answer['window']}", style="bold")
    rows = list_rows(answer)
    console.print(_draw_steps(console, answer["by"], rows))
    lost = [row for row in rows if any(row[name] for name in LOSSES)]
    if lost:
        console.print()
        console.print(_draw_losses(answer["by"], lost))
    console.print()
    for line in (*tell_before(answer), _find_unreported(answer), *tell_unheard(answer), answer["note"]):
        if line:
            console.print(line)


def list_rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with their sum; `unknown_columns`: what of each cannot be known."""
    unheard = [(each["column"], key) for each in answer.get("unheard", ()) for key in each["rows"]]
    rows = [
        {**row, "unknown_columns": {column for column, key in unheard if key == row["key"]}} for row in answer["rows"]
    ]
    of_all = set.intersection(*(row["unknown_columns"] for row in rows)) if rows else set()
    return [*rows, {"key": "total", **answer["total"], "unknown_columns": of_all}]


def is_known(row: Mapping[str, Any], name: str) -> bool:
    """Tell whether a step of the way can be known, which is another thing than none."""
    if name in ("delivered", "read"):
        return bool(row["reported"]) or not row["accepted"]
    return name not in row["unknown_columns"] or bool(row[name])


def tell_unheard(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield why what customers did cannot be known, and what to do about it."""
    for each in answer.get("unheard", ()):
        of = "" if each["column"] == "ordered" or answer["by"] == "day" else f" after {', '.join(each['rows'])}"
        what = "ordered" if each["column"] == "ordered" else f"acted{of}"
        cure = "is not known: create that webhook at Nector"
        yield f"no {each['topic']} has ever come, so whether customers {what} {cure}"


def tell_before(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the span of the same length before, to compare with."""
    before = answer.get("before")
    if before is not None:
        total = list_rows(before)[-1]
        counts = (f"{name} {total[name]:,}" if is_known(total, name) else f"{name} -" for name in STEPS)
        length = round_duration(read_at(answer["until"]) - read_at(answer["since"]))
        yield f"the {length} before: {', '.join(counts)}"


def _cut_seconds(instant: str) -> str:
    """Return an instant to the minute: 2026-12-31T18:29Z."""
    return f"{instant[:16]}Z"


def _draw_steps(console: Console, by: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return each row's way: counts with their share of the step before, and on a terminal a small bar."""
    table = _open_table(by, STEPS)
    for row in rows:
        cells = [_draw_step(console, row, name, whole) for name, whole in STEPS.items()]
        table.add_row(Text(row["key"]), *cells, style="bold" if row is rows[-1] else "")
    return table


def _draw_step(console: Console, row: Mapping[str, Any], name: str, whole: str) -> Text:
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


def _write_percent(share: float) -> str:
    """Return a share in whole percent; what is little is not nothing, and what is nearly all is not all."""
    if 0 < share < 0.01:  # noqa: PLR2004  # one percent
        return "<1%"
    return f"{int(share * 100)}%" if 0.99 < share < 1 else f"{share:.0%}"  # noqa: PLR2004  # ninety-nine percent


def _draw_bar(share: float) -> str:
    """Return a bar of three cells, in eighths; anything above nothing is seen."""
    eighths = min(max(round(share * _BAR_CELLS * 8), share > 0), _BAR_CELLS * 8)
    cells = [min(max(eighths - 8 * cell, 0), 8) for cell in range(_BAR_CELLS)]
    return "".join(_EIGHTHS[filled] for filled in cells)


def _draw_losses(by: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what did not get through: refused by the handset side, or never accepted."""
    table = _open_table(f"not through, by {by}", LOSSES)
    for row in rows:
        cells = [Text(f"{row[name]:,}", STATE_COLOURS.get(name, "") if row[name] else "dim") for name in LOSSES]
        table.add_row(Text(row["key"]), *cells, style="bold" if row is rows[-1] else "")
    return table


def _open_table(first: str, columns: Sequence[str] | Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _find_unreported(answer: Mapping[str, Any]) -> str:
    """Return what to do about receipts that never came; "" where some did."""
    where = "see Receipts in docs/install.md"
    if answer["total"]["accepted"] and not answer["total"]["reported"]:
        return "not one receipt came: they seem not to be set up, so what was delivered and read is not known; " + where
    silent = [row["key"] for row in answer["rows"] if row["accepted"] and not row["reported"]]
    if answer["by"] == "route" and silent:
        return f"no receipt came for {', '.join(silent)}: are they set up at that provider? {where}"
    return ""


def _print_csv(answer: Mapping[str, Any]) -> None:
    """Print the rows as RFC 4180 has it; a cell is empty where nobody knows.

    The sum is left out: a spreadsheet would add it to itself.
    """
    names = list(answer["total"])
    writer = csv.writer(sys.stdout)
    writer.writerow([answer["by"], *names])
    for row in list_rows(answer)[:-1]:
        writer.writerow([_defuse(row["key"]), *(row[name] if is_known(row, name) else "" for name in names)])


def _defuse(text: str) -> str:
    """Return a key that no spreadsheet runs as a formula: a topic is what somebody sent."""
    return f"'{text}" if text.startswith(_FORMULAS) else text
