"""A restart of the real store after a cut: it opens, settles what was open, and sends nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from app.errors import StoreError
from app.model.delivery import State
from tests.faults.power.promises import Promises
from tests.faults.power.stored import Stored, StoreReader
from tests.faults.power.workload import DATABASE, LEASE_MS, NOW, PROVIDERS, build_event
from tests.outbox.methods import SqliteOutbox

LATER = NOW + 3_600_000  # after anything that a workload has put off
NEW_EVENT = 999_999


def restart(folder: Path, promises: Promises, stored: Stored) -> list[str]:
    """Return what the real store does wrong with what a cut has left."""
    try:
        found = asyncio.run(_restart(folder / DATABASE, promises, stored))
    except StoreError as error:
        return [f"the store refuses: {error}"]
    return [*found, *StoreReader().read(folder / DATABASE).problems]


async def _restart(database: Path, promises: Promises, stored: Stored) -> list[str]:
    store = SqliteOutbox(database)
    try:
        found = [*await _recover(store, stored), *await _add_again(store, promises)]
        for provider in PROVIDERS:
            attempts = await store.claim_due(provider, LATER, 500, LEASE_MS)
            found += _check_claim({(each.delivery.id, each.number) for each in attempts}, promises, stored)
        if not await store.can_commit():
            found.append("the store cannot commit")
    finally:
        await store.close()
    return found


async def _recover(store: SqliteOutbox, stored: Stored) -> list[str]:
    open_attempts = len(stored.attempts) - len(stored.endings)
    recovered = await store.recover_open_attempts(LATER - 60_000, 0)
    left = [state for _, state in await store.count_deliveries() if state is State.SENDING]
    return (
        [] if recovered == open_attempts and not left else [f"recovered {recovered} of {open_attempts} open attempts"]
    )


async def _add_again(store: SqliteOutbox, promises: Promises) -> list[str]:
    """What was acknowledged is a duplicate when it comes again; something new is not."""
    found = []
    for event_id in {*sorted(promises.events)[:1], *sorted(promises.events)[-1:]}:
        event, deliveries = build_event(int(event_id.removeprefix("evt-")))
        again = await store.add_event(event, deliveries)
        if not again.duplicate or [each.id for each in again.deliveries] != [each.id for each in deliveries]:
            found.append(f"{event_id} is no duplicate")
    if (await store.add_event(*build_event(NEW_EVENT))).duplicate:
        found.append("a new event is a duplicate")
    return found


def _check_claim(claimed: set[tuple[str, int]], promises: Promises, stored: Stored) -> Iterator[str]:
    if claimed & stored.attempts:
        yield f"an attempt's number is used again: {min(claimed & stored.attempts)}"
    again = {delivery_id for delivery_id, _ in claimed} & promises.accepted
    if again:
        yield f"accepted, and sent again: {min(again)}"
