"""A relay's dispatcher with its real store and lanes, on a loop whose time jumps, and a wall clock that can be set.

Its provider is the oracle: it notes at which second of the world's own time each request arrives.
"""

from __future__ import annotations

import asyncio
import selectors
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from app.clock import Clock, WatchedClock
from app.errors import StoreError, StoreFull
from app.mapping.parse import parse_config
from app.model.delivery import Accepted, Delivery, Outcome, State
from app.model.event import Event
from app.model.message import Message, Variable
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.outbox.close import recover_open_attempts
from app.outbox.move import write_counts
from app.outbox.sqlite.file import create_schema, migrate_schema, read_key
from app.outbox.sqlite.tx import SqliteTx
from app.providers import PROVIDER_TYPES, settings_types
from app.providers.base import Sent
from app.relay import Snapshot
from app.relay.dispatcher import Dispatcher
from app.relay.reload import build_snapshot
from app.settings import Settings
from tests.contexts import build_context
from tests.outbox.methods import SqliteOutbox

BASE_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SETTLE_MS = 900_000
_YAML = """
version: 1
providers:
  main: {{type: gallabox, channel_id: c, api_key: "${{KEY}}", api_secret: "${{KEY}}", base_url: "https://a.example",
          rate: {rate}/s}}
routes:
  coins: {{event: walletreward_create, provider: main, template: coins, variables: [user_name]}}
"""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for what will never come"
        self.now += max(timeout, 0)
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class _Inline:
    """In place of the writer's and the reader's thread: in order, each job in a transaction of its own."""

    broken = None

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        self.db = db
        self.failure: str | None = None
        self.clock = clock
        self.answer_after_s = 0.0

    async def run(self, job: Callable[[SqliteTx], Any], *, essential: bool = False) -> Any:
        del essential
        await asyncio.sleep(0)
        if self.failure == "dead":
            raise asyncio.CancelledError
        if self.failure == "full":
            raise StoreFull("simulated: no space")
        self.db.execute("BEGIN IMMEDIATE")
        tx = SqliteTx(self.db, self.clock(), read_key(self.db))
        result = job(tx)
        write_counts(tx)
        self.db.execute("COMMIT")
        if self.failure == "in doubt":
            raise StoreError("simulated: failed after the commit")
        await asyncio.sleep(self.answer_after_s)
        return result

    async def run_alone(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        await asyncio.sleep(0)
        return job(self.db)


class _Reader:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    async def run(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        await asyncio.sleep(0)
        return query(self.db)


class _Outbox(SqliteOutbox):
    """The real one without files and threads."""

    def __init__(self, writer: _Inline) -> None:
        self._clock = writer.clock
        self._people_key = read_key(writer.db)
        self._writer = cast(Any, writer)
        self._reader = cast(Any, _Reader(writer.db))

    async def empty_log(self) -> bool:
        """There is none, and no file."""
        return True


_ACCEPTED = Accepted("m-1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider makes of a request, and how long it takes."""

    outcome: Outcome = _ACCEPTED
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that reached the provider: at which second, for which delivery, by which wall clock (ms)."""

    at_s: float
    delivery_id: str
    wall: int


@dataclass
class World:
    """`set_ahead_ms`: how far the wall clock is off the true time."""

    loop: _Loop
    rate: float = 16
    answers: list[Answer] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    set_ahead_ms: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    logs: list[dict[str, Any]] = field(default_factory=list)
    deaths: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        create_schema(self.db)
        migrate_schema(self.db)
        self._count = 0

    def read_wall(self) -> int:
        return BASE_MS + int(self.loop.time() * 1000) + self.set_ahead_ms

    async def start(self) -> None:
        """Start the relay, as relay.Relay.open does."""
        self.clock = WatchedClock(self.read_wall)
        self.writer = _Inline(self.db, self.clock)
        self.outbox = _Outbox(self.writer)
        log = Log(self._note)
        settings = Settings(settle_after=SETTLE_MS, payload_retention=400 * DAY_MS, record_retention=400 * DAY_MS)
        context = build_context(self.outbox, self.clock, settings=settings, metrics=self.metrics, log=log)
        self.dispatcher = Dispatcher(context, cast(Any, self._open_sender), self.deaths.append)
        await self.dispatcher.follow_clock()
        await self.outbox.write(partial(recover_open_attempts, settle_ms=SETTLE_MS))
        self.dispatcher.start()
        self.dispatcher.use(_load_rules(self.rate))

    async def stop(self) -> None:
        await self.dispatcher.drain(30)

    def kill(self) -> None:
        """Let nothing reach the store any more that the relay still does; the next start has a writer of its own."""
        self.writer.failure = "dead"

    async def add(self, number: int = 1, *, valid_ms: int = 300 * DAY_MS, on_unknown: Any = "resend") -> str:
        """Take an event for the customer of this number."""
        self._count += 1
        now, recipient = self.clock(), f"+9198000000{number:02}"
        event = Event(f"evt-{self._count}", "nector", "walletreward_create", f"d-{self._count}", b"{}", {}, now)
        delivery = Delivery(
            id=f"dlv-{self._count}",
            event_id=event.id,
            route="coins",
            provider="main",
            template="coins",
            recipient=recipient,
            message=Message(recipient, "coins", "Riya", variables=(Variable("1", "Riya"),)),
            state=State.PENDING,
            reason=None,
            created_at=now,
            due_at=now,
            deadline_at=now + valid_ms,
            on_unknown=on_unknown,
        )
        await self.outbox.add_event(event, [delivery])
        self.dispatcher.wake("main")
        return delivery.id

    def read_state(self, delivery_id: str) -> tuple[str, str | None]:
        row = self.db.execute("SELECT state, reason FROM deliveries WHERE id = ?", (delivery_id,)).fetchone()
        return row[0], row[1]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["event"] == event]

    async def send(
        self, _provider: Any, _message: Message, delivery_id: str, *, write_within_ms: int, tries: int, **_: object
    ) -> Sent:
        """Take a request."""
        assert write_within_ms > 0
        assert tries > 0
        self.arrivals.append(Arrival(self.loop.time(), delivery_id, self.read_wall()))
        answer = self.answers.pop(0) if self.answers else Answer()
        await asyncio.sleep(answer.after_s)
        return Sent(answer.outcome, 1)

    async def close(self) -> None:
        """Nothing to release."""

    async def _open_sender(self, _settings: Any) -> World:
        return self

    def _note(self, level: str, event: str, /, **line: Any) -> None:
        self.logs.append({**line, "event": event, "level": level})


def _load_rules(rate: float) -> Snapshot:
    parsed = parse_config(
        _YAML.format(rate=rate), environment={"KEY": "k"}, provider_types=settings_types(), templates={}
    )
    assert parsed.config is not None, parsed.problems
    return build_snapshot(parsed.config, PROVIDER_TYPES)


def live(play: Callable[[World], Coroutine[Any, Any, None]], **world: Any) -> World:
    """Play a story to its end and return what is left of its world."""
    loop = _Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        lived = World(loop, **world)
        runner.run(play(lived))
    assert lived.deaths == []
    return lived


def times(arrivals: Sequence[Arrival]) -> list[float]:
    """Return the second of each arrival."""
    return [arrival.at_s for arrival in arrivals]
