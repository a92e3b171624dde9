"""The known-bad controls: relays with one guarantee taken out, to show that the tests would notice.

Run as `python broken_relay.py FAULT serve …`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any

from app.cli.serve import RelayServer
from app.errors import StoreError
from app.model.delivery import Attempt, Delivery, State
from app.model.event import Event
from app.observe import logs
from app.outbox import claim as claiming
from app.outbox import close as closing
from app.outbox import read as reading
from app.outbox.sqlite.store import SqliteOutbox
from app.outbox.values import Closed, DeliveryState
from app.providers import redact as redacting
from app.relay.intake import Answer, OutboxTaker
from app.values import phone


def acknowledge_first() -> None:
    """Answer 202 before the commit, as a background task would."""
    take = OutboxTaker.take
    late: set[asyncio.Task[Answer]] = set()

    async def take_later(self: OutboxTaker, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        async def commit() -> Answer:
            await asyncio.sleep(0.5)
            return await take(self, event, deliveries)

        late.add(asyncio.create_task(commit()))
        rows = tuple(DeliveryState(row.id, row.route, row.provider, State.PENDING) for row in deliveries)
        return Answer(202, event.id, "accepted", rows)

    OutboxTaker.take = take_later  # type: ignore[method-assign]  # the fault itself


def resend_open() -> None:
    """At start, send again whatever was in flight, as a queue with at-least-once delivery does."""

    def recover(db: sqlite3.Connection, now: int, settle_ms: int) -> int:
        del settle_ms
        return db.execute(
            "UPDATE deliveries SET state = 'pending', due_at = ? WHERE state = 'sending'", (now,)
        ).rowcount

    closing.recover_open_attempts = recover


def commit_after_send() -> None:
    """Send first and write the attempt down when it has ended: the request leaves with nothing to show for it."""
    claim_due, close = claiming.claim_due, closing.close_attempt
    begun: set[str] = set()

    def claim_unseen(db: sqlite3.Connection, claim: claiming.Claim) -> Sequence[Attempt]:
        db.execute("SAVEPOINT unseen")
        attempts = claim_due(db, claim)
        db.execute("ROLLBACK TO unseen")
        fresh = [attempt for attempt in attempts if attempt.delivery.id not in begun]
        begun.update(attempt.delivery.id for attempt in fresh)
        return fresh

    def close_late(db: sqlite3.Connection, attempt: Attempt, ending: closing.Ending) -> Closed:
        begun.discard(attempt.delivery.id)
        row = (attempt.number, attempt.delivery.id)
        db.execute("UPDATE deliveries SET state = 'sending', attempts = ? WHERE id = ?", row)
        db.execute("INSERT INTO attempts (delivery_seq, number, started_at) SELECT seq, ?, 0 FROM deliveries "
                   "WHERE id = ?", row)  # fmt: skip
        return close(db, attempt, ending)

    claiming.claim_due = claim_unseen
    closing.close_attempt = close_late


def exit_at_once() -> None:
    """At SIGTERM, end: no drain, and an exit code that says all is well."""

    def obey(self: RelayServer, told: signal.Signals) -> None:
        del self, told
        os._exit(0)

    RelayServer.obey = obey  # type: ignore[method-assign]  # the fault itself


def drop_outcomes() -> None:
    """Try once to record what an attempt came to."""
    close = SqliteOutbox.close_attempt

    async def close_once(self: SqliteOutbox, *given: Any) -> Closed:
        try:
            return await close(self, *given)
        except StoreError:
            return Closed(recorded=False)

    SqliteOutbox.close_attempt = close_once  # type: ignore[method-assign,assignment]  # the fault itself


def show_everything() -> None:
    """Mask and strike out nothing, anywhere."""
    shown: dict[Any, Any] = {
        logs.redact: lambda _logger, _method, line: line,
        phone.mask_phone: lambda number: number,
        reading._mask_value: lambda value: value,
        redacting.redact: lambda text, _secrets: text,
        redacting.strike_values: lambda outcome, _message: outcome,
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("app.")]:
        for name, value in list(vars(module).items()):
            if callable(value) and value.__hash__ is not None and value in shown:
                setattr(module, name, shown[value])


FAULTS: dict[str, Callable[[], None]] = {
    "drop_outcomes": drop_outcomes,
    "acknowledge_first": acknowledge_first,
    "resend_open": resend_open,
    "commit_after_send": commit_after_send,
    "exit_at_once": exit_at_once,
    "show_everything": show_everything,
}


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from app.__main__ import main

    main()
