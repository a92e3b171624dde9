"""The relay with a million finished deliveries beside itself with none; `python -m bench.million` writes a page.

Nector's ids of the events, old and new, rise in one part, so that a new one stands behind all others in the index that
tells a duplicate; in the other they are as random as a UUID, so that it stands anywhere. The rows are a delivered event
of this release's own, a thousand at first, and then copied with ids of their own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.events import build_events, build_receipts, name_at_random, name_in_order
from bench.figures import compare, summarise
from bench.load import send_closed
from bench.machine import VOLATILE, describe_machine, read_file_system
from bench.processes import choose_cores, stay_on
from bench.run import say
from bench.scenarios import Bench, Throughput, _wait_delivered, measure_throughput
from bench.subjects import BENCH, RELAY, run_provider, run_subject

ROWS, SEED_ROWS = 1_000_000, 1_000
OLDER = 2_000_000  # numbers of the old events, far from those of the new ones
GOALS = {"ids that rise": 0.90, "random ids": 0.75}
NAMES: dict[str, Callable[[int], str]] = {"ids that rise": name_in_order, "random ids": name_at_random}
SETTINGS = ("journal_mode = WAL", "synchronous = OFF", "cache_size = -400000")


def make_outbox(path: Path, bench: Bench, rows: int) -> None:
    """Have the relay deliver the first rows, then copy them with ids of their own; Nector's are as `name_id` says."""
    with (
        TemporaryDirectory(dir=bench.folder) as name,
        run_provider(Path(name), bench.cores) as provider,
    ):
        with run_subject(RELAY, provider.url, Path(name), bench.cores) as started:
            uvloop.run(send_closed(started.port, build_events(OLDER, SEED_ROWS)))
            _wait_delivered(provider, SEED_ROWS)
            uvloop.run(send_closed(started.port, build_receipts(provider.list_messages())))
        shutil.copy(Path(name) / "relay.db", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for setting in SETTINGS:
            db.execute(f"PRAGMA {setting}").fetchall()
        db.create_function("name_id", 1, lambda number: bench.name_id(number - OLDER), deterministic=True)
        db.execute("BEGIN")
        indexes = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")]
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL").fetchall()
        for (index,) in names:
            db.execute(f"DROP INDEX {index}")
        for number in range(1, rows // SEED_ROWS):
            for table in ("events", "deliveries", "receipts"):
                _copy(db, table, number * SEED_ROWS)
        db.execute("UPDATE events SET source_delivery_id = name_id(seq)")
        for sql in indexes:
            db.execute(sql)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _copy(db: sqlite3.Connection, table: str, further: int) -> None:
    """Copy the first rows of a table as those of deliveries so much further on."""
    moved = {
        "seq": f"seq + {further}",
        "event_seq": f"event_seq + {further}",
        "delivery_seq": f"delivery_seq + {further}",
        "id": f"substr(id, 1, 24) || printf('%012x', seq + {further})",
        "source_delivery_id": f"seq + {further}",
        "provider_message_id": f"printf('-%024x', seq + {further})",  # a provider's ids rise: before those to come
    }
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    key = "delivery_seq" if "seq" not in columns else "seq"
    picked = ", ".join(moved.get(column, column) for column in columns)
    db.execute(f"INSERT INTO {table} SELECT {picked} FROM {table} WHERE {key} <= {SEED_ROWS}")


def _copy_file(path: Path, place: Path) -> None:
    """Copy the outbox and wait for the disk, which would else write it back while the relay is measured."""
    shutil.copy(path, place)
    with place.open("rb") as file:
        os.fsync(file.fileno())


def measure(bench: Bench, part: str, rows: int, rounds: int) -> list[tuple[Throughput, Throughput]]:
    """Return what each round came to: with the rows, and with none."""
    bench = replace(bench, name_id=NAMES[part])
    path = bench.folder / "million.db"
    say(f"{part}: making {rows} rows")
    make_outbox(path, bench, rows)
    say(f"{part}: {path.stat().st_size / 1_000_000:.0f} MB")
    full = replace(RELAY, prepare=lambda folder: _copy_file(path, folder / "relay.db"))
    found = []
    stay_on(bench.cores.peers)
    for number in range(1, rounds + 1):
        say(f"{part}: round {number} of {rounds}")
        found.append((measure_throughput(bench, full), measure_throughput(bench, RELAY)))
    path.unlink()
    return found


def write_page(facts: dict[str, str], rows: int, parts: dict[str, list[tuple[Throughput, Throughput]]]) -> str:
    """Return the page."""
    lines = [
        "# With a million finished deliveries",
        "",
        "Written by `python -m bench.million`; see [README.md](README.md).",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        f"{rows:,} finished deliveries with their receipts beside none, in turns. Medians [lowest..highest].",
        "",
    ]
    lines += [
        "| | delivered/s with them | with none | ratio | asked | KB written, with and without |",
        "|---|---|---|---|---|---|",
    ]
    for part, found in parts.items():
        with_them, with_none = (summarise([each[n].per_s for each in found]) for n in (0, 1))
        ratio = compare(*[[each[n].per_s for each in found] for n in (0, 1)])
        written = [summarise([each[n].written.kb for each in found]) for n in (0, 1)]
        cells = (with_them.show(0), with_none.show(0), ratio.show(2), f"{GOALS[part]:.2f}")
        lines.append(f"| {part} | {' | '.join(cells)} | {written[0].show(1)}, {written[1].show(1)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure both parts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix) / "bench-tmp", help="a folder on a real disk")
    parser.add_argument("--output", type=Path, default=BENCH / "million.md", help="where to write the page")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if (file_system := read_file_system(given.folder)) in VOLATILE:
        sys.exit(f"bench: --folder is on {file_system}, where fsync does nothing; name a folder on a real disk")
    facts = dict(describe_machine(given.folder))
    bench = Bench(given.folder, choose_cores(), events=given.events, seconds=10, queued=0)
    parts = {part: measure(bench, part, given.rows, given.rounds) for part in GOALS}
    page = write_page(facts, given.rows, parts)
    given.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
