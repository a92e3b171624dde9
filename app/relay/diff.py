"""Stored events evaluated by a YAML that is not in force, beside the one that is. Nothing is kept and nothing sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from app.delivery.diff import Change, Difference, compare_deliveries
from app.delivery.replay import Entry, Verdict
from app.model.event import TEST_SOURCE
from app.outbox import replay as stored
from app.outbox.values import EventQuery, StoredEvent
from app.relay.context import Context, Snapshot
from app.relay.replay import evaluate_event

LONGEST_LOOK_S = 1.0  # a call; whoever asks goes on where it ended, and can show how far it is
_PAGE = 100  # events in memory at a time; a body may have 64 KiB
Key: TypeAlias = tuple[Change, str, str]


@dataclass(slots=True)
class Differences:
    """The differences that some events have shown: how many of each kind, and the first as an example.

    `next_after`: where the next call goes on, None: these were the last. `wiped`: events of which nothing is left.
    """

    events: int = 0
    wiped: int = 0
    found: dict[Key, tuple[int, StoredEvent, Difference]] = field(default_factory=dict)
    next_after: int | None = None

    def add(self, event: StoredEvent, difference: Difference) -> None:
        """Count a difference; only the first of its kind is kept, and nothing of its event's body."""
        key = (difference.change, difference.route, difference.what)
        count, first, example = self.found.get(key, (0, replace(event, body=None, deliveries=()), difference))
        self.found[key] = (count + 1, first, example)


async def compare_rules(context: Context, proposed: Snapshot, wanted: EventQuery) -> Differences:
    """Return how the stored events would be sent otherwise by the proposed rules, as far as one call comes."""
    snapshot, answer = context.snapshot, Differences()
    read_time = asyncio.get_running_loop().time
    until_s, after = read_time() + LONGEST_LOOK_S, wanted.after
    while True:
        query = partial(stored.find_events, wanted=replace(wanted, after=after, limit=_PAGE))
        page = await context.outbox.read(query)
        for event in page.events:
            await asyncio.sleep(0)  # rendering takes its time: webhooks are answered in between
            _compare_event(context, snapshot, proposed, event, answer)
        if page.next_after is None:
            return answer
        after = page.next_after
        if read_time() >= until_s:
            answer.next_after = after
            return answer


def _compare_event(
    context: Context, snapshot: Snapshot, proposed: Snapshot, event: StoredEvent, answer: Differences
) -> None:
    if event.source == TEST_SOURCE:
        return
    before, after = (evaluate_event(context, rules, event) for rules in (snapshot, proposed))
    if isinstance(before, Entry) or isinstance(after, Entry):
        answer.wiped += isinstance(before, Entry) and before.verdict is Verdict.WIPED
        return
    answer.events += 1
    for difference in compare_deliveries(before, after):
        answer.add(event, difference)
