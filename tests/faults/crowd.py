"""Senders that post as Nector does, until each of their events is answered."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Crowd:
    """Senders that post events as Nector does: each again with the same delivery id until it is answered 2xx.

    One number gets a message every 6 s per account: a hundred numbers and four accounts take 66 events a second.
    """

    url: str
    draw: random.Random
    accounts: int
    senders: int = 12
    pause_s: float = 0.25
    acknowledged: dict[int, str] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)  # acknowledged again, as if for the first time
    broken_off: set[int] = field(default_factory=set)  # whose last try got no answer
    cut: list[int] = field(default_factory=list)  # stored, as the answer to the next try shows, and not answered
    answers: dict[int, int] = field(default_factory=dict)  # how often each status came
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Crowd]:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client, asyncio.TaskGroup() as group:
            for _ in range(self.senders):
                group.create_task(self._send(client))
            yield self
            self.ending.set()

    async def wait_for_answer(self, relay: Any) -> None:
        """Return once the relay has answered anybody."""
        self.heard.clear()
        async with asyncio.timeout(60):
            while not self.heard.is_set():
                assert relay.process.returncode is None, relay.log.read_text()[-2000:]
                await asyncio.sleep(0.01)

    async def _send(self, client: httpx2.AsyncClient) -> None:
        while not self.ending.is_set():
            self.begun += 1
            await self._post_until_taken(client, self.begun)
            if self.draw.random() < 0.05:  # a sender that did not see its answer
                await self._post_until_taken(client, self.draw.choice(list(self.acknowledged)))
            await asyncio.sleep(self.pause_s * 2 * self.draw.random())

    async def _post_until_taken(self, client: httpx2.AsyncClient, number: int) -> None:
        while not await self._post(client, number):
            await asyncio.sleep(0.1 + 0.2 * self.draw.random())

    async def _post(self, client: httpx2.AsyncClient, number: int) -> bool:
        account, recipient = number % self.accounts, number // self.accounts % 100
        payload = {"user_name": "Riya", "user_mobile": f"98000000{recipient:02}", "amount": number, "account": account}
        headers = {
            "content-type": "application/json",
            "x-nector-topic": "walletreward_create",
            "x-nector-delivery-id": f"event-{number}",
        }
        try:
            answer = await client.post(f"{self.url}/webhooks/nector", content=json.dumps(payload), headers=headers)
        except httpx2.TransportError:
            self.broken_off.add(number)
            return False
        self.heard.set()
        if answer.status_code == 200 and number in self.broken_off and number not in self.acknowledged:
            self.cut.append(number)
        self.broken_off.discard(number)
        self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
        if answer.status_code == 503:
            return False
        assert answer.status_code in {200, 202}, answer.text
        (delivery,) = answer.json()["deliveries"]
        if self.acknowledged.setdefault(number, delivery["id"]) != delivery["id"]:
            self.forgotten.append(number)
        return True
