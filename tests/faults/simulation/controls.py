"""Known-bad relays: each gives up one guarantee, and the simulation must notice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from app.delivery.decide import Decision, decide
from app.errors import StoreError
from app.message import components
from app.model.delivery import Accepted, Delivery, Outcome, Retryable, Uncertain
from app.model.event import Event
from app.model.message import Message
from app.outbox import claim as claiming
from app.outbox import close as closing
from app.outbox.store import Tx
from app.outbox.values import Closed
from app.relay import Context
from app.relay.intake import Answer, store_event
from tests.faults.simulation.store import MemoryOutbox, open_memory
from tests.outbox.methods import name_job

FAR = 2**62
_examine = claiming._examine
_close_attempts = closing.close_attempts
_thaw_message = components.thaw_message


def resend_open(tx: Tx, settle_ms: int) -> int:
    """At the start, send again whatever was open."""
    del settle_ms
    return tx.run("UPDATE deliveries SET state = 'pending', due_at = :now WHERE state = 'sending'", now=tx.now)


def examine_no_deadline(tx: Tx, claim: claiming.Claim, harvest: Any, row: Any, probes: tuple[str, ...]) -> bool:
    """Claim what is past its deadline, and let the lane believe that it has all the time in the world."""
    return _examine(tx, claim, harvest, row._replace(deadline_at=FAR), probes)


def open_without_index() -> Any:
    """Forget which events are known."""
    db = open_memory()
    db.execute("DROP INDEX events_source")
    return db


def close_unfenced(tx: Tx, endings: Sequence[closing.Ending]) -> Sequence[Closed]:
    """Record attempts' ends whether they are the open ones or not."""
    reopen = "UPDATE deliveries SET state = 'sending', attempts = :number WHERE id = :id"
    for ending in endings:
        tx.run(reopen, number=ending.attempt.number, id=ending.attempt.delivery.id)
    return _close_attempts(tx, endings)


def decide_hopefully(outcome: Outcome, **given: Any) -> Decision:
    """Take what may have been sent for not sent."""
    return decide(Retryable(outcome.reason) if isinstance(outcome, Uncertain) else outcome, **given)


def decide_carelessly(outcome: Outcome, **given: Any) -> Decision:
    """Take what may have been sent for sent."""
    return decide(Accepted() if isinstance(outcome, Uncertain) else outcome, **given)


def decide_to_resend(outcome: Outcome, **given: Any) -> Decision:
    """Ask no route whether it wants to send again."""
    return decide(outcome, **{**given, "on_unknown": "resend"})


def thaw_other(data: bytes | None, expected: str | None) -> Message | None:
    """Read another message than the one that was frozen."""
    message = _thaw_message(data, expected)
    return message and replace(message, recipient_name="somebody else")


async def follow_no_clock(_dispatcher: Any) -> None:
    """Let the clock be set back, and what waits stay where it is."""


_late: set[asyncio.Task[None]] = set()


async def store_later(context: Context, note: Any, event: Event, deliveries: Sequence[Delivery]) -> Answer:
    """Answer first and commit afterwards."""

    async def commit() -> None:
        with suppress(StoreError):
            await store_event(context, note, event, deliveries)

    task = asyncio.get_running_loop().create_task(commit())
    _late.add(task)
    task.add_done_callback(_late.discard)
    return Answer(202, event.id, "accepted", ())


class LateOutbox(MemoryOutbox):
    """Hands out attempts that it has not committed."""

    async def write(self, job: Any, *, essential: bool = False) -> Any:
        """Return what would be claimed."""
        if name_job(job) != "claim_each":
            return await super().write(job, essential=essential)
        await asyncio.sleep(0)
        return self.inline.try_out(job)


@contextmanager
def never_expire() -> Iterator[None]:
    """Look at no deadline: not in the sweep, not at the claim, and so not before the request."""
    with (
        patch("app.outbox.claim._examine", examine_no_deadline),
        patch("app.outbox.sweep.expire_overdue", lambda _tx, now: 0 * now),
    ):
        yield


@contextmanager
def unfence() -> Iterator[None]:
    """Let an attempt end that is not the open one."""
    with (
        patch("app.outbox.close.close_attempts", close_unfenced),
        patch("app.relay.lane.close_attempts", close_unfenced),
    ):
        yield


@contextmanager
def keep_no_gap() -> Iterator[None]:
    """Let the next message to a person go at once."""
    with patch("app.relay.lane.RECIPIENT_GAP_MS", 0), patch("app.delivery.pace.RECIPIENT_GAP_MS", 0):
        yield


@contextmanager
def ask_nobody() -> Iterator[None]:
    """Send to whoever has opted out."""
    with (
        patch("app.outbox.add.find_unwanted", lambda *_: ()),
        patch("app.outbox.claim.DUE", claiming.DUE.replace("d.marketing = 1", "0 = 1")),
    ):
        yield


@contextmanager
def believe_the_clock() -> Iterator[None]:
    """Move no wait, while somebody sets the clock all the time."""
    with (
        patch("app.relay.dispatcher.Dispatcher.follow_clock", follow_no_clock),
        patch("tests.faults.simulation.world.TROUBLES", {"step": 1}),
    ):
        yield


CONTROLS: dict[str, tuple[AbstractContextManager[Any], tuple[str, ...]]] = {
    "what was open is sent again": (patch("app.outbox.close.recover_open_attempts", resend_open), ("I4", "double")),
    "no look at the deadline": (never_expire(), ("I6",)),
    "no unique index": (patch("tests.faults.simulation.world.open_memory", open_without_index), ("I2",)),
    "no fencing": (unfence(), ("I5", "I9")),
    "acknowledge first": (patch("tests.faults.simulation.process.store_event", store_later), ("I1", "I2")),
    "commit after the send": (patch("tests.faults.simulation.world.MemoryOutbox", LateOutbox), ("I3",)),
    "uncertain is not sent": (patch("app.relay.lane.decide", decide_hopefully), ("double", "early", "again")),
    "no gap between messages": (keep_no_gap(), ("gap",)),
    "no rate": (patch("app.delivery.pace.take", lambda bucket, _now, wanted: (bucket, wanted)), ("rate",)),
    "uncertain is sent": (patch("app.relay.lane.decide", decide_carelessly), ("lost",)),
    "every route resends": (patch("app.relay.lane.decide", decide_to_resend), ("resent",)),
    "unknown is settled at once": (patch("tests.faults.simulation.process.SETTLE_MS", 0), ("early",)),
    "unknown is never settled": (patch("app.outbox.sweep.resend_unknown", lambda _tx, now: 0 * now), ("stuck",)),
    "the message is another one": (patch("app.outbox.claim.thaw_message", thaw_other), ("I7",)),
    "repeats are new": (patch("app.outbox.add.hash_dedup_key", lambda _: None), ("dedup",)),
    "nothing is counted": (patch("app.outbox.read.count_deliveries", lambda _tx: {}), ("I10",)),
    "the clock is what it is set to": (believe_the_clock(), ("stuck",)),
    "resends without end": (patch("app.delivery.transitions.RESENDS_LIMIT", 10**9), ("again",)),
    "nobody is asked who opted out": (ask_nobody(), ("opted out",)),
    "no limit is asked": (patch("app.outbox.holds.find_room", lambda *_: 0), ("limit",)),
    "holds hold nothing": (patch("app.outbox.claim.list_blocking", lambda *_: ()), ("held",)),
}
"""What is given up, how, and how the broken invariants begin that must be found."""
