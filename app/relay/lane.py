"""The queue of one provider: claims what is due at the provider's rate, sends it, records what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from app.delivery.decide import Decision, decide
from app.delivery.pace import (
    RECIPIENT_GAP_MS,
    Pace,
    Recovery,
    Turns,
    count_free,
    grant,
    note_attempt,
    ready_at,
    recall_pace,
    settle_grant,
    shift_pace,
    start_pace,
)
from app.errors import StoreBroken, StoreError, is_passing
from app.mapping.provider import ProviderSettings
from app.model.delivery import Attempt, Outcome, Reason, Retryable, Scope, State, Uncertain
from app.model.message import Limits
from app.observe import NoTracer, Span
from app.observe.attempts import (
    note_outcome,
    open_attempt_span,
    report_attempt,
    report_holds,
    report_limits,
    report_outage,
)
from app.outbox.claim import Claim, claim_each
from app.outbox.close import Ending, close_attempts
from app.outbox.holds import free_waiting
from app.outbox.lanes import read_lane, save_lane
from app.outbox.store import Job
from app.outbox.values import Closed, LaneState
from app.providers.base import OpenSender, Provider, Sender, Sent
from app.relay import Context

# What surely did not leave is tried again at once, so many times in all; but a provider that is down is felt for by
# a single request.
TRIES = 3
# An attempt must have ended, one way or the other, before its lease has: the whole of the client's tries
# (and their short waits) and the recording fit with room to spare. A send that begins later than that may have been
# given up as lost already, and somebody may have had it sent again: it does not leave.
LEASE_SPARE_MS = 60_000
# With nothing due a lane looks again this often, whatever it has been told: a lost wake-up costs seconds, not for ever.
LONGEST_NAP_S = 5.0
# Loading what sending needs competes with the event loop: without it /readyz came 12 % later.
HEAD_START_S = 0.05
RECORD_AGAIN_S = 1.0


class Lane:
    """One provider's queue. `wake()` says that something may have become due."""

    def __init__(
        self,
        name: str,
        settings: ProviderSettings,
        provider: Provider,
        context: Context,
        open_sender: OpenSender,
        turns: Turns,
    ) -> None:
        self.name = name
        self.settings = settings
        self._lease_ms = TRIES * settings.timeout_ms + LEASE_SPARE_MS
        self._is_guessed = settings.is_guessed
        self._provider = provider
        self._sender: Sender | None = None
        self._context = context
        self._open_client = open_sender
        self._pace = start_pace(settings.rate_per_s, context.clock())
        self._saved: LaneState | None = None  # what the outbox remembers; None: not asked yet
        self._remembered: Recovery | None = None  # the recovery that it tells
        self._open: set[asyncio.Task[None]] = set()
        self._busy = 0  # of them: not answered yet
        self._signal = asyncio.Event()
        self._stopping = False
        self._turns = turns
        self._limits: Limits | None = None  # those that whoever waits for one was held against; None: nobody knows
        self._read_s = asyncio.get_running_loop().time  # a clock that nobody can set
        self.looked_at = self._read_s()  # to tell whether it is stuck

    @property
    def pace(self) -> Pace:
        """Return how fast it may go now."""
        return self._pace

    def wake(self) -> None:
        """Look at the outbox now."""
        self._signal.set()

    def shift(self, by_ms: int) -> None:
        """The clock was set back: what this lane waits for moves along, and it looks at the outbox now."""
        self._pace = shift_pace(self._pace, by_ms, self._context.clock())
        self.wake()

    async def run(self) -> None:
        """Claim and send until `stop`; raises what a sending task raised, and StoreBroken."""
        await asyncio.sleep(HEAD_START_S)
        self._sender = await self._open_sender()
        if self._sender is None:
            return
        try:
            await self._claim_and_send()
        finally:
            await self._sender.close()

    async def _open_sender(self) -> Sender | None:
        """Return what messages are sent through, however often it takes; None if it is to stop before it has it."""
        while not self._stopping:
            self.looked_at = self._read_s()
            try:
                return await self._open_client(self.settings)
            except (OSError, ImportError, MemoryError, RuntimeError) as error:
                if not is_passing(error):
                    raise
                self._context.log.warning("lane.not_opened", provider=self.name, exc_info=error)
                await asyncio.sleep(RECORD_AGAIN_S)
        return None

    async def _claim_and_send(self) -> None:
        async with asyncio.TaskGroup() as sends:
            while not self._stopping:
                self._signal.clear()
                self.looked_at = self._read_s()
                try:
                    nap_s = await self._look(sends)
                except StoreBroken:
                    raise
                except StoreError as error:
                    self._tell_failed(error)
                    await asyncio.sleep(RECORD_AGAIN_S)  # whoever wakes the lane: the store will not be faster for it
                else:
                    await self._nap(nap_s)
        await self._remember_last()

    async def _look(self, sends: asyncio.TaskGroup) -> float:
        """Claim what may go and send it; return after how many seconds to look again."""
        if self._saved is None:
            self._saved = await self._recall()
        await self._remember(self._saved)
        claimed_at = self._context.clock()
        claimed, next_due = await self._claim()
        send = self._send if isinstance(self._context.tracer, NoTracer) else self._send_traced
        for attempt in claimed:
            task = sends.create_task(send(attempt, claimed_at))
            self._open.add(task)
            self._busy += 1
        return self._seconds_to(next_due)

    def stop(self) -> None:
        """Claim nothing more; what is open goes on, and `run` returns when it has ended."""
        self._stopping = True
        self._signal.set()

    def give_up_open(self) -> None:
        """End the open sends (the grace period is over) and record each as `unknown`."""
        for task in self._open:
            task.cancel()

    def _count_free(self) -> int:
        return count_free(self._pace, self.settings.concurrency - self._busy, self._busy, self._context.clock())

    def _leave_place(self) -> None:
        """Let another request go once one is answered: its claim shares the commit of the outcome, and comes behind."""
        self._busy -= 1
        # There was no place, and now there is one: for anything, or for the one that feels for a provider that is down.
        if self._busy == self.settings.concurrency - 1 or (not self._busy and self._pace.recovery.down):
            self._signal.set()

    async def _recall(self) -> LaneState:
        """Go on where the last process left off, so that a restart is no way around a limit."""
        state = await self._context.outbox.write(partial(read_lane, provider=self.name))
        recovery = Recovery(state.failures, state.probe_at, state.resumed_at, state.down_since)
        now = self._context.clock()
        self._pace = recall_pace(self.settings.rate_per_s, recovery, state.paused_until, state.last_claim_at, now)
        return state

    async def _remember(self, saved: LaneState) -> None:
        """Keep what must outlast the process, if it changed; before the next claim, so that no limit is forgotten."""
        pace, recovery = self._pace, self._pace.recovery
        if recovery is self._remembered and pace.paused_until == saved.paused_until:
            return
        failures = recovery.failures if recovery.down else 0  # a few are everyday noise, and not worth a write
        state = LaneState(
            saved.last_claim_at,
            paused_until=pace.paused_until,
            failures=failures,
            probe_at=recovery.probe_at,
            resumed_at=recovery.resumed_at,
            down_since=recovery.down_since,
        )
        if state != saved:
            await self._context.outbox.write(partial(save_lane, provider=self.name, state=state), essential=True)
            self._saved = state
        self._remembered = recovery

    async def _remember_last(self) -> None:
        """Keep what the last open sends have shown; the end does not wait for a store that cannot."""
        try:
            if self._saved is not None:
                await self._remember(self._saved)
        except StoreBroken:
            raise
        except StoreError as error:
            self._tell_failed(error)

    def _tell_failed(self, error: StoreError) -> None:
        self._context.metrics.store_errors.labels("claim").inc()
        self._context.log.warning("lane.claim_failed", provider=self.name, detail=str(error))

    async def _claim(self) -> tuple[Sequence[Attempt], int | None]:
        """Return the attempts that were opened, and when the next may be due; now if it was not asked for any."""
        now, busy, places = self._context.clock(), self._busy, self.settings.concurrency
        # As many as there are places if one is free: by the time at which it is carried out others may be.
        self._pace, granted = grant(self._pace, places if busy < places else 0, busy, now)
        if granted == 0:
            return (), now
        claim = await self._ask_for(now, granted)
        claimed, holds_set, limited, next_due, _ = await self._context.outbox.write(
            Job(claim_each, claim, is_last=True)
        )
        if holds_set or limited:
            report_limits(self._context.log, self._context.metrics, holds_set, limited)
        if ordinary := [attempt.delivery.route for attempt in claimed if not attempt.probes]:
            self._turns.served = ordinary[-1]
        self._pace = settle_grant(self._pace, granted, len(claimed), self._context.clock())
        return claimed, next_due

    async def _ask_for(self, now: int, granted: int) -> Claim:
        """Return what to claim; whoever waits for a limit is held against the limits of now."""
        if self._limits is not self._context.snapshot.config.limits:
            await self._context.outbox.write(partial(free_waiting, provider=self.name))
            self._limits = self._context.snapshot.config.limits
        asked = (self.name, now, granted, self._lease_ms, RECIPIENT_GAP_MS, self._turns.served, self._limits)
        return Claim(*asked, count_free=self._count_free)

    def _seconds_to(self, due_at: int | None) -> float:
        """Return how long nothing can be claimed: until a place, a token, the end of a pause, a probe or a due time."""
        now = self._context.clock()
        if due_at is None or self._busy >= (1 if self._pace.recovery.down else self.settings.concurrency):
            return LONGEST_NAP_S
        return min(max(due_at - now, ready_at(self._pace, now) - now, 1) / 1000, LONGEST_NAP_S)

    async def _nap(self, seconds: float) -> None:
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._signal.wait()

    async def _send_traced(self, attempt: Attempt, claimed_at: int) -> None:
        with open_attempt_span(self._context.tracer, attempt.delivery, attempt.number) as span:
            await self._send(attempt, claimed_at, span)

    async def _send(self, attempt: Attempt, claimed_at: int, span: Span | None = None) -> None:
        """Carry one attempt to its outcome and record it."""
        started_s, recipient, stopped = self._read_s(), attempt.delivery.recipient, None
        if wait_s := self._turns.take(recipient, self._context.clock()):
            stopped = await self._wait_for_turn(recipient, wait_s)
        asked = stopped or self._ask(attempt, claimed_at)
        try:
            sent = Sent(asked, 0) if isinstance(asked, Retryable) else await asked
        except asyncio.CancelledError:
            sent = Sent(Uncertain(Reason.PROCESS_DIED, "given up at shutdown"), 1)
        if sent.keys and self._is_guessed:
            self._context.log.info("answer.shape", provider=self.name, status=sent.http_status, keys=list(sent.keys))
        outcome, tries = sent.outcome, sent.tries
        took_ms = int((self._read_s() - started_s) * 1000)
        now = self._context.clock()
        decision = self._decide(attempt, outcome, now)
        if span is not None:
            note_outcome(span, outcome, decision.state)
        self._note(outcome, decision, now)
        self._leave_place()
        ending = Ending(attempt, outcome, decision, tries)
        try:
            closed = await self._context.outbox.write(Job(close_attempts, ending), essential=True)
        except StoreError as error:
            closed, decision = await self._record_again(ending, error)
        self._context.flights.land(attempt.delivery.id, attempt.number)
        if decision.state is State.PENDING or closed.holds_released:
            self._signal.set()  # the next attempt may come before the lane means to look
        report_holds(self._context.log, closed.holds_set, closed.holds_released)
        log, metrics = self._context.log, self._context.metrics
        self._context.reports.add(report_attempt, log, metrics, attempt, outcome, decision, now, tries, took_ms)
        self._open.discard(cast("asyncio.Task[None]", asyncio.current_task()))  # a callback takes a turn of the loop

    def _decide(self, attempt: Attempt, outcome: Outcome, now: int) -> Decision:
        delivery = attempt.delivery
        return decide(
            outcome,
            attempt_number=attempt.spent + 1,
            now=now,
            deadline_at=delivery.deadline_at,
            on_unknown=delivery.on_unknown,
            provider=delivery.provider,
            template=delivery.template,
            random=self._context.random,
            settle_ms=self._context.settings.settle_after,
            probes=attempt.probes,
        )

    def _note(self, outcome: Outcome, decision: Decision, now: int) -> None:
        """Let the lane's pace follow what an attempt has shown of its provider."""
        before, after = self._pace, note_attempt(self._pace, outcome, decision.lane_pause_until, now)
        if after is not before:
            self._pace = after
            report_outage(self._context.log, self.name, before.recovery, after.recovery, outcome)
            self._signal.set()  # the loop keeps it

    async def _wait_for_turn(self, recipient: str, wait_s: float) -> Retryable | None:
        """Wait behind the message before to the same person; return why this one does not go if it was stopped."""
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            return Retryable(Reason.RATE_LIMITED, Scope.RECIPIENT, detail="stopped before it was sent")
        self._turns.leave(recipient, self._context.clock())
        return None

    def _ask(self, attempt: Attempt, claimed_at: int) -> Awaitable[Sent] | Retryable:
        """Ask the provider to send the message; return what brings its answer, or why it is not asked."""
        delivery, now = attempt.delivery, self._context.clock()
        left_ms = delivery.deadline_at - now
        if left_ms <= 0 or delivery.message is None or self._sender is None:
            # The third look at the deadline (planning and claim were before): a stalled process must not send late.
            return Retryable(Reason.DEADLINE_PASSED)
        if now - claimed_at >= LEASE_SPARE_MS:
            return Retryable(Reason.STALLED)
        tries = 1 if self._pace.recovery.down else TRIES
        leave = partial(self._context.flights.take_off, delivery.id, attempt.number)
        return self._sender.send(
            self._provider, delivery.message, delivery.id, write_within_ms=left_ms, tries=tries, on_leaving=leave
        )

    async def _record_again(self, ending: Ending, error: StoreError) -> tuple[Closed, Decision]:
        """Commit an outcome, again and again while the store cannot; return what was decided in the end, too."""
        attempt, outcome = ending.attempt, ending.outcome
        while True:
            if isinstance(error, StoreBroken):
                raise error
            self._context.metrics.store_errors.labels("record").inc()
            self._context.log.error("attempt.not_recorded", delivery_id=attempt.delivery.id, detail=str(error))
            await asyncio.sleep(RECORD_AGAIN_S)
            decision = self._decide(attempt, outcome, self._context.clock())  # it may have been set back
            try:
                job = Job(close_attempts, Ending(attempt, outcome, decision, ending.tries))
                return await self._context.outbox.write(job, essential=True), decision
            except StoreError as again:
                error = again
