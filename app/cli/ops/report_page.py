"""The report as one static page: tables and small plots in SVG, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any

from app.authoring.page import draw_document

_STYLE = """
table { border-collapse: collapse; background: var(--bubble); } td, th { padding: .3rem .6rem; text-align: end; }
th { color: var(--quiet); font-weight: normal; } td:first-child, th:first-child { text-align: start; }
tr + tr { border-top: 1px solid var(--line); } svg { display: block; } .now { fill: var(--link); }
.was { fill: var(--media); }
td svg { display: inline; vertical-align: middle; } .plot { background: var(--bubble); max-width: 100%; }
"""
_WIDTH, _HEIGHT, _BAR = 14, 90, 48  # of a day, of the plot, of a share

Rows = Sequence[Mapping[str, Any]]


def draw_rows(first: str, steps: Mapping[str, str], rows: Rows, unknown: Sequence[tuple[str, str]]) -> str:
    """Return a table of how far each row came; `unknown`: (key, step) of what cannot be known."""
    head = "".join(f"<th>{escape(name)}</th>" for name in (first, *steps))
    body = ""
    for row in rows:
        known = {name: (row["key"], name) not in unknown for name in steps}
        cells = "".join(_draw_step(row, name, whole, known=known[name]) for name, whole in steps.items())
        body += f"<tr><td>{escape(row['key'])}</td>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _draw_step(row: Mapping[str, Any], name: str, whole: str, *, known: bool) -> str:
    if not known:
        return '<td title="not known">-</td>'
    if not whole or not row[whole]:
        return f"<td>{row[name]:,}</td>"
    share = min(row[name] / row[whole], 1)
    bar = f'<rect class="was" width="{_BAR}" height="8"/><rect class="now" width="{share * _BAR:.1f}" height="8"/>'
    plot = f'<svg width="{_BAR}" height="8" role="img" aria-label="{share:.0%}">{bar}</svg>'
    return f"<td>{row[name]:,} {plot} {share:.0%}</td>"


def draw_days(column: str, now: Rows, before: Rows, length_days: int) -> str:
    """Return a plot of a count by day, each beside the same day of the span before."""
    counts = {date.fromisoformat(row["key"]): row[column] for row in now}
    earlier = {date.fromisoformat(row["key"]) + timedelta(length_days): row[column] for row in before}
    if not (days := sorted({*counts, *earlier})):
        return ""
    days = [min(days[0], days[-1] - timedelta(length_days - 1)), days[-1]]  # days without any have their place, too
    most = max(*counts.values(), *earlier.values(), 1)
    bars: list[str] = []
    for at in range((days[-1] - days[0]).days + 1):
        day = days[0] + timedelta(at)
        told = f"<title>{day}: {counts.get(day, 0):,}; {day - timedelta(length_days)}: {earlier.get(day, 0):,}</title>"
        each = ((earlier.get(day, 0), "was", 0), (counts.get(day, 0), "now", _WIDTH // 2 - 1))
        drawn = "".join(_draw_bar(count / most, kind, at * _WIDTH + aside) for count, kind, aside in each)
        bars.append(f"<g>{told}{drawn}</g>")
    width = ((days[-1] - days[0]).days + 1) * _WIDTH
    size = f'viewBox="0 0 {width} {_HEIGHT}" width="{width * 2}" height="{_HEIGHT * 2}"'
    legend = f'<span class="meta">{escape(column)} a day, {days[0]} to {days[-1]}; pale: the span before</span>'
    return f'<svg class="plot" {size} role="img" aria-label="{escape(column)} a day">{"".join(bars)}</svg>{legend}'


def _draw_bar(share: float, kind: str, x: int) -> str:
    height = share * (_HEIGHT - 2)
    return f'<rect class="{kind}" x="{x}" y="{_HEIGHT - height:.1f}" width="{_WIDTH // 2 - 2}" height="{height:.1f}"/>'


def draw_report_page(title: str, sections: Sequence[tuple[str, str]], notes: Sequence[str]) -> str:
    """Return the whole page of (heading, drawn part), and below them what is to be known when reading it."""
    parts = [f"<h2>{escape(heading)}</h2>{drawn}" for heading, drawn in sections]
    parts.append(f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>')
    return draw_document(title, parts, _STYLE)
