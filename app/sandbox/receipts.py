"""The sandbox keeps what it took, by which tests see how often a customer was written to, and posts receipts of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from app.clock import read_clock
from app.mapping.template import print_message
from app.model.message import ReceiptStatus
from app.model.value import dataclass
from app.providers.client import open_trust
from app.sandbox.vendor import Order, Report, SandboxSettings, Vendor
from app.values.instant import format_instant


@dataclass(slots=True)
class Entry:
    """One message, at its first request. `at`: ms since the epoch; `requests` over 1: it was sent again."""

    provider: str
    message_id: str
    order: Order
    at: int
    requests: int = 0


class Ledger:
    """Accepted messages and counts of requests, kept until they are cleared.

    `counts`: accepted requests by recipient, delivery id and provider, and all that were `seen` by provider.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._entries: dict[tuple[str, str], Entry] = {}
        self.counts = {name: Counter[str]() for name in ("recipients", "deliveries", "accepted", "seen")}

    def note_accepted(self, provider: str, message_id: str, order: Order, at: int) -> int:
        """Keep an accepted request; return how many there have been for its delivery id."""
        key = (provider, order.delivery_id or message_id)
        entry = self._entries.setdefault(key, Entry(provider, message_id, order, at))
        entry.requests += 1
        self.counts["recipients"][order.recipient] += 1
        self.counts["accepted"][provider] += 1
        if order.delivery_id is not None:
            self.counts["deliveries"][order.delivery_id] += 1
        return entry.requests

    def list_messages(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages in the order they came, one per delivery id."""
        return [
            {
                "provider": entry.provider,
                "id": entry.message_id,
                "delivery_id": entry.order.delivery_id,
                "template": entry.order.template,
                "recipient": entry.order.recipient,
                "variables": list(entry.order.variables),
                "text": print_message(entry.order.filled),
                "at": format_instant(entry.at),
                "requests": entry.requests,
            }
            for entry in self._entries.values()
        ]


# Gallabox makes up to 5 attempts with growing delay; here they are short, as somebody is watching.
# https://docs.gallabox.com/developer-resources/webhook
_RETRY_WAITS_MS = (50, 200, 800, 3200)
_TIMEOUT_S = 5.0


class ReceiptPoster:
    """Tells one relay what became of each message, as long as `run` runs."""

    def __init__(self, settings: SandboxSettings, show: Callable[[str], None]) -> None:
        self._settings = settings
        self._show = show
        self._tasks: set[asyncio.Task[None]] = set()
        # No proxy of the environment stands between two programs of one machine.
        trust = open_trust(settings.relay_url or "")
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, verify=trust)

    @asynccontextmanager
    async def run(self, _app: object) -> AsyncIterator[None]:
        """Let the block run; what is not told by its end stays untold."""
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._client.aclose()

    def start(self, vendor: Vendor, order: Order, message_id: str) -> None:
        """Begin to report this message, if there is a relay to report to."""
        if self._settings.receipts and self._settings.relay_url and vendor.kind != "http":
            task = asyncio.create_task(self._report(vendor, order, message_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report(self, vendor: Vendor, order: Order, message_id: str) -> None:
        reached = [ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.READ]
        for status in reached if self._settings.read_receipts else reached[:2]:
            await asyncio.sleep(self._settings.receipt_delay_ms / 1000)
            trouble = await self._post(vendor.provider, vendor.report(order, message_id, status, read_clock()))
            if trouble:
                self._show(f'{vendor.provider}: the relay did not take the receipt "{status.value}": {trouble}')

    async def _post(self, provider: str, report: Report) -> str:
        """Return "" once the relay took it, else what went wrong."""
        url = f"{(self._settings.relay_url or '').rstrip('/')}/webhooks/{provider}"
        trouble = ""
        for wait_ms in (0, *_RETRY_WAITS_MS):
            await asyncio.sleep(wait_ms / 1000)
            try:
                answer = await self._client.post(url, params=report.query, headers=report.headers, content=report.body)
            except httpx2.TransportError as error:
                trouble = type(error).__name__
                continue
            if answer.is_success:
                return ""
            trouble = f"HTTP {answer.status_code}"
            if answer.is_client_error:
                return trouble
        return trouble
