"""What the outbox holds, brought into the metrics when somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from app.errors import StoreError
from app.logs import Log
from app.metrics import Metrics
from app.outbox.base import Outbox

# Prometheus gives up a scrape after 10 s: what else there is to show must not be lost with it.
LONGEST_S = 3.0


async def count_store(outbox: Outbox, providers: Collection[str], now: int, metrics: Metrics, log: Log) -> None:
    """Bring what shows the outbox up to date, all at once; where it cannot say, the last is left and that is counted.

    `providers`: those of the YAML, each of which has its oldest delivery shown.
    """
    try:
        async with asyncio.timeout(LONGEST_S):
            standing = await outbox.count_deliveries()
            reached = await outbox.count_reached()
            holds = await outbox.list_holds()
            people = await outbox.count_suppressions()
            oldest = {provider: await outbox.find_oldest_due(provider, now) for provider in providers}
    except (StoreError, TimeoutError) as error:
        metrics.store_errors.labels("scrape").inc()
        log.warning("metrics.stale", detail=str(error) or "the outbox did not answer in time")
        return
    # Without a pause in between, so that of two scrapes at once none sees the half of another.
    metrics.set_outbox(standing)
    metrics.set_reached(reached)
    metrics.suppressions.set(people.suppressed)
    metrics.set_holds({hold.scope: hold.deliveries for hold in holds})
    metrics.set_oldest_due({provider: 0 if due_at is None else now - due_at for provider, due_at in oldest.items()})
