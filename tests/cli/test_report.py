"""`nector-relay report`: a story over real sockets, and how it is told on a terminal, in a log, in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.api.deliveries import NOTE
from app.cli import report as command
from app.cli.report import print_report

ROOT = Path(__file__).parents[2]
COUNTS = dict.fromkeys(
    (
        "received", "accepted", "delivered", "read", "clicked", "acted", "ordered", "failed", "waiting", "dead",
        "expired", "unknown", "suppressed", "reported",
    ),
    0,
)  # fmt: skip
LONG = "incompletereferralrequest_create"


def tell(shop: Any, topic: str, **payload: Any) -> None:
    """Post an event that no route is for."""
    answer = shop._post(shop.url, topic, payload)
    assert answer.json()["status"] == "unrouted"


def test_from_the_event_over_its_receipts_to_what_the_customer_did(run: Callable[..., Any], shop: Any) -> None:
    def row(*options: str) -> dict[str, Any]:
        rows = json.loads(run("report", "--json", *options).out)["rows"]
        return next((dict(each) for each in rows if each["key"] == "coupon-ready"), {"key": "coupon-ready", **COUNTS})

    def gained() -> dict[str, int]:
        return {name: n - before[name] for name, n in row().items() if name in COUNTS and n != before[name]}

    before = row()
    number, other = shop.new_number(), shop.new_number()
    tell(shop, "coupon_update", user_mobile=number, status="used")  # before there was a message
    coupon = {"user_name": "Riya", "value": f"ACME-{number}", "fiat_value": 200, "expire": "2099-12-31"}
    delivery_id = shop.post({**coupon, "user_mobile": number}, "coupon_create")
    shop.wait_for(delivery_id, "read", field="receipt")
    arrived = {"received": 1, "accepted": 1, "delivered": 1, "read": 1, "reported": 1}
    assert gained() == arrived
    tell(shop, "coupon_update", user_mobile=other, status="used")
    assert gained() == arrived
    for _ in range(2):
        tell(shop, "coupon_update", user_mobile=number, status="used")
    assert gained() == {**arrived, "acted": 1}
    assert row("--window", "1ms")["acted"] == 0
    assert "coupon-ready" in run("report").out


def make_answer(*rows: dict[str, Any], by: str = "route") -> dict[str, Any]:
    whole = [{"key": "", **COUNTS, **row} for row in rows]
    return {
        "since": "2026-11-18T22:00:00.000Z", "until": "2026-11-25T22:00:00.000Z", "by": by, "window": "7d",
        "rows": whole, "total": {name: sum(row[name] for row in whole) for name in COUNTS}, "note": NOTE,
    }  # fmt: skip


SENT = {"key": "coins-earned", "received": 12_400, "accepted": 12_380, "delivered": 11_900, "read": 8_010,
        "clicked": 120, "acted": 3_100, "ordered": 950, "failed": 12, "dead": 20, "reported": 11_900}  # fmt: skip
QUIET = {"key": "referral-unfinished", "received": 3, "accepted": 2, "acted": 1, "unknown": 1}


COUPONS = {"key": "coupon-ready", "received": 4_100, "accepted": 4_099, "delivered": 3_980, "read": 2_990,
           "acted": 1_204, "ordered": 811, "reported": 3_990}  # fmt: skip


def draw(answer: dict[str, Any], width: int = 80, **options: Any) -> str:
    out = io.StringIO()
    print_report(
        Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, **options), answer
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_counts_shares_and_bars_and_nothing_is_cut_off(width: int) -> None:
    drawn = draw(make_answer(SENT, {**QUIET, "key": LONG}), width)
    lines = [line.rstrip() for line in drawn.splitlines()]
    assert max(map(len, lines)) <= width
    head = next(line for line in lines if line.startswith("route"))
    assert head.split() == ["route", *command.STEPS]
    counts = next(place for place, line in enumerate(lines) if line.startswith("coins-earned"))
    assert lines[counts].split()[1:] == ["12,400", "12,380", "11,900", "8,010", "120", "3,100", "950"]
    assert lines[counts + 1].split() == ["███", "99%", "██▉", "96%", "██", "67%", "▏", "1%", "▊", "25%", "▎", "8%"]
    assert LONG in drawn or LONG[:14] in drawn
    assert ("…" in drawn, "correlation" in " ".join(lines)) == (False, True)


def test_the_page_shows_what_a_terminal_gets() -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/reporting.md").read_text(), re.MULTILINE | re.DOTALL)
    drawn = [line.rstrip() for line in draw(make_answer(SENT, COUPONS)).splitlines()]
    assert shown.splitlines() == drawn[: len(shown.splitlines())]


@pytest.mark.parametrize(
    ("share", "bar", "percent"),
    [
        (0.0, "   ", "0%"),
        (0.0001, "▏  ", "<1%"),
        (0.01, "▏  ", "1%"),
        (1 / 3, "█  ", "33%"),
        (0.5, "█▌ ", "50%"),
        (0.999, "███", "99%"),
        (1.0, "███", "100%"),
        (2.0, "███", "200%"),
    ],
)
def test_little_is_not_nothing_and_nearly_all_is_not_all(share: float, bar: str, percent: str) -> None:
    assert (command._draw_bar(share), command._write_percent(share)) == (bar, percent)


def test_what_no_receipt_told_is_not_known_rather_than_none() -> None:
    row = draw(make_answer(SENT, QUIET), 120).split("referral-unfinished")[1].splitlines()
    assert row[0].split() == ["3", "2", "-", "-", "-", "1", "0"]
    assert "no receipt came for referral-unfinished: are they set up" in draw(make_answer(SENT, QUIET), 200)
    assert "not one receipt came: they seem not to be set up" in draw(make_answer(QUIET), 200)
    assert "receipt came" not in draw(make_answer(SENT), 200)
    assert "receipt came" not in draw(make_answer(SENT, {**QUIET, "key": "2026-11-20"}, by="day"), 200)


def test_what_did_not_get_through_is_shown_where_there_is_any() -> None:
    drawn = draw(make_answer(SENT, QUIET, {"key": "fine", "received": 1, "accepted": 1, "reported": 1}), 120)
    losses = drawn.split("not through, by route")[1]
    assert losses.splitlines()[0].split() == list(command.LOSSES)
    assert losses.splitlines()[1].split() == ["coins-earned", "12", "20", "0", "0", "0", "0"]
    assert "fine" not in losses
    assert "not through" not in draw(make_answer({"key": "fine", "received": 1, "accepted": 1, "reported": 1}))


def test_a_terminal_without_bars_gets_shares() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    print_report(console, make_answer(SENT))
    out.seek(0)
    assert "96%" in out.read()


def test_an_empty_report_says_so_and_what_to_do() -> None:
    drawn = draw(make_answer())
    assert "no deliveries were made from 2026-11-18T22:00Z to 2026-11-25T22:00Z" in drawn
    assert "`--since 30d` looks further back" in drawn


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Return a function that lets the relay answer this, where a real one would not easily."""

    def give(answer: dict[str, Any]) -> None:
        class Client:
            def get(self, *_: Any) -> dict[str, Any]:
                return answer

        monkeypatch.setattr(command, "open_client", Client)

    return give


