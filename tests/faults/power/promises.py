"""What the workload was promised so far, and what of it a rebuilt outbox has lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults.power.stored import Stored


@dataclass(slots=True)
class Promises:
    """Every acknowledgement until now, by what must be there because of it."""

    events: set[str] = field(default_factory=set)
    deliveries: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    attempts: set[tuple[str, int]] = field(default_factory=set)
    endings: set[tuple[str, int, str]] = field(default_factory=set)
    receipts: set[tuple[str, str]] = field(default_factory=set)
    timeline: set[tuple[str, int]] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    failures: dict[str, int] = field(default_factory=dict)
    wiped: int = 0
    forgetting: bool = False
    count: int = 0
    _received: dict[str, int] = field(default_factory=dict)
    _rows: Counter[str] = field(default_factory=Counter)

    def learn(self, line: bytes) -> None:
        """Take in one line of the workload's `acks`."""
        kind, *what = json.loads(line)
        self.count += 1
        _LEARN[kind](self, *what)

    def list_lost(self, stored: Stored) -> list[str]:
        """Return what was acknowledged and is not there."""
        return [f"{kind}: {example} and {more} more" for kind, example, more in self._compare(stored)]

    def _compare(self, stored: Stored) -> Iterator[tuple[str, object, int]]:
        pairs: tuple[tuple[str, set[Any], frozenset[Any]], ...] = (
            ("event", self.events, stored.events),
            ("delivery", self.deliveries, stored.deliveries),
            ("accepted delivery", self.accepted, stored.accepted),
            ("attempt", self.attempts, stored.attempts),
            ("outcome", self.endings, stored.endings),
            ("receipt", self.receipts, stored.receipts),
            ("timeline row", self.timeline, stored.timeline),
            ("hold", self.holds, stored.holds),
            ("release", self.released & stored.holds, frozenset()),
        )
        for kind, promised, there in pairs:
            missing = promised - there
            if missing:
                yield kind, min(missing), len(missing) - 1
        lanes = dict(stored.lanes)
        for provider, failures in self.failures.items():
            if lanes.get(provider, 0) < failures:
                yield "lane", provider, 0
        if stored.wiped < self.wiped:
            yield "wiping", self.wiped - stored.wiped, 0
        if stored.spare_keys and not self.forgetting:
            yield "event of a dedup key", stored.spare_keys, 0

    def note_row(self, delivery_id: str) -> None:
        """One more row of the delivery's timeline is certain."""
        self._rows[delivery_id] += 1
        self.timeline.add((delivery_id, self._rows[delivery_id]))

    def learn_added(self, event_id: str, received_at: int, delivery_ids: list[str]) -> None:
        self.events.add(event_id)
        self._received[event_id] = received_at
        self.deliveries.update(delivery_ids)
        for delivery_id in delivery_ids:
            self.note_row(delivery_id)

    def learn_opened(self, delivery_id: str, number: int) -> None:
        self.attempts.add((delivery_id, number))
        self.note_row(delivery_id)

    def learn_closed(self, delivery_id: str, number: int, outcome: str, state: str) -> None:
        self.endings.add((delivery_id, number, outcome))
        if state == "accepted":
            self.accepted.add(delivery_id)  # for ever: nothing leaves this state
        self.note_row(delivery_id)

    def learn_received(self, delivery_id: str, status: str) -> None:
        if (delivery_id, status) not in self.receipts:
            self.receipts.add((delivery_id, status))
            self.note_row(delivery_id)

    def learn_lane(self, provider: str, failures: int) -> None:
        self.failures[provider] = failures

    def learn_wiped(self, deliveries: int) -> None:
        self.wiped += deliveries

    def learn_forgetting(self, before: int) -> None:
        """From now on older events may go with all that hangs on them, and out of the count of wiped ones."""
        self.forgetting, self.wiped = True, 0
        gone = {name_number(event_id) for event_id, at in self._received.items() if at < before}
        for ids in (self.events, self.deliveries, self.accepted):
            ids -= {id_ for id_ in ids if name_number(id_) in gone}
        rows: tuple[set[Any], ...] = (self.attempts, self.endings, self.receipts, self.timeline)
        for each in rows:
            each -= {row for row in each if name_number(row[0]) in gone}


def name_number(id_: str) -> str:
    """Return the event's number out of the id of an event or a delivery."""
    return id_.split("-")[1]


_LEARN: dict[str, Callable[..., None]] = {
    "added": Promises.learn_added,
    "opened": Promises.learn_opened,
    "closed": Promises.learn_closed,
    "received": Promises.learn_received,
    "retried": Promises.note_row,
    "held": lambda promises, scope: promises.holds.add(scope),
    "releasing": lambda promises, scope: promises.holds.discard(scope),
    "released": lambda promises, scope: promises.released.add(scope),
    "lane": Promises.learn_lane,
    "wiped": Promises.learn_wiped,
    "forgetting": Promises.learn_forgetting,
    "forgot": lambda *_: None,
}
