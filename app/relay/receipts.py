"""A receipt or reply is verified, read by its provider, and applied to its delivery and its person."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from app.mapping.rules import Config
from app.model.delivery import Reason
from app.model.message import Notice, Receipt, Reply, read_wish
from app.observe.attempts import report_holds
from app.observe.metrics import FORGED, UNREAD
from app.outbox.holds import lift_hold, put_probed
from app.outbox.receipts import Report, apply_reply, apply_reports
from app.outbox.store import Job
from app.outbox.values import ReceiptResult
from app.providers.body import as_items, as_mapping, parse_webhook, read_challenge
from app.relay import Context
from app.values.phone import mask_phone

AT_ONCE = 100  # in one transaction
_PATHS_SHOWN = 40
_NOTICED = frozenset({Reason.TEMPLATE_PAUSED, Reason.TEMPLATE_REFUSED, Reason.ACCOUNT_BLOCKED})


async def accept_receipts(
    context: Context, provider_name: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> int:
    """Return the HTTP status: 404 for a provider the YAML does not have, 401 for a webhook that is not its own.

    Whatever a genuine webhook holds is fine: repeated, early, out of order, of a message that is not ours.
    """
    provider = context.snapshot.providers.get(provider_name)
    if provider is None:
        return 404
    if not provider.read_proof(headers, query).fits(body):
        context.metrics.receipts.inc(provider_name, FORGED)
        return 401
    now = context.clock()
    value = parse_webhook(headers, body)
    told = provider.read_webhook(headers, value)
    for at in range(0, len(told.receipts), AT_ONCE):
        some = told.receipts[at : at + AT_ONCE]
        recorded = await context.outbox.write(Job(apply_reports, Report(provider_name, some)))
        for receipt, noted in zip(some, recorded, strict=True):
            _report_receipt(context, provider_name, receipt, noted, now)
    for at in range(0, len(told.replies), AT_ONCE):  # what waits for the outbox together shares its transaction
        await asyncio.gather(*(_take_reply(context, provider_name, one) for one in told.replies[at : at + AT_ONCE]))
    for notice in told.notices:
        await _take_notice(context, provider_name, notice)
    if not (told.receipts or told.replies or told.notices):  # its shape is shown: its keys, and none of its values
        context.metrics.receipts.inc(provider_name, UNREAD)
        paths = list(islice(list_keys(next(iter(as_items(value)), value)), _PATHS_SHOWN))
        context.log.info("receipt.unread", provider=provider_name, paths=paths)
    return 200


def answer_challenge(context: Context, provider_name: str, query: Mapping[str, str]) -> str | None:
    """Return what whoever sets up a webhook wants to hear back, None where it has not shown the `verify_token`."""
    settings = context.snapshot.config.providers.get(provider_name)
    return read_challenge(settings.verify_token.get_secret_value(), query) if settings else None


def _report_receipt(context: Context, provider_name: str, receipt: Receipt, noted: ReceiptResult, now: int) -> None:
    status, reason = receipt.status.value, receipt.reason
    context.metrics.receipts.inc(provider_name, status)
    if noted.holds_set:
        report_holds(context.log, noted.holds_set)
    context.log.info(
        "receipt.received",
        provider=provider_name,
        delivery_id=noted.delivery_id,
        event_id=noted.event_id,
        route=noted.route,
        recipient=mask_phone(noted.recipient or "") or None,
        status=status,
        reason=reason.value if reason else None,
        matched=noted.delivery_id is not None,
        age_ms=None if noted.created_at is None else max(now - noted.created_at, 0),
    )


async def _take_reply(context: Context, provider_name: str, reply: Reply) -> None:
    """Do what a customer asks for; neither their words nor their number are shown."""
    store = context.snapshot.config.store
    said = (reply.text, reply.payload)
    wish = reply.wish or read_wish(said, store.stop_words, start_lifts=store.start_lifts)
    heard = await context.outbox.write(partial(apply_reply, provider=provider_name, reply=reply, wish=wish))
    kind = wish or ("clicked" if heard.clicked else "other")
    context.metrics.replies.inc(provider_name, kind)
    context.log.info(
        "reply.received",
        provider=provider_name,
        delivery_id=heard.delivery_id,
        event_id=heard.event_id,
        route=heard.route,
        kind=kind,
        changed=heard.changed,
    )


async def _take_notice(context: Context, provider_name: str, notice: Notice) -> None:
    """Hold what WhatsApp says cannot be sent, or let it go, unless a person holds it. A pace passes by itself."""
    scopes = sorted(set(list_scopes(context.snapshot.config, provider_name, notice)))
    for scope in scopes:
        if notice.reason is None:
            if await context.outbox.write(partial(lift_hold, scope=scope, reasons=_NOTICED)):
                context.log.warning("hold.released", scope=scope, by="whatsapp")
        elif not notice.passing:
            hold_set = await context.outbox.write(partial(put_probed, scope=scope, reason=notice.reason))
            report_holds(context.log, [hold_set] if hold_set else ())
    reason = notice.reason.value if notice.reason else None
    context.log.info("notice.received", provider=provider_name, reason=reason, scopes=scopes)


def list_scopes(config: Config, provider_name: str, notice: Notice) -> Iterator[str]:
    """Yield what a notice is about: the account, or its template if a route sends it in that language."""
    if not notice.template:
        yield f"provider:{provider_name}"
    for route in config.routes:
        # "en-US" in webhooks, "en_US" in requests.
        written = route.language if isinstance(route.language, str) else None  # an expression may come to any
        languages = {name.replace("-", "_").lower() for name in (written, notice.language) if name}
        if (route.provider, route.template) == (provider_name, notice.template) and len(languages) <= 1:
            yield f"template:{provider_name}/{notice.template}"


def list_keys(value: Any, prefix: str = "", levels: int = 3) -> Iterator[str]:
    """Yield the paths of keys, into the first item of lists. WhatsApp's `field` is told with its word."""
    for key, item in as_mapping(value).items():
        # A key that is no word may itself be a value, such as a number.
        if any(sign.isdigit() for sign in key):
            continue
        is_word = key == "field" and isinstance(item, str) and re.fullmatch(r"[a-z_]{1,60}", item)
        yield f"{prefix}{key}={item}" if is_word else f"{prefix}{key}"
        if levels > 1:
            inner, mark = (item[0], "[]") if isinstance(item, list) and item else (item, "")
            yield from list_keys(inner, f"{prefix}{key}{mark}.", levels - 1)
