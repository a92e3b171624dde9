"""The queue of one provider: claims what is due at the provider's rate, sends it, records what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from app.clock import Clock
from app.core.config import ProviderSettings
from app.core.deciding import Decision, decide
from app.core.models import Accepted, Attempt, Message, Outcome, Reason, Rejected, Retryable, State, Uncertain
from app.core.phone import mask_phone
from app.core.rates import Bucket, next_token_at, take
from app.core.recovery import Recovery, allowed_rate, note_outcome
from app.errors import StoreBroken, StoreError
from app.logs import Log
from app.metrics import Metrics
from app.outbox.base import Outbox
from app.providers.base import Provider

if TYPE_CHECKING:
    from app.providers.client import ProviderClient, Sent

# An attempt must have ended, one way or the other, before its lease has: the whole of the client's tries
# (three, and their short waits) and the recording fit with room to spare.
LEASE_TRIES = 3
LEASE_SPARE_MS = 60_000
# With nothing due a lane looks again this often, whatever it has been told: a lost wake-up costs seconds, not for ever.
LONGEST_NAP_S = 5.0
# Loading what sending needs competes with the event loop for the interpreter: whoever already waits at the port when
# the relay starts is answered first.
HEAD_START_S = 0.05
RECORD_AGAIN_S = 1.0
# What a lane may catch up at once after it looked away for a moment; at 16/s that is less than one message.
BURST_S = 0.05


class Sender(Protocol):
    """What a lane sends through: providers/client.py, or a simulation of it."""

    async def send(self, provider: Provider, message: Message, delivery_id: str, *, write_within_ms: int) -> Sent:
        """Return what the provider made of the message; never raises but CancelledError."""

    async def close(self) -> None:
        """Release its connections."""


OpenSender = Callable[[ProviderSettings], Awaitable[Sender]]


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What every lane shares."""

    outbox: Outbox
    clock: Clock
    random: Callable[[], float]
    metrics: Metrics
    log: Log
    settle_ms: int
    open_sender: OpenSender


