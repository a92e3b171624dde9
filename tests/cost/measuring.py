"""What one event and its three receipts cost: counts, not times, so that a busy machine says the same as an idle one.

The relay runs in this process, on asyncio's own loop, with a provider on the same loop that answers once all of a
batch have arrived. SQL is counted where it enters SQLite (`sqlite3.connect` gets a class that traces; a step of a
trigger is a statement, too), calls of Python functions by `setprofile` on every thread of the relay, without those of
the loop itself, whose number depends on the machine. Each figure is the least of some rounds, for what runs once a
second or so is in the others; of what goes up and down (bytes, rows, entries) it is the middle.

    python -m tests.cost.measuring                      prints the figures as JSON
    python -m tests.cost.measuring --record b3d2abe     writes that release's table into bench/cost.md
    python -m tests.cost.measuring --bounds             writes tests/cost/bounds.json: the worst of three, and 10 %
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median_low
from types import FrameType
from typing import Any, TypeAlias
from unittest import mock

from tests.outside import ROOT, build_environment, describe_account, sign_event, sign_receipt

BOUNDS, TABLE = Path(__file__).with_name("bounds.json"), ROOT / "bench/cost.md"
SIZES = {"alone": 1, "ten at once": 10}
RECEIPTS = ("sent", "delivered", "read")
STAGES = ("event", *RECEIPTS)
ROUNDS = 5
UP_AND_DOWN = {"bytes to the file", "write calls", "rows left", "index entries left"}
ROOM = 1.1
SETTLE_S = 0.1  # what follows an answer: the lane looks when the next is due
YAML = """version: 1
providers:
{account}routes:
  coins: {{event: walletreward_create, provider: shop, template: coins, dedup_by: code,
    header: {{image: {{text: "https://cdn.acme.example/coins.png"}}}},
    variables: {{name: user_name | default("there"), coins: amount | number, code: code}},
    buttons: [{{index: 0, url: code}}]}}
