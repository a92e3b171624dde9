"""Nector: posts each event, at most six times with growing waits, twice at once, or again after an answer it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from app.errors import Refusal, StoreError
from app.relay.intake import Answer
from tests.faults.simulation.rules import Webhook
from tests.faults.simulation.trace import Trace

TRIES = 6  # https://help.nector.io: at most five retries
TIMEOUT_S = 10
FIRST_WAIT_S = 20
LOST_ANSWERS = 0.04
COPIES = 0.06

Post = Callable[[Webhook], asyncio.Task[Answer | Refusal] | None]
"""Hands a webhook to the relay; None if nobody listens."""


@dataclass
class Nector:
    """What the source was told: `acknowledged` holds the event's id by the delivery id of each answered webhook."""

    random: Random
    trace: Trace
    post: Post
    fail: Callable[[str], None]
    acknowledged: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    posts: int = 0

    async def feed(self, webhooks: list[Webhook]) -> None:
        """Post every event at its time and return when each is answered or given up."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as senders:
            for webhook in webhooks:
                await asyncio.sleep(max(webhook.at_s - loop.time(), 0))
                for _ in range(3 if self.random.random() < COPIES else 1):
                    senders.create_task(self._insist(webhook))

    async def _insist(self, webhook: Webhook) -> None:
        for number in range(TRIES):
            if await self._post_once(webhook):
                return
            await asyncio.sleep(FIRST_WAIT_S * 3**number * self.random.uniform(0.8, 1.2))
        self.given_up.add(webhook.delivery_id)

    async def _post_once(self, webhook: Webhook) -> bool:
        """Return whether Nector has heard a 2xx."""
        self.posts += 1
        task = self.post(webhook)
        if task is None:
            return False
        task.add_done_callback(partial(self._note, webhook))  # a 2xx binds the relay, whether it is heard or not
        await asyncio.wait({task}, timeout=TIMEOUT_S)
        heard = task.done() and not task.cancelled() and task.exception() is None
        return heard and self.random.random() >= LOST_ANSWERS

    def _note(self, webhook: Webhook, task: asyncio.Task[Answer | Refusal]) -> None:
        if task.cancelled() or isinstance(task.exception(), StoreError):
            return
        answer = task.result()
        if isinstance(answer, Refusal):
            self.fail(f"a good webhook was refused: {answer}")
            return
        self.trace.add(f"nector {webhook.delivery_id} {answer.http_status} {answer.event_id}")
        first = self.acknowledged.setdefault(webhook.delivery_id, answer.event_id)
        if first != answer.event_id:
            self.fail(f"I2: {webhook.delivery_id} was answered with {first}, then with {answer.event_id}")
