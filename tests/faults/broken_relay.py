"""The known-bad controls: relays with one guarantee taken out, to show that the tests would notice.

Run as `python broken_relay.py FAULT serve …`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app import main as wiring
from app.cli.serve import RelayServer
from app.errors import StoreError
from app.model.delivery import Delivery, State
from app.model.event import Event
from app.model.message import NO_LIMITS, Limits
from app.observe import logs
from app.outbox import read as reading
from app.outbox.claim import Claim
from app.outbox.close import Ending
from app.outbox.move import write_unwritten
from app.outbox.sqlite.store import SqliteStore
from app.outbox.store import Flights, Tx
from app.outbox.values import Claimed, Closed, DeliveryState
from app.providers import client, transport, trouble
from app.relay import Context, dispatcher, lane
from app.relay.intake import Answer, store_event
from app.values import phone


def acknowledge_first() -> None:
    """Answer 202 before the commit, as a background task would."""
    late: set[asyncio.Task[Answer]] = set()

    async def store_later(context: Context, note: Any, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        async def commit() -> Answer:
            await asyncio.sleep(0.5)
            return await store_event(context, note, event, deliveries)

        late.add(asyncio.create_task(commit()))
        rows = tuple(DeliveryState(row.id, row.route, row.provider, State.PENDING) for row in deliveries)
        return Answer(202, event.id, "accepted", rows)

    wiring.store_event = store_later  # type: ignore[attr-defined]  # the very name that is called


def resend_open() -> None:
    """At start, send again whatever was in flight, as a queue with at-least-once delivery does."""

    def recover_open_attempts(
        tx: Tx, settle_ms: int, flights: Flights | None = None, limits: Limits = NO_LIMITS
    ) -> int:
        del settle_ms, flights, limits
        return tx.run("UPDATE deliveries SET state = 'pending', due_at = :now WHERE state = 'sending'", now=tx.now)

    dispatcher.recover_open_attempts = recover_open_attempts  # type: ignore[attr-defined]  # the very name that is called


def commit_after_send() -> None:
    """Send first and write the attempt down when it has ended: the request leaves with nothing to show for it."""
    claim_each, close = lane.claim_each, lane.close_attempts  # type: ignore[attr-defined]  # the very name that is called
    begun: set[str] = set()

    def claim_unseen(tx: Tx, claim: Claim) -> Claimed:
        write_unwritten(tx)  # else it would be lost with the claim
        tx.db.execute("SAVEPOINT unseen")  # type: ignore[attr-defined]  # of SQLite
        (claimed,) = claim_each(tx, [claim])
        tx.db.execute("ROLLBACK TO unseen")  # type: ignore[attr-defined]  # of SQLite
        fresh = [attempt for attempt in claimed.attempts if attempt.delivery.id not in begun]
        begun.update(attempt.delivery.id for attempt in fresh)
        return claimed._replace(attempts=fresh)

    def close_late(tx: Tx, endings: Sequence[Ending]) -> Sequence[Closed]:
        for attempt in (ending.attempt for ending in endings):
            begun.discard(attempt.delivery.id)
            row = {"number": attempt.number, "id": attempt.delivery.id}
            tx.run("UPDATE deliveries SET state = 'sending', attempts = :number WHERE id = :id", **row)
            tx.run("INSERT INTO attempts_kept (delivery_seq, number, started_at) "
                   "SELECT seq, :number, 0 FROM deliveries WHERE id = :id", **row)  # fmt: skip
        return close(tx, endings)

    lane.claim_each = lambda tx, claims: [claim_unseen(tx, claim) for claim in claims]  # type: ignore[attr-defined]  # the very name that is called
    lane.close_attempts = close_late  # type: ignore[attr-defined]  # the very name that is called


def exit_at_once() -> None:
    """At SIGTERM, end: no drain, and an exit code that says all is well."""

    def obey(self: RelayServer, told: signal.Signals) -> None:
        del self, told
        os._exit(0)

    RelayServer.obey = obey  # type: ignore[method-assign]  # the fault itself


def drop_outcomes() -> None:
    """Try once to record what an attempt came to."""
    write = SqliteStore.write

    async def write_once(self: SqliteStore, job: Any, **how: Any) -> Any:
        try:
            return await write(self, job, **how)
        except StoreError:
            if getattr(job, "many", None) is not lane.close_attempts:  # type: ignore[attr-defined]  # the very name that is called
                raise
            return Closed(recorded=False)

    SqliteStore.write = write_once  # type: ignore[method-assign]  # the fault itself


def show_everything() -> None:
    """Mask and strike out nothing, anywhere."""
    shown: dict[Any, Any] = {
        logs.redact: lambda line: line,
        phone.mask_phone: lambda number: number,
        reading._mask_value: lambda value: value,
        trouble.redact: lambda text, _secrets: text,
        client.strike_values: lambda outcome, _message: outcome,
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("app.")]:
        for name, value in list(vars(module).items()):
            if callable(value) and value.__hash__ is not None and value in shown:
                setattr(module, name, shown[value])


def judge_at_once() -> None:
    """End a try when its time is over, whatever lies in its socket, as asyncio's own timer does."""
    carry = transport.SocketTransport.handle_async_request

    async def carry_in_time(self: Any, request: Any) -> Any:
        async with asyncio.timeout(request.extensions["timeout"]["read"]):
            return await carry(self, request)

    transport.SocketTransport.handle_async_request = carry_in_time  # type: ignore[method-assign]  # the fault itself


def connect_late() -> None:
    """Take a second for each connection, as a provider far away does: no fault, but much is open that never left."""
    connect = transport.SocketTransport._connect

    async def connect_slowly(self: Any, url: Any, within_s: float | None) -> Any:
        await asyncio.sleep(1)
        return await connect(self, url, within_s)

    transport.SocketTransport._connect = connect_slowly  # type: ignore[method-assign]  # the fault itself


def fly_blind() -> None:
    """Keep no record of what left, where connections are slow."""
    connect_late()

    def open_none(outbox: Path, boot_id: Path | None = None) -> Flights:
        del outbox, boot_id
        return Flights()

    wiring.open_flights = open_none  # type: ignore[attr-defined]  # the very name that is called


FAULTS: dict[str, Callable[[], None]] = {
    "drop_outcomes": drop_outcomes,
    "acknowledge_first": acknowledge_first,
    "resend_open": resend_open,
    "commit_after_send": commit_after_send,
    "exit_at_once": exit_at_once,
    "connect_late": connect_late,
    "fly_blind": fly_blind,
    "show_everything": show_everything,
    "judge_at_once": judge_at_once,
}


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from app.__main__ import main

    main()