class Lane:
    """One provider's queue. `wake()` says that something may have become due."""

    def __init__(self, name: str, settings: ProviderSettings, provider: Provider, parts: LaneParts) -> None:
        self.name = name
        self.settings = settings
        self._provider = provider
        self._sender: Sender | None = None
        self._parts = parts
        burst = max(settings.rate_per_s * BURST_S, 1)
        self._bucket = Bucket(settings.rate_per_s, burst, tokens=1, updated_at=parts.clock())
        self._recovery = Recovery()
        self._paused_until = 0
        self._open: set[asyncio.Task[None]] = set()
        self._signal = asyncio.Event()
        self._stopping = False
        self.looked_at = parts.clock()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._signal.set()

    async def run(self) -> None:
        """Claim and send until `stop`; raises what a sending task raised, and StoreBroken."""
        await asyncio.sleep(HEAD_START_S)
        self._sender = await self._parts.open_sender(self.settings)
        try:
            await self._claim_and_send()
        finally:
            await self._sender.close()

    async def _claim_and_send(self) -> None:
        async with asyncio.TaskGroup() as sends:
            while not self._stopping:
                self._signal.clear()
                self.looked_at = self._parts.clock()
                try:
                    claimed, more = await self._claim()
                except StoreBroken:
                    raise
                except StoreError as error:
                    self._parts.log.warning("lane.claim_failed", provider=self.name, detail=str(error))
                    await self._nap(RECORD_AGAIN_S)
                    continue
                for attempt in claimed:
                    task = sends.create_task(self._send(attempt))
                    self._open.add(task)
                    task.add_done_callback(self._close)
                if not more:
                    await self._nap(await self._seconds_to_next())

    def stop(self) -> None:
        """Claim nothing more; what is open goes on, and `run` returns when it has ended."""
        self._stopping = True
        self._signal.set()

    def give_up_open(self) -> None:
        """End the open sends (the grace period is over) and record each as `unknown`."""
        for task in self._open:
            task.cancel()

    def _close(self, task: asyncio.Task[None]) -> None:
        if len(self._open) >= self.settings.concurrency:
            self._signal.set()  # there was no place, now there is one
        self._open.discard(task)

    async def _claim(self) -> tuple[list[Attempt], bool]:
        """Return the attempts that were opened, and whether more may be due."""
        now = self._parts.clock()
        free = self.settings.concurrency - len(self._open)
        if free <= 0 or now < self._paused_until:
            return [], False
        rate = allowed_rate(self._recovery, self.settings.rate_per_s, now)
        bucket, granted = take(self._bucket.at_rate(rate, now), now, free)
        if granted == 0:
            self._bucket = bucket
            return [], False
        lease_ms = LEASE_TRIES * self.settings.timeout_ms + LEASE_SPARE_MS
        claimed = list(await self._parts.outbox.claim_due(self.name, now, granted, lease_ms))
        self._bucket = bucket.give_back(granted - len(claimed))
        return claimed, len(claimed) == granted

    async def _seconds_to_next(self) -> float:
        """Return how long nothing can be claimed: until a place, a token, the end of a pause or a due time."""
        now = self._parts.clock()
        if len(self._open) >= self.settings.concurrency:
            return LONGEST_NAP_S
        due_at = await self._parts.outbox.next_due_at(self.name)
        if due_at is None:
            return LONGEST_NAP_S
        ready_at = max(due_at, self._paused_until, next_token_at(self._bucket, now))
        return min(max(ready_at - now, 1) / 1000, LONGEST_NAP_S)

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            pass

    async def _send(self, attempt: Attempt) -> None:
        """Carry one attempt to its outcome and record it."""
        delivery, parts = attempt.delivery, self._parts
        started_at = parts.clock()
        outcome, tries = await self._ask(attempt, delivery.deadline_at - started_at)
        now = parts.clock()
        self._recovery = note_outcome(self._recovery, outcome, now)
        decision = decide(
            outcome,
            attempt_number=attempt.spent + 1,
            now=now,
            deadline_at=delivery.deadline_at,
            on_unknown=delivery.on_unknown,
            provider=delivery.provider,
            template=delivery.template,
            random=parts.random,
            settle_ms=parts.settle_ms,
        )
        if decision.lane_pause_until is not None:
            self._paused_until = max(self._paused_until, decision.lane_pause_until)
        parts.metrics.send_seconds.labels(self.name).observe(max(now - started_at, 0) / 1000)
        await self._record(attempt, outcome, decision, now, tries)

    async def _ask(self, attempt: Attempt, left_ms: int) -> tuple[Outcome, int]:
        """Return what the provider made of the message, and the requests it took."""
        message = attempt.delivery.message
        if left_ms <= 0 or message is None or self._sender is None:
            # The third look at the deadline (planning and claim were before): a stalled process must not send late.
            return Retryable(Reason.DEADLINE_PASSED), 0
        try:
            sent = await self._sender.send(self._provider, message, attempt.delivery.id, write_within_ms=left_ms)
        except asyncio.CancelledError:
            return Uncertain(Reason.PROCESS_DIED, "given up at shutdown"), 1
        return sent.outcome, sent.tries

    async def _record(self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int, tries: int) -> None:
        """Commit the outcome, again and again while the store cannot: it must not be lost to a full disk."""
        while True:
            try:
                closed = await self._parts.outbox.close_attempt(attempt, outcome, decision, now, tries)
                for scope in attempt.probes if decision.state is State.ACCEPTED else ():
                    await self._parts.outbox.release_hold(scope, now)
                    self._parts.log.warning("hold.released", scope=scope, by="probe")
                    self._signal.set()
                break
            except StoreBroken:
                raise
            except StoreError as error:
                self._parts.log.error("attempt.not_recorded", delivery_id=attempt.delivery.id, detail=str(error))
                await asyncio.sleep(RECORD_AGAIN_S)
        if decision.state is State.PENDING:
            self._signal.set()  # its next attempt may come before the lane means to look
        if closed.hold_set is not None:  # once a hold, not once a delivery that meets it
            self._parts.log.error("hold.set", scope=closed.hold_set, reason=decision.reason and decision.reason.value)
        self._report(attempt, outcome, decision, now, tries)

    def _report(self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int, tries: int) -> None:
        delivery, metrics = attempt.delivery, self._parts.metrics
        word, reason, detail = describe_outcome(outcome)
        metrics.attempts.labels(self.name, word, reason).inc()
        metrics.deliveries.labels(delivery.route, self.name, decision.state.value).inc()
        if decision.state is State.ACCEPTED:
            metrics.event_to_accepted_seconds.observe(max(now - delivery.created_at, 0) / 1000)
        if decision.state is State.UNKNOWN:
            metrics.ambiguous.labels(self.name).inc()
        self._parts.log.info(
            "delivery.attempted",
            delivery_id=delivery.id,
            event_id=delivery.event_id,
            route=delivery.route,
            provider=self.name,
            recipient=mask_phone(delivery.recipient),
            attempt=attempt.number,
            tries=tries,
            outcome=word,
            reason=reason or None,
            detail=detail or None,
            state=decision.state.value,
            due_at=decision.due_at,
        )


async def open_client(settings: ProviderSettings) -> ProviderClient:
    """Return a client for an account; what it needs is loaded on a thread of its own."""
    return await asyncio.to_thread(_load_client, settings)


def _load_client(settings: ProviderSettings) -> ProviderClient:
    # Sending needs more code than taking an event does, and the system's certificate authorities: a fifth of the
    # time to start. Loaded here, it no longer keeps the first event waiting.
    from app.providers.client import ProviderClient, open_trust  # noqa: PLC0415

    trust = open_trust(settings.address)
    return ProviderClient(timeout_ms=settings.timeout_ms, concurrency=settings.concurrency, trust=trust)


def describe_outcome(outcome: Outcome) -> tuple[str, str, str]:
    """Return (word, reason, detail) of an outcome for logs and metrics."""
    match outcome:
        case Accepted():
            return "accepted", "", ""
        case Retryable(reason=reason, detail=detail):
            return "retryable", reason.value, detail
        case Rejected(reason=reason, detail=detail):
            return "rejected", reason.value, detail
        case Uncertain(reason=reason, detail=detail):
            return "uncertain", reason.value, detail
