"""What came back from the handset: verified, read by its provider, applied to its delivery and its person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from app.clock import Clock
from app.model.receipt import Receipt, Reply
from app.observe.attempts import report_holds
from app.observe.logs import Log
from app.observe.metrics import FORGED, UNREAD, Metrics
from app.outbox.store import Outbox
from app.providers.json import as_items, parse_json
from app.relay.snapshot import Snapshot
from app.values.path import list_paths
from app.values.phone import mask_phone
from app.values.stop_words import read_wish

_PATHS_SHOWN = 40


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
        desk.metrics.receipts.labels(provider_name, FORGED).inc()
        return 401
    now = desk.clock()
    receipts, replies = provider.read_receipts(headers, body), provider.read_replies(headers, body)
    for receipt in receipts:
        await _take_receipt(desk, provider_name, receipt, now)
    for reply in replies:
        await _take_reply(desk, provider_name, reply, now)
    if not (receipts or replies):
        _report_unread(desk, provider_name, body)
    return 200


async def _take_receipt(desk: ReceiptDesk, provider_name: str, receipt: Receipt, now: int) -> None:
    noted = await desk.outbox.apply_receipt(provider_name, receipt, now)
    desk.metrics.receipts.labels(provider_name, receipt.status.value).inc()
    report_holds(desk.log, noted.holds_set)
    desk.log.info(
        "receipt.received",
        provider=provider_name,
        delivery_id=noted.delivery_id,
        event_id=noted.event_id,
        route=noted.route,
        recipient=mask_phone(noted.recipient or "") or None,
        status=receipt.status.value,
        reason=receipt.reason.value if receipt.reason else None,
        matched=noted.matched,
        age_ms=None if noted.created_at is None else max(now - noted.created_at, 0),
    )


async def _take_reply(desk: ReceiptDesk, provider_name: str, reply: Reply, now: int) -> None:
    """Do what a customer asks for; neither their words nor their number are shown."""
    store = desk.snapshot().config.store
    wish = read_wish(reply, store.stop_words, start_lifts=store.start_lifts)
    heard = await desk.outbox.apply_reply(provider_name, reply, wish, now)
    kind = wish or ("clicked" if heard.clicked else "other")
    desk.metrics.replies.labels(provider_name, kind).inc()
    desk.log.info(
        "reply.received",
        provider=provider_name,
        delivery_id=heard.delivery_id,
        event_id=heard.event_id,
        route=heard.route,
        kind=kind,
        changed=heard.changed,
    )


def _report_unread(desk: ReceiptDesk, provider_name: str, body: bytes) -> None:
    """Show the shape of a genuine webhook of which nothing could be read: its keys, and none of its values."""
    desk.metrics.receipts.labels(provider_name, UNREAD).inc()
    value = parse_json(body)
    first = next(iter(as_items(value)), value)
    # A key that is no word may itself be a value, such as a number.
    paths = [path for path in islice(list_paths(first), _PATHS_SHOWN) if not any(sign.isdigit() for sign in path)]
    desk.log.info("receipt.unread", provider=provider_name, paths=paths)
