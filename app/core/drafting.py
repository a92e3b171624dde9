"""A replay's plan while it is worked out: what it would send, what it passes over, and where it ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.core.models import Delivery, Reason
from app.core.replaying import Verdict

SEND_LIMIT = 10_000
"""So many messages one plan sends at most: they are committed as one."""
LIST_LIMIT = 10_000
"""So many that it does not send are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event's one route, and what the plan does with it; `route` is "" where the event has none.

    `delivery_id`: the past delivery that the verdict rests on. `detail` names fields, never values.
    """

    event_id: str
    topic: str
    route: str
    verdict: Verdict
    reason: Reason | None = None
    delivery_id: str | None = None
    detail: str = ""


@dataclass(slots=True)
class Draft:
    """Collects a plan's entries, oldest event first. `complete` is False where SEND_LIMIT ended it."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)
    complete: bool = True
    unlisted: int = 0
    send_limit: int = SEND_LIMIT
    list_limit: int = LIST_LIMIT
    _sends: set[tuple[str, str]] = field(default_factory=set)
    _keys: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Count an entry and, while there is room, list it."""
        self.counts[entry.verdict] += 1
        if entry.verdict is not Verdict.SEND and len(self.entries) - len(self._sends) >= self.list_limit:
            self.unlisted += 1
        else:
            self.entries.append(entry)

    def add_delivery(self, delivery: Delivery, entry: Entry, *, taken: bool) -> None:
        """Add what comes of a delivery. `taken`: another event has its dedup key.

        Of those that would send the same only the first does; an event that changed between two pages stands on both.
        """
        if entry.verdict is not Verdict.SEND:
            self.add(entry)
            return
        name = (entry.event_id, entry.route)
        key = None if delivery.dedup_key is None else (delivery.route, delivery.recipient, delivery.dedup_key)
        if name in self._sends:
            return
        if taken or key in self._keys:
            self.add(replace(entry, verdict=Verdict.DUPLICATE, reason=Reason.DUPLICATE))
        elif len(self._sends) == self.send_limit:
            self.complete = False
        else:
            self._sends.add(name)
            if key is not None:
                self._keys.add(key)
            self.add(entry)


def write_entries(draft: Draft) -> str:
    """Return a plan's entries as the store keeps them: ids, verdicts and reasons only."""
    rows = [[each.event_id, each.route, each.verdict, each.reason, each.delivery_id] for each in draft.entries]
    return json.dumps(rows, separators=(",", ":"))


def read_sends(entries: str) -> Mapping[str, list[str]]:
    """Return what a stored plan sends: by event id, oldest first, its routes."""
    sends: dict[str, list[str]] = {}
    for event_id, route, verdict, _, _ in json.loads(entries):
        if verdict == Verdict.SEND:
            sends.setdefault(event_id, []).append(route)
    return sends
