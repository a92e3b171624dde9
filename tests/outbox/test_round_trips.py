"""How often a transaction waits for the server: a network in between makes each of these 1 ms and more."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from app.outbox.add import NewEvent, add_events
from app.outbox.lanes import add_lane
from app.outbox.postgres import link, tx
from app.outbox.store import Job
from tests.outbox.fleet import PROVIDER, Replica
from tests.outbox.postgres_outbox import PostgresOutbox

ADD, CLAIM, CLOSE = 4, 7, 3  # one of ADD only where messages have a `dedup_by`
DAY = 86_400_000


class Trips:
    """Counts how often a connection asked the server for its answers, by what libpq says that it has sent."""

    def __init__(self) -> None:
        self._logs: list[Any] = []
        self._seen = 0

    def watch(self, db: Any) -> None:
        self._logs.append(tempfile.TemporaryFile())  # noqa: SIM115  # closed by the fixture
        db.pgconn.trace(self._logs[-1].fileno())

    def take(self) -> int:
        """Return how often since the last time."""
        sent = [line.split(b"\t") for log in self._logs for line in (log.seek(0), log.read())[1].splitlines()]
        names = [words[3] for words in sent if words[1:2] == [b"F"]]
        # At the end a pipeline asks twice, and waits once.
        trips = sum(name in (b"Query", b"Sync", b"Flush") for name in names)
        trips -= sum(pair == (b"Sync", b"Flush") for pair in pairwise(names))
        trips, self._seen = trips - self._seen, trips
        return trips


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trips]:
    counted, connect = Trips(), link.connect

    def watch(address: Any) -> Any:
        db = connect(address)
        counted.watch(db)
        return db

    monkeypatch.setattr(link, "connect", watch)
    yield counted
    for log in counted._logs:
        log.close()


async def count_trips(store: PostgresOutbox, shop: Any, trips: Trips, count: int) -> list[int]:
    """Take events in, claim and close their deliveries; return what each took."""
    now, found = store.clock(), list[int]()
    events = [shop.event() for _ in range(count)]
    keys = {"created_at": now, "due_at": now, "deadline_at": now + DAY}
    new = [NewEvent(each, [shop.delivery(each, dedup_key=each.id, **keys)]) for each in events]
    trips.take()
    await asyncio.gather(*(store.write(Job(add_events, each)) for each in new))
    found.append(trips.take())
    replica = Replica(store, 10_000)
    attempts = await replica.claim()
    assert len(attempts) == count
    found.append(trips.take())
    await asyncio.gather(*(replica.close(each) for each in attempts))
    return [*found, trips.take()]


async def warm_up(store: PostgresOutbox, shop: Any, trips: Trips) -> None:
    await store.write(partial(add_lane, provider=PROVIDER))
    await count_trips(store, shop, trips, 1)


@pytest.mark.parametrize("count", [1, 15])
async def test_fifteen_events_wait_for_the_server_no_more_often_than_one(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any], trips: Trips, count: int
) -> None:
    store = open_replica()
    await warm_up(store, wrap(store), trips)
    assert await count_trips(store, wrap(store), trips, count) == [ADD, CLAIM, CLOSE]


async def test_control_each_statement_for_itself_takes_many_more(
    open_replica: Callable[..., PostgresOutbox], wrap: Callable[..., Any], trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(self: Any, sql: str, rows: Any) -> None:
        for row in rows:
            self.run(sql, **row)

    def ask(self: Any, sql: str, rows: Any) -> list[Any]:
        return [self.rows(sql, **row) for row in rows]

    run_many = tx.PostgresTx.run_many

    def run(self: Any, sql: str, rows: Any) -> int:
        return sum(run_many(self, sql, [row]) for row in rows)

    add_many = tx.PostgresTx.add_many

    def add_each(self: Any, table: str, sql: str, rows: Any) -> list[Any]:
        return [add_many(self, table, sql, [row])[0] for row in rows]

    monkeypatch.setattr(tx.PostgresTx, "add_many", add_each)
    monkeypatch.setattr(tx.PostgresTx, "run_many", run)
    monkeypatch.setattr(tx.PostgresTx, "send", send)
    monkeypatch.setattr(tx.PostgresTx, "rows_many", ask)
    store = open_replica()
    await warm_up(store, wrap(store), trips)
    add, claim, close = await count_trips(store, wrap(store), trips, 10)
    assert add >= 4 * ADD
    assert claim >= CLAIM + 9
    assert close > CLOSE
