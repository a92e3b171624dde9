"""Relays in which one part dies, is stuck, or meets a message that it cannot bear: what supervision is there for.

Run as `python dying_relay.py FAULT[+FAULT…] serve …`. A message is unbearable if its last variable is POISON.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from app import relay
from app.delivery import transitions
from app.delivery.decide import Decision
from app.errors import StoreBroken, StoreError
from app.model.message import Message
from app.outbox import close as closing
from app.outbox import sweep as sweeping
from app.outbox.claim import Claim, claim_each
from app.outbox.sqlite.store import SqliteStore
from app.outbox.store import Tx
from app.outbox.values import Claimed, Closed
from app.providers.base import Sent
from app.providers.client import ProviderClient
from app.relay import Relay, lane
from app.relay import dispatcher as dispatch
from app.relay import reload as rules

POISON = "13"
SECRET_TEXT = "+919800000013"  # an exception's text may hold a customer's number: no log may show it


def put(owner: Any, **parts: Any) -> None:
    """Replace functions and methods of a module or a class."""
    for name, part in parts.items():
        setattr(owner, name, part)


def claim_raises() -> None:
    def claim_each(_tx: Tx, claims: Sequence[Claim]) -> Sequence[Claimed]:
        del claims
        raise LookupError(SECRET_TEXT)

    put(lane, claim_each=claim_each)


def store_breaks() -> None:
    def claim_each(_tx: Tx, claims: Sequence[Claim]) -> Sequence[Claimed]:
        del claims
        raise StoreBroken("the disk under the outbox fails")

    put(lane, claim_each=claim_each)


def sweep_raises() -> None:
    def tidy(*_given: Any, **_named: Any) -> tuple[int, tuple[str, ...]]:
        raise LookupError(SECRET_TEXT)

    put(sweeping, tidy=tidy)


def watch_raises() -> None:
    rules.LOOK_EVERY_S = 0.1
    stamp, looks = rules.Rules._stamp, itertools.count()

    def stamp_once(self: rules.Rules) -> list[tuple[int, int, int] | None]:
        if next(looks):
            raise LookupError(SECRET_TEXT)
        return stamp(self)

    put(rules.Rules, _stamp=stamp_once)


def unwatched() -> None:
    """The known-bad control: nobody asks how a task ended."""
    for module in (dispatch, relay):
        put(module, report_death=lambda _task, **_parts: None)


def short_limits() -> None:
    """No fault: what takes a minute takes two seconds, and what takes seconds a fraction of one."""
    lane.LONGEST_NAP_S = dispatch.SWEEP_EVERY_S = 0.2
    put(lane, RECIPIENT_GAP_MS=100)
    dispatch.STUCK_S = 2.0


def slow_start() -> None:
    """No fault: an outbox that takes a while to open."""
    begin = Relay.open

    async def begin_later(self: Relay) -> None:
        await asyncio.sleep(1.5)
        await begin(self)

    put(Relay, open=begin_later)


def deaf_start() -> None:
    """The known-bad control: nobody listens to signals yet."""
    begin = Relay.open

    async def begin_deaf(self: Relay) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        await begin(self)

    put(Relay, open=begin_deaf)


def claim_blocks() -> None:
    write = SqliteStore.write

    async def write_but_no_claim(self: SqliteStore, job: Any, **how: Any) -> Any:
        if getattr(job, "many", job) is claim_each:
            await asyncio.Event().wait()
        return await write(self, job, **how)

    put(SqliteStore, write=write_but_no_claim)


def replace_send(meet: Callable[[], None]) -> None:
    send = ProviderClient.send

    async def send_or_die(self: ProviderClient, provider: Any, message: Message, *given: Any, **named: Any) -> Sent:
        if message.variables[-1].value == POISON:
            named["on_leaving"]()  # as it leaves: what surely never left may be sent again
            meet()
        return await send(self, provider, message, *given, **named)

    put(ProviderClient, send=send_or_die)


def send_dies() -> None:
    replace_send(lambda: os._exit(9))


def send_raises() -> None:
    def fail() -> None:
        raise LookupError(SECRET_TEXT)

    replace_send(fail)


def no_limit() -> None:
    """The known-bad control: a delivery may be open in any number of deaths."""
    transitions.DEATHS_LIMIT = 1_000


def record_fails() -> None:
    """The first four tries to write an outcome down fail."""
    lane.RECORD_AGAIN_S = 0.1
    close, tries = closing.close_attempts, itertools.count()

    def close_later(tx: Tx, endings: Sequence[closing.Ending]) -> Sequence[Closed]:
        if next(tries) < 4:
            raise StoreError("the disk does not answer")
        return close(tx, endings)

    put(lane, close_attempts=close_later)


def send_again_unrecorded() -> None:
    """The known-bad control: what could not be recorded goes back into the queue."""

    async def put_back(self: lane.Lane, ending: closing.Ending, _error: StoreError) -> tuple[Closed, Decision]:
        def change(tx: Tx) -> None:
            tx.run("DELETE FROM recipient_turns")
            tx.run("UPDATE deliveries SET state = 'pending' WHERE id = :id", id=ending.attempt.delivery.id)

        await self._context.outbox.write(change)
        self._turns._left.clear()
        self.wake()
        return Closed(recorded=False), ending.decision

    put(lane.Lane, _record_again=put_back)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        claim_raises, store_breaks, sweep_raises, watch_raises, unwatched, short_limits, claim_blocks, send_dies,
        send_raises, slow_start, deaf_start, no_limit, record_fails, send_again_unrecorded,
    )
}  # fmt: skip


if __name__ == "__main__":
    for name in sys.argv.pop(1).split("+"):
        FAULTS[name]()
    from app.__main__ import main

    main()
