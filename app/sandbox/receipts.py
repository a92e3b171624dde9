"""Posts receipts to the relay, as the vendors do: sent, delivered, read, each a moment after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

import httpx2

from app.clock import Clock
from app.model.receipt import ReceiptStatus
from app.providers.client import open_trust
from app.sandbox.settings import SandboxSettings
from app.sandbox.vendor import Order, Report, Vendor

# Gallabox makes up to 5 attempts with growing delay; here they are short, as somebody is watching.
# https://docs.gallabox.com/developer-resources/webhook
_RETRY_WAITS_MS = (50, 200, 800, 3200)
_TIMEOUT_S = 5.0


class ReceiptPoster:
    """Tells one relay what became of each message; use as `async with`. Ends with what it has not told untold."""

    def __init__(self, settings: SandboxSettings, clock: Clock, show: Callable[[str], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._show = show
        self._tasks: set[asyncio.Task[None]] = set()
        # No proxy of the environment stands between two programs of one machine.
        trust = open_trust(settings.relay_url or "")
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, verify=trust)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
        for status in self._list_statuses():
            await asyncio.sleep(self._settings.receipt_delay_ms / 1000)
            trouble = await self._post(vendor.provider, vendor.report(order, message_id, status, self._clock()))
            if trouble:
                self._show(f'{vendor.provider}: the relay did not take the receipt "{status.value}": {trouble}')

    def _list_statuses(self) -> Sequence[ReceiptStatus]:
        told = [ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.READ]
        return told if self._settings.read_receipts else told[:2]

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
