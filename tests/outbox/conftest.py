"""Stores to test and few words to fill them. A new store joins `_STORES` and must pass every test_contract_*."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.delivery.transitions import BORN
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, Retryable, State, Uncertain
from app.model.event import Event
from app.model.message import Message, Receipt, ReceiptStatus, Variable
from app.outbox.store import Tx
from app.outbox.values import DeliveryFilter, Enqueued
from tests.needing import leave_out
from tests.outbox.methods import Methods as Outbox
from tests.outbox.methods import SqliteOutbox
from tests.outbox.postgres_outbox import Place, PostgresOutbox, make_place
from tests.outbox.postgres_server import GIVEN, find_program, run_pooler, run_server, why_not
from tests.outbox.recording_triggers import find_faults, record_states

NOW = 1_790_000_000_000
MINUTE = 60_000
DAY = 86_400_000

OpenStore = Callable[..., Outbox]
_numbers = itertools.count(1)


class Shop:
    """A store, and how a test speaks to it. Times are ms; `now` is NOW unless a test says otherwise."""

    now = NOW

    def __init__(self, store: Outbox) -> None:
        self.store = store

    def event(self, **fields: Any) -> Event:
        number = next(_numbers)
        standard: dict[str, Any] = {
            "id": f"evt-{number:06}",
            "source": "nector",
            "topic": "coupon_create",
            "delivery_id": f"source-{number}",
            "body": b'{"value": "ACME-7Q2P"}',
            "payload": {},
            "received_at": NOW,
        }
        return Event(**{**standard, **fields})

    def delivery(self, event: Event, **fields: Any) -> Delivery:
        number = next(_numbers)
        recipient = fields.get("recipient", f"+9198000{number:05}")
        template = fields.get("template", "coupon_ready")
        standard: dict[str, Any] = {
            "id": f"dlv-{number:06}",
            "event_id": event.id,
            "route": "coupon-ready",
            "provider": "gallabox",
            "template": template,
            "recipient": recipient,
            "message": Message(
                recipient, template, "Riya", variables=(Variable("1", "Riya"), Variable(None, "ACME-7Q2P"))
            ),
            "state": State.PENDING,
            "reason": None,
            "created_at": NOW,
            "due_at": NOW,
            "deadline_at": NOW + DAY,
        }
        return Delivery(**{**standard, **fields})

    async def add(self, **fields: Any) -> str:
        """Add one event with one delivery; return the delivery's id."""
        event = self.event()
        return (await self.store.add_event(event, [self.delivery(event, **fields)])).deliveries[0].id

    async def add_many(self, count: int, **fields: Any) -> list[str]:
        """Add one event with many deliveries."""
        event = self.event()
        enqueued: Enqueued = await self.store.add_event(event, [self.delivery(event, **fields) for _ in range(count)])
        return [each.id for each in enqueued.deliveries]

    async def claim(self, limit: int = 10, *, after_ms: int = 0, provider: str = "gallabox") -> Sequence[Attempt]:
        return await self.store.claim_due(provider, NOW + after_ms, limit, 30_000)

    async def claim_one(self, *, after_ms: int = 0) -> Attempt:
        (attempt,) = await self.claim(1, after_ms=after_ms)
        return attempt

    async def close(
        self, attempt: Attempt, outcome: Outcome, decision: Decision, *, after_ms: int = 0, tries: int = 1
    ) -> bool:
        return (await self.store.close_attempt(attempt, outcome, decision, NOW + after_ms, tries)).recorded

    async def accept(self, attempt: Attempt, message_id: str | None = None, *, after_ms: int = 0) -> bool:
        return await self.close(attempt, Accepted(message_id), Decision(State.ACCEPTED), after_ms=after_ms)

    async def retry_later(self, attempt: Attempt, due_ms: int, **decision: Any) -> bool:
        outcome = Retryable(decision.pop("why"))
        return await self.close(
            attempt, outcome, Decision(State.PENDING, outcome.reason, due_at=NOW + due_ms, **decision)
        )

    async def leave_unknown(self, attempt: Attempt, why: Any, due_ms: int | None = None) -> bool:
        due_at = None if due_ms is None else NOW + due_ms
        return await self.close(attempt, Uncertain(why), Decision(State.UNKNOWN, why, due_at=due_at))

    async def receive(
        self,
        status: ReceiptStatus,
        delivery_id: str | None = None,
        message_id: str | None = None,
        *,
        after_ms: int = 0,
        provider: str = "gallabox",
        **more: Any,
    ) -> bool:
        receipt = Receipt(status, delivery_id, message_id, **more)
        return (await self.store.apply_receipts(provider, [receipt], NOW + after_ms))[0].delivery_id is not None

    async def read(self, delivery_id: str) -> Mapping[str, Any]:
        row = await self.store.read_delivery(delivery_id)
        assert row is not None
        return row

    async def show(self, delivery_id: str) -> tuple[Any, Any, Any]:
        """Return (state, reason, receipt)."""
        row = await self.read(delivery_id)
        return row["state"], row["reason"], row["receipt"]

    async def timeline(self, delivery_id: str) -> list[tuple[str, Any]]:
        """Return the values of the timeline, each with its reason."""
        return [(row["value"], row["reason"]) for row in (await self.read(delivery_id))["timeline"]]

    async def list_ids(self, **wanted: Any) -> list[str]:
        rows, _ = await self.store.list_deliveries(DeliveryFilter(**wanted))
        return [row["id"] for row in rows]


