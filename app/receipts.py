"""What came back from the handset: verified, read by its provider, applied to its delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.clock import Clock
from app.logs import Log
from app.metrics import Metrics
from app.outbox.base import Outbox
from app.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ReceiptDesk:
    """What the receipt endpoint needs."""

    snapshot: Callable[[], Snapshot]
    outbox: Outbox
    clock: Clock
    metrics: Metrics
    log: Log


async def accept_receipts(
    desk: ReceiptDesk, provider_name: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> int:
    """Return the HTTP status: 404 for a provider the YAML does not have, 401 for a webhook that is not its own.

    Whatever a genuine webhook holds is fine: repeated, early, out of order, of a message that is not ours.
    """
    provider = desk.snapshot().providers.get(provider_name)
    if provider is None:
        return 404
    if not provider.verify_receipt(headers, query, body):
        desk.metrics.receipts.labels(provider_name, "forged").inc()
        return 401
    now = desk.clock()
    for receipt in provider.read_receipts(headers, body):
        matched = await desk.outbox.apply_receipt(provider_name, receipt, now)
        desk.metrics.receipts.labels(provider_name, receipt.status.value).inc()
        desk.log.info(
            "receipt.received",
            provider=provider_name,
            delivery_id=receipt.delivery_id,
            status=receipt.status.value,
            reason=receipt.reason.value if receipt.reason else None,
            matched=matched,
        )
    return 200
