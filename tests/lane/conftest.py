"""A lane on a clock that the test moves: real SQLite, and a provider that says what it is told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.delivery.pace import Turns
from app.mapping.provider import ProviderSettings
from app.model.delivery import Accepted, Delivery, Outcome, State
from app.model.event import Event
from app.model.message import Message
from app.observe.metrics import Metrics
from app.outbox.values import DeliveryFilter, LaneState
from app.providers.base import Sent
from app.relay import Context
from app.relay.lane import Lane
from tests.contexts import build_context
from tests.outbox.methods import SqliteOutbox

START = 1_790_000_000_000
DAY = 86_400_000
OK = Accepted("m-1")


@dataclass
class Lines:
    """A log that keeps its lines."""

    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def take(self, line: str, **fields: Any) -> None:
        self.kept.append((line, fields))

    info = warning = error = critical = take

    def of(self, name: str) -> list[Mapping[str, Any]]:
        return [fields for line, fields in self.kept if line == name]


@dataclass
class Desk:
    """The provider: answers as `answer` says, once `gate` is open; keeps when it was asked, and with how many tries."""

    clock: Callable[[], int]
    answer: Outcome = OK
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(
        self, _provider: Any, _message: Message, _delivery_id: str, *, write_within_ms: int, tries: int, **_: object
    ) -> Sent:
        assert write_within_ms > 0
        self.asked.append((self.clock(), tries))
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return Sent(self.answer, tries)

    async def close(self) -> None:
        pass


class WatchedLane(Lane):
    """A lane of which the test knows whether it has done all that there was to do."""

    napping = looked_once = False

    @property
    def rests(self) -> bool:
        return self.napping and not self._signal.is_set()

    async def _nap(self, seconds: float) -> None:
        self.napping = self.looked_once = True
        await super()._nap(seconds)
        self.napping = False


class Bench:
    """A store, a provider, a clock and a log; lanes come and go on it as processes do."""

    def __init__(self, outbox: Any) -> None:
        self.outbox = outbox
        self.now = START
        self.log = Lines()
        self.metrics = Metrics()
        self.desk = Desk(self.read_clock)
        self.lane: WatchedLane | None = None
        self.turns = Turns()
        self.draw = 0.0  # what chance draws
        self.everything = DeliveryFilter()

    def read_clock(self) -> int:
        return self.now

    def _draw(self) -> float:
        return self.draw

    async def add(self, count: int, **fields: Any) -> None:
        total = sum((await self.outbox.count_deliveries()).values())
        event = Event(f"evt-{total}", "nector", "coupon_create", None, b"{}", {}, self.now)
        standard = {"route": "coupon-ready", "provider": "gallabox", "template": "coupon_ready"}
        deliveries = []
        for number in range(total, total + count):
            recipient = f"+9198000{number:05}"
            given: dict[str, Any] = {
                **standard,
                "id": f"dlv-{number:06}",
                "event_id": event.id,
                "recipient": recipient,
                "message": Message(recipient, "coupon_ready"),
                "state": State.PENDING,
                "reason": None,
                "created_at": self.now,
                "due_at": self.now,
                "deadline_at": self.now + DAY,
                **fields,
            }
            deliveries.append(Delivery(**given))
        await self.outbox.add_event(event, deliveries)

    def parts(self, outbox: Any = None) -> Context:
        chosen = outbox or self.outbox
        return build_context(chosen, self.read_clock, random=self._draw, metrics=self.metrics, log=self.log)

    async def open_desk(self, _settings: ProviderSettings) -> Any:
        return self.desk

    @asynccontextmanager
    async def run(self, rate: str = "900/s", concurrency: int = 64, outbox: Any = None) -> AsyncIterator[None]:
        """Run a lane for as long as the block does, as a process would; the block begins when it has looked once."""

        settings = ProviderSettings(type="fake", rate=rate, concurrency=concurrency)
        provider: Any = None
        self.lane = WatchedLane("gallabox", settings, provider, self.parts(outbox), self.open_desk, self.turns)
        running = asyncio.create_task(self.lane.run())
        try:
            while not self.lane.looked_once or len(self.lane._open) > self.desk.waiting:
                await asyncio.sleep(0.001)
            yield
        finally:
            self.lane.stop()
            self.desk.gate.set()
            await running

    async def pass_time(self, ms: int = 0) -> None:
        """Move the clock, and let the lane do all that it then does."""
        self.now += ms
        assert self.lane is not None
        self.lane.wake()
        async with asyncio.timeout(20):
            while not self.lane.rests or len(self.lane._open) > self.desk.waiting:
                await asyncio.sleep(0.001)

    async def wait_until_asked(self, times: int) -> None:
        async with asyncio.timeout(20):
            while len(self.desk.asked) < times:
                await self.pass_time(10)

    async def states(self) -> Counter[State]:
        counted: Counter[State] = Counter()
        for (_, state), number in (await self.outbox.count_deliveries()).items():
            counted[state] += number
        return +counted

    async def recall(self) -> LaneState:
        state: LaneState = await self.outbox.read_lane("gallabox")
        return state


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("app.relay.lane.RECORD_AGAIN_S", 0.01)
    found = Bench(None)
    found.outbox = SqliteOutbox(tmp_path / "relay.db", clock=found.read_clock)
    yield found
    await found.outbox.close()