class GivenStates(Outbox):
    """What a test gives in a state that none begins in is as of a release that kept no causes."""

    async def add_event(self, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
        added = await super().add_event(event, deliveries)
        if given := [each.id for each in deliveries if each.state not in BORN]:
            await self.write(partial(_forget_causes, ids=given))
        return added


class WatchedOutbox(GivenStates, SqliteOutbox):
    """One that at its end holds what it tells against what triggers have recorded."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        record_states(self._writer._db)
        self._is_checked = False

    async def close(self) -> None:
        if not self._is_checked:
            self._is_checked = True
            assert await self._writer.run_alone(find_faults) == []
        await super().close()


_FORGET = "UPDATE timeline_kept SET cause = NULL WHERE delivery_seq = (SELECT seq FROM deliveries WHERE id = :id)"


def _forget_causes(tx: Tx, ids: Sequence[str]) -> None:
    tx.run_many(_FORGET, [{"id": each} for each in ids])


def _open_sqlite(_request: pytest.FixtureRequest, folder: Path, **options: Any) -> Outbox:
    return WatchedOutbox(folder / "data" / "relay.db", **options)


def _open_postgres(request: pytest.FixtureRequest, _folder: Path, **options: Any) -> Outbox:
    return _Shared(request.getfixturevalue("postgres_place"), **options)


def _open_pooled(request: pytest.FixtureRequest, _folder: Path, **options: Any) -> Outbox:
    return _Shared(request.getfixturevalue("pooled_place"), **options)


_STORES: dict[str, Callable[..., Outbox]] = {
    "sqlite": _open_sqlite, "postgres": _open_postgres, "pgbouncer": _open_pooled,
}  # fmt: skip


# The same again through a pooler: where CI runs, and with `make test-long`.
POOLED = pytest.param("pgbouncer", marks=() if os.environ.get("CI") else pytest.mark.long)


@pytest.fixture(params=[*(name for name in _STORES if name != "pgbouncer"), POOLED])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Return a function that opens the test's store; called again after a close, it opens the same one."""
    opened: list[Outbox] = []

    def open_one(**options: Any) -> Outbox:
        opened.append(_STORES[request.param](request, tmp_path, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


# Thousands of rows, which take seconds: through the pooler fewer do the same in other tests, and these with `long`.
_LOADS = {
    "test_intake_goes_on_while_much_is_forgotten",
    "test_any_number_is_forgotten_past_any_number_that_is_kept",
    "test_any_number_of_events_is_erased",
    "test_repeated_claims_get_past_any_number_of_expired_ones",
    "test_a_burst_of_ten_thousand_does_not_delay_the_one_of_another_route",
    "test_any_number_is_wiped",
    "test_a_topics_last_event_is_remembered_but_for_tests",
}
_SHARED = {"postgres_url", "pooler_url", "server", "pair"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs PostgreSQL where there is none: tests/conftest.py says so once, and not of each."""
    for item in items:
        if getattr(item, "originalname", "") in _LOADS and item.callspec.params.get("open_store") == "pgbouncer":  # type: ignore[attr-defined]  # as it has a store
            item.add_marker(pytest.mark.long)
    if os.environ.get("CI") or why_not() is None:
        return
    left = [item for item in items if _needs_server(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if not _needs_server(item)]


def _needs_server(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    return bool(_SHARED & {*getattr(item, "fixturenames", ())}) or not {"postgres", "pgbouncer"}.isdisjoint(
        value for value in params.values() if isinstance(value, str)
    )


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of the tests' own, or the one that they are given."""
    if (lack := why_not()) is not None:
        leave_out(lack)
    if given := os.environ.get(GIVEN):
        yield given
    else:
        with run_server() as server:
            yield server.url


@pytest.fixture(scope="session")
def pooler_url(postgres_url: str) -> Iterator[str]:
    if find_program("pgbouncer") is None:
        leave_out("no PgBouncer here: apt-get install pgbouncer")
    with run_pooler(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def _direct(postgres_url: str) -> Iterator[Place]:
    with make_place(postgres_url) as place:
        yield place


@pytest.fixture(scope="session")
def _pooled(postgres_url: str, pooler_url: str) -> Iterator[Place]:
    with make_place(postgres_url, pooler_url) as place:
        yield place


@pytest.fixture
def postgres_place(_direct: Place) -> Iterator[Place]:
    yield from _keep(_direct)


@pytest.fixture
def pooled_place(_pooled: Place) -> Iterator[Place]:
    yield from _keep(_pooled)


def _keep(place: Place) -> Iterator[Place]:
    place.empty()
    yield place
    assert place.find_faults() == []


class _Shared(GivenStates, PostgresOutbox):
    """One whose changes triggers record, too."""

    def __init__(self, place: Place, **options: Any) -> None:
        super().__init__(place.url, **options)


@pytest.fixture
def shop(open_store: OpenStore) -> Shop:
    return Shop(open_store())


@pytest.fixture
def open_shop(open_store: OpenStore) -> Callable[..., Shop]:
    return lambda **options: Shop(open_store(**options))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a test of the SQLite store alone keeps its file."""
    return tmp_path / "data" / "relay.db"


@pytest.fixture
async def open_sqlite(database: Path) -> AsyncIterator[Callable[..., SqliteOutbox]]:
    """As open_store, for what only the SQLite store promises."""
    opened: list[SqliteOutbox] = []

    def open_one(**options: Any) -> SqliteOutbox:
        opened.append(SqliteOutbox(database, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def open_replica(postgres_place: Place) -> AsyncIterator[Callable[..., PostgresOutbox]]:
    """Return what opens one more replica of the test's outbox."""
    opened: list[PostgresOutbox] = []

    def open_one(**options: Any) -> PostgresOutbox:
        opened.append(PostgresOutbox(postgres_place.url, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def wrap() -> Callable[[Outbox], Shop]:
    return Shop


@pytest.fixture
def keep_kills(database: Path, tmp_path: Path) -> Callable[[SqliteOutbox, Awaitable[Any]], Awaitable[list[Path]]]:
    """Do some work; return copies of the file as kill -9 would leave it before each statement, and of the end."""

    async def keep_all(store: SqliteOutbox, work: Awaitable[Any]) -> list[Path]:
        kills: list[Path] = []

        def keep(_statement: str) -> None:
            folder = tmp_path / "kills" / str(len(kills))
            folder.mkdir(parents=True)
            for path in (database, database.with_name(f"{database.name}-wal")):
                shutil.copy(path, folder / path.name)
            kills.append(folder / database.name)

        await store._writer.run_alone(lambda db: db.set_trace_callback(keep))
        await work
        await store._writer.run_alone(lambda db: db.set_trace_callback(None))
        keep("the end")
        return kills

    return keep_all