def test_away_from_a_terminal_every_row_is_one_plain_line(run: Callable[..., Any], answer_with: Any) -> None:
    answer_with(make_answer(SENT, QUIET))
    lines = run("report").out.splitlines()
    assert next(line for line in lines if line.startswith("coins-earned")).split() == [
        "coins-earned", "12,400", "12,380", "99%", "11,900", "96%", "8,010", "67%", "120", "1%", "3,100", "25%",
        "950", "8%",
    ]  # fmt: skip
    assert not set("".join(lines)) & {"█", "▏", "\x1b"}


def test_csv_has_a_head_and_the_rows_and_runs_nothing_in_a_spreadsheet(
    run: Callable[..., Any], answer_with: Any
) -> None:
    answer_with(make_answer(SENT, {**QUIET, "key": '=cmd|"/C calc",1'}, by="topic"))
    out = run("report", "--by", "topic", "--csv").out
    head, first, second = csv.reader(io.StringIO(out, newline=""), strict=True)
    assert head == ["topic", *COUNTS]
    assert first[:4] == ["coins-earned", "12400", "12380", "11900"]
    assert second[0] == '\'=cmd|"/C calc",1'
    assert out.count("\r\n") == 3  # RFC 4180


def test_csv_leaves_empty_what_nobody_knows(run: Callable[..., Any], answer_with: Any) -> None:
    unreported = {**SENT, "reported": 0, "delivered": 0, "read": 0, **NONE_DONE}
    answer_with({**make_answer(unreported), "unheard": [{**UNHEARD[1], "rows": ["coins-earned"]}]})
    head, row = csv.reader(io.StringIO(run("report", "--csv").out, newline=""), strict=True)
    told = dict(zip(head, row, strict=True))
    assert [told[name] for name in ("received", "delivered", "read", "acted", "ordered")] == [
        "12400", "", "", "0", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--csv", "--json"), 1, "give either --csv or --json"),
        (("--since", "yesterday"), 1, "since: must be how long ago (7d, 12h), a date"),
        (("--window", "soon"), 1, "window: must be a duration such as"),
        (("--by", "customer"), 2, "'customer' is not one of 'route', 'topic', 'day'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(
    run: Callable[..., Any], shop: Any, options: tuple[str, ...], code: int, said: str
) -> None:
    assert shop.url
    done = run("report", *options)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


UNHEARD = [
    {"topic": "coupon_update", "column": "acted", "rows": ["coupon-ready"]},
    {"topic": "order_create", "column": "ordered", "rows": ["coins-earned", "coupon-ready"]},
]
NONE_DONE = {"acted": 0, "ordered": 0}


def test_what_customers_did_is_not_known_where_nothing_tells_of_it() -> None:
    answer = make_answer({**SENT, "ordered": 0}, {**COUPONS, **NONE_DONE}) | {"unheard": UNHEARD}
    drawn = draw(answer, 200)
    assert drawn.split("coupon-ready")[1].splitlines()[0].split()[-2:] == ["-", "-"]
    assert drawn.split("coins-earned")[1].splitlines()[0].split()[-2:] == ["3,100", "-"]
    assert drawn.split("total")[1].splitlines()[0].split()[-2:] == ["3,100", "-"]
    cure = "is not known: create that webhook at Nector"
    assert f"no coupon_update has ever come, so whether customers acted after coupon-ready {cure}" in drawn
    assert f"no order_create has ever come, so whether customers ordered {cure}" in drawn


def test_a_click_that_came_is_known_also_where_no_receipt_did() -> None:
    drawn = draw(make_answer(SENT, {**QUIET, "clicked": 1}), 200).split("referral-unfinished")[1]
    assert drawn.splitlines()[0].split()[2:5] == ["-", "-", "1"]


def test_the_span_before_stands_beside_it() -> None:
    before = make_answer({**COUPONS, **NONE_DONE, "received": 4_000}) | {"unheard": UNHEARD}
    told = "the 7 d before: received 4,000, accepted 4,099, delivered 3,980, read 2,990, clicked 0, acted -, ordered -"
    assert told in draw(make_answer(SENT) | {"before": before}, 200)


@pytest.mark.parametrize("since", ["1h", "2020-01-01"])
def test_the_page_has_plots_and_loads_and_runs_nothing(
    run: Callable[..., Any], shop: Any, folder: Path, since: str
) -> None:
    shop.wait_for(shop.post({"user_name": "Riya", "user_mobile": shop.new_number(), "amount": "5"}), "accepted")
    done = run("report", "--since", since, "--html", "report.html")
    assert (done.code, done.out) == (0, "wrote report.html\n")
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert page.count("<svg") > 3
    assert "coins-earned" in page
    assert not re.search(r"<script|https?://|url\(|@import|<img|<link", page)


def test_a_page_that_cannot_be_written_is_1_and_named(run: Callable[..., Any], answer_with: Any) -> None:
    answer_with(make_answer(SENT, by="day") | {"rows": []})
    done = run("report", "--html", "nowhere/report.html")
    assert (done.code, done.out) == (1, "")
    assert "nowhere/report.html: cannot be written (No such file or directory)" in done.err


def test_a_key_that_somebody_sent_is_no_markup_in_the_page() -> None:
    answer = make_answer({**SENT, "key": "<script>alert(1)</script>"}) | {"before": make_answer()}
    days = make_answer({**SENT, "key": "2026-11-20"}, by="day")
    page = command.draw_report(answer, days, make_answer(by="day"))
    assert "<script" not in page
    assert "<title>2026-11-20: 12,400; 2026-11-13: 0</title>" in page