"""
Costs: TypeAlias = Mapping[str, Mapping[str, Mapping[str, int]]]
"""By size of the batch, stage and what is counted."""
_connect = sqlite3.connect
# The loop's own calls, and ours.
_LOOP = re.compile(r"/(asyncio|tests)/|/(selectors|threading|socket|contextlib|weakref|queue)\.py$|<frozen|<string>")


class Meter:
    """What has been counted so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.connections: list[sqlite3.Connection] = []
        self.running = False

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = _connect(*arguments, **options)
        db.set_trace_callback(self._note_statement)
        self.connections.append(db)
        return db

    def _note_statement(self, statement: str) -> None:
        self.counts["statements"] += 1
        self.counts["commits"] += statement.startswith("COMMIT")

    def note_call(self, frame: FrameType, event: str, _argument: object) -> None:
        """Count a call, as a profiler."""
        if event == "call" and self.running and not _LOOP.search(file := frame.f_code.co_filename):
            self.counts["Python calls in app/"] += "/app/" in file
            self.counts["Python calls"] += 1

    def write(self, text: str) -> int:
        """Count what is logged, as stdout."""
        self.counts["bytes logged"] += len(text.encode())
        return len(text)

    def flush(self) -> None:
        """Do as a file does."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        """Have none: what is logged is counted here, and no thread writes it out."""
        raise OSError

    def read(self, path: Path) -> Counter[str]:
        """Return every count, those of the file included."""
        with contextlib.closing(_connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows, entries = count_rows(db)
        log = path.with_name(f"{path.name}-wal").stat().st_size
        changed = sum(_count_changes(db) for db in self.connections)
        read = {"rows written": changed, "rows left": rows, "index entries left": entries, "bytes to the file": log}
        return self.counts + Counter(read) + Counter({"write calls": read_write_calls()})


def read_write_calls() -> int:
    """Return how often this process has written to a file so far: twice for a page in the log. Sockets are sent to."""
    return int(re.findall(r"syscw: (\d+)", Path("/proc/self/io").read_text())[0])


def _count_changes(db: sqlite3.Connection) -> int:
    try:
        return db.total_changes
    except sqlite3.ProgrammingError:  # closed
        return 0


def count_rows(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many rows all tables have, and how many entries all indexes."""
    rows = entries = 0
    parts = db.execute("SELECT type, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
    are_indexes = {table for kind, table, sql in parts if kind == "table" and "WITHOUT ROWID" in sql}
    for kind, table, sql in parts:
        where = re.search(r"\sWHERE\s.*", sql, re.DOTALL | re.IGNORECASE) if kind == "index" else None
        if kind == "table" or (kind == "index" and (sql or table not in are_indexes)):
            count = db.execute(f"SELECT count(*) FROM {table} {where[0] if where else ''}").fetchone()[0]  # noqa: S608  # the schema's own words
            rows, entries = (rows + count, entries) if kind == "table" else (rows, entries + count)
    return rows, entries


# -- the relay and its provider, on one loop ------------------------------------------------------


class Provider(asyncio.Protocol):
    """Answers all of a batch at once, when the last of them has arrived."""

    expected = 1
    waiting: list[tuple[asyncio.Transport, str]] = []  # noqa: RUF012  # of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length and len(body) >= int(length[1]):
            self._buffer = b""
            assert isinstance(self._transport, asyncio.Transport)
            Provider.waiting.append((self._transport, json.loads(body)["localMessageId"]))
            if len(Provider.waiting) == Provider.expected:
                self._answer()

    def _answer(self) -> None:
        for transport, id_ in Provider.waiting:
            told = json.dumps({"id": f"m-{id_}", "status": "ACCEPTED"}).encode()
            head = f"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: {len(told)}\r\n\r\n"
            transport.write(head.encode() + told)
        Provider.waiting.clear()


async def ask(app: Any, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Post without a socket, as a server does; return the answer's JSON."""
    said: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    answered: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> Any:
        return said.pop() if said else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        answered.append(message)

    await app(scope, receive, send)
    assert answered[0]["status"] in {200, 202}, answered
    found: dict[str, Any] = json.loads(answered[1]["body"])
    return found


class Bench:
    """A relay whose cost is metered. `numbers` are the events that it had."""

    def __init__(self, app: Any, meter: Meter, path: Path) -> None:
        self._app, self._meter, self._path = app, meter, path
        self._numbers = 0

    async def measure(self, size: int) -> dict[str, Counter[str]]:
        """Return what a batch costs, by stage."""
        Provider.expected = size
        numbers = range(self._numbers, self._numbers + size)
        self._numbers += size
        found: dict[str, list[str]] = {}

        async def post_all() -> None:
            answers = await asyncio.gather(*(self._post(number) for number in numbers))
            found["ids"] = [answer["deliveries"][0]["id"] for answer in answers]
            await self._wait_for("SELECT count(*) FROM deliveries WHERE state <> 'accepted'", 0)

        costs = {"event": await self._meter_one(post_all)}
        for status in RECEIPTS:
            costs[status] = await self._meter_one(lambda status=status: self._report_all(found["ids"], status))  # type: ignore[misc]
        return costs

    async def _meter_one(self, work: Callable[[], Awaitable[None]]) -> Counter[str]:
        before = self._meter.read(self._path)
        self._meter.running = True
        await work()
        await asyncio.sleep(SETTLE_S)
        self._meter.running = False
        after = self._meter.read(self._path)
        return Counter({name: after[name] - before[name] for name in sorted(after)})

    async def _post(self, number: int) -> dict[str, Any]:
        payload = {
            "user_name": "Riya",
            "user_mobile": f"98000000{number:02}",
            "amount": "1250",
            "code": f"A-{number:04}",
        }
        headers = sign_event("walletreward_create", f"source-{number:04}")
        return await ask(self._app, "/webhooks/nector", headers, json.dumps(payload).encode())

    async def _report_all(self, ids: list[str], status: str) -> None:
        bodies = [
            json.dumps({"id": f"m-{id_}", "localMessageId": id_, "whatsapp": {"status": status}}).encode()
            for id_ in ids
        ]
        await asyncio.gather(*(ask(self._app, "/webhooks/shop", sign_receipt(body), body) for body in bodies))

    async def _wait_for(self, query: str, count: int) -> None:
        with contextlib.closing(_connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            while db.execute(query).fetchone()[0] != count:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def open_bench(folder: Path, meter: Meter, change: str) -> AsyncIterator[Bench]:
    """Run a relay in `folder`; `change` is SQL that its file gets before it is measured."""
    from app.main import create_app  # noqa: PLC0415  # after sqlite3.connect was replaced

    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yaml = YAML.format(account=describe_account("shop", url, rate="1000/s"))
    app = create_app(None, build_environment(folder, RELAY_CONFIG_YAML=yaml))
    path = folder / "relay.db"
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.5)  # what a start does beside
        with contextlib.closing(_connect(path)) as db:
            db.executescript(change)
        for db in meter.connections:
            with contextlib.suppress(sqlite3.Error):  # closed, or one that only reads
                db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()  # so that the log shows what was written
        bench = Bench(app, meter, path)
        for size in SIZES.values():
            await bench.measure(size)
        yield bench
    server.close()


async def run_bench(folder: Path, change: str, rounds: int) -> Costs:
    meter = Meter()
    costs: dict[str, list[dict[str, Counter[str]]]] = {name: [] for name in SIZES}
    with mock.patch.object(sqlite3, "connect", meter.connect), contextlib.redirect_stdout(meter):
        threading.setprofile(meter.note_call)
        sys.setprofile(meter.note_call)
        async with open_bench(folder, meter, change) as bench:
            for _ in range(rounds):
                for name, size in SIZES.items():
                    costs[name].append(await bench.measure(size))
        sys.setprofile(None)
        threading.setprofile(None)
    return {
        name: {
            stage: {figure: _choose(figure, [one[stage][figure] for one in measured]) for figure in measured[0][stage]}
            for stage in STAGES
        }
        for name, measured in costs.items()
    }


def _choose(figure: str, counts: list[int]) -> int:
    return median_low(counts) if figure in UP_AND_DOWN else min(counts)


def measure_cost(change: str = "", rounds: int = ROUNDS) -> Costs:
    """Return the figures by size of the batch, stage and what is counted."""
    sys.setswitchinterval(10)  # a thread goes on until it waits: else chance would form the batches
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run_bench(Path(folder), change, rounds))


# -- what is kept of it ---------------------------------------------------------------------------


def find_dearer(costs: Costs, bounds: Costs) -> list[str]:
    """Return a line for every figure above its bound, and for every one that has none."""
    return [
        f"{size}, {stage}: {count} {figure}, at most {bounds[size][stage].get(figure, -1)}"
        for size, stages in costs.items()
        for stage, figures in stages.items()
        for figure, count in figures.items()
        if count > bounds[size][stage].get(figure, -1)
    ]


def add_room(measured: list[Costs]) -> dict[str, Any]:
    """Return the bounds of these measurements."""
    return {
        size: {
            stage: {figure: math.floor(max(one[size][stage][figure] for one in measured) * ROOM) for figure in figures}
            for stage, figures in stages.items()
        }
        for size, stages in measured[0].items()
    }


def show_table(name: str, costs: Costs) -> str:
    """Return a release's figures as a section of bench/cost.md; those of a batch for each event of it."""
    lines = [f"## {name}\n"]
    for size, stages in costs.items():
        lines += [
            f"\n### {size}, for each event\n",
            f"\n| | {' | '.join(stages)} | together |\n",
            "|---|" + "---|" * 5 + "\n",
        ]
        for figure in stages["event"]:
            counts = [stages[stage][figure] / SIZES[size] for stage in stages]
            lines.append(f"| {figure} | {' | '.join(f'{count:,.10g}' for count in (*counts, sum(counts)))} |\n")
    return "".join(lines)


def record(name: str, costs: Costs) -> None:
    """Write a release's section into the page, in place of an earlier one of that name."""
    head, *sections = re.split(r"^(?=## )", TABLE.read_text(), flags=re.MULTILINE)
    kept = [section.rstrip() + "\n\n" for section in sections if not section.startswith(f"## {name}\n")]
    TABLE.write_text(head + "".join([*kept, show_table(name, costs)]))


def main() -> None:
    """Measure, and keep what is asked for."""
    parser = argparse.ArgumentParser(description="Count what an event and its receipts cost.")
    parser.add_argument("--record", metavar="NAME", help="write the section of this release into bench/cost.md")
    parser.add_argument("--bounds", action="store_true", help="write tests/cost/bounds.json")
    parser.add_argument("--change", default="", help="SQL that the file gets first")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    costs = measure_cost(given.change, given.rounds)
    if given.record:
        record(given.record, costs)
    if given.bounds:
        others = [json.loads(subprocess.check_output([sys.executable, "-m", "tests.cost.measuring"])) for _ in range(2)]
        BOUNDS.write_text(json.dumps(add_room([costs, *others]), indent=1) + "\n")
    sys.stdout.write(json.dumps(costs, indent=1) + "\n")


if __name__ == "__main__":
    main()
