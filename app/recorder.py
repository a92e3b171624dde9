"""The recorder: keeps the last events of each topic with invented values, beside the way of the event itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence

from app.core.faking import fake_payload
from app.core.models import Event
from app.core.rates import Bucket, take
from app.errors import StoreError
from app.outbox.base import Outbox
from app.outbox.values import Recording

# Enough to see every kind of event; a burst of 100,000 reminders is seen once.
BURST = 20
PER_SECOND = 0.2
MOST_TOPICS = 200


class Recorder:
    """Notes events. What it keeps cannot be traced back: the key is made from secrets that the outbox does not hold."""

    def __init__(self, outbox: Outbox, secrets: Sequence[str]) -> None:
        self._outbox = outbox
        self._key = hmac.digest("\0".join(secrets).encode("utf-8", "replace"), b"recordings", hashlib.sha256)
        self._buckets: dict[str, Bucket] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, event: Event) -> None:
        """Keep an event soon, if its topic has not had many lately. Never raises, never waits."""
        bucket = self._buckets.get(event.topic)
        if bucket is None:
            if len(self._buckets) >= MOST_TOPICS:
                return
            bucket = Bucket(PER_SECOND, BURST, tokens=BURST, updated_at=event.received_at)
        self._buckets[event.topic], granted = take(bucket, event.received_at, 1)
        if granted:
            task = asyncio.create_task(self._keep(event))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing)

    async def _keep(self, event: Event) -> None:
        payload = json.dumps(fake_payload(event.payload, self._key), ensure_ascii=True)
        try:
            await self._outbox.record_event(Recording(event.topic, event.received_at, payload))
        except StoreError:
            return  # a convenience: the event itself is safe, and whoever waits for space needs it more
