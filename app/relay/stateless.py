"""The stateless mode: no outbox, so the source is answered only once the provider has the message.

`RELAY_DATABASE_URL=none`. What cannot be sent inside 8 s is said to Nector (502, 503), which tries again.
What this process already sent it does not send twice, but a restart forgets: the promise of the README
needs the outbox.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, Reason, Rejected, Scope, State, Uncertain
from app.model.event import Event
from app.observe.attempts import note_outcome, open_attempt_span, report_attempt
from app.outbox.values import DeliveryState
from app.providers.base import OpenSender, Sender
from app.relay import Relay, Shared
from app.relay.intake import Answer

# Nector gives up after 10 s: answer before that, or it retries what may have been sent.
LONGEST_S = 8.0
TRIES = 3  # of what surely did not leave
REMEMBERED = 10_000
_STATUSES = {State.ACCEPTED: 200, State.DEAD: 200, State.UNKNOWN: 502, State.PENDING: 503}

SendKey = tuple[str, str]
"""(the source's delivery id, or ours where it sent none; route)"""


class StatelessRelay(Relay):
    """The relay that sends an event's deliveries at once, and answers with what the providers said."""

    def __init__(
        self,
        shared: Shared,
        open_sender: OpenSender,
        watch: Callable[[], Coroutine[Any, Any, None]],
        on_dead: Callable[[BaseException], None],
    ) -> None:
        super().__init__(shared, watch, on_dead)
        self._open_sender = open_sender
        self._clients: dict[str, asyncio.Future[Sender]] = {}
        self._sends: OrderedDict[SendKey, asyncio.Task[Outcome]] = OrderedDict()

    async def take(self, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        """Return 200 once every message is accepted (or can never be), else 502 or 503."""
        if not deliveries:
            return Answer(202, event.id, "unrouted", ())
        pairs = await asyncio.gather(*(self._settle(event, delivery) for delivery in deliveries))
        rows = []
        for delivery, (state, _) in zip(deliveries, pairs, strict=True):
            self.shared.metrics.count_reached(delivery.route, delivery.provider, state)
            rows.append(DeliveryState(delivery.id, delivery.route, delivery.provider, state))
        status = max(http_status for _, http_status in pairs)
        return Answer(status, event.id, "accepted" if status == 200 else "failed", tuple(rows))  # noqa: PLR2004  # the status itself is the clearest name

    async def stop(self, grace_s: float) -> None:
        """Let the open sends end, then close the connections."""
        del grace_s  # a send takes 8 s at most
        await asyncio.gather(*self._sends.values(), return_exceptions=True)
        for client in self._clients.values():
            await (await client).close()

    async def _settle(self, event: Event, delivery: Delivery) -> tuple[State, int]:
        """Return the delivery's state and the HTTP status it asks for."""
        if delivery.state is not State.PENDING:
            return delivery.state, 200
        key = (event.delivery_id or event.id, delivery.route)
        task = self._sends.get(key)
        repeated = task is not None
        if task is None:
            task = self._sends[key] = asyncio.create_task(self._send(delivery))
            while len(self._sends) > REMEMBERED and next(iter(self._sends.values())).done():
                self._sends.popitem(last=False)
        # Shielded: a source that hangs up must not turn a send into an unknown one.
        state = _name_state(await asyncio.shield(task))
        if state is State.UNKNOWN and delivery.on_unknown == "hold" and repeated:
            return state, 200  # the route forbids a second send: tell the source to stop asking
        if state is State.PENDING or (state is State.UNKNOWN and delivery.on_unknown == "resend"):
            self._sends.pop(key, None)
        return state, _STATUSES[state]

    async def _send(self, delivery: Delivery) -> Outcome:
        with open_attempt_span(self.shared.tracer, delivery, 1) as span:
            outcome = await self._ask(delivery)
            note_outcome(span, outcome)
        return outcome

    async def _ask(self, delivery: Delivery) -> Outcome:
        outcome: Outcome
        if delivery.message is None:
            return Rejected(Reason.MESSAGE_DAMAGED)
        tries = 0
        started_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LONGEST_S):
                provider = self.shared.snapshot.providers[delivery.provider]
                client = await asyncio.shield(self._open_client(delivery.provider))
                sent = await client.send(
                    provider, delivery.message, delivery.id, write_within_ms=round(LONGEST_S * 1000), tries=TRIES
                )
                outcome, tries = sent.outcome, sent.tries
        except TimeoutError:
            outcome = Uncertain(Reason.TIMED_OUT, "no answer within 8 s")
        shared, now = self.shared, self.shared.clock()
        took_ms = round((asyncio.get_running_loop().time() - started_at) * 1000)
        ended = Decision(_name_state(outcome))
        report_attempt(shared.log, shared.metrics, Attempt(delivery, 1, now), outcome, ended, now, tries, took_ms)
        return outcome

    def _open_client(self, name: str) -> asyncio.Future[Sender]:
        if name not in self._clients:
            settings = self.shared.snapshot.config.providers[name]
            self._clients[name] = asyncio.ensure_future(self._open_sender(settings))
        return self._clients[name]


def _name_state(outcome: Outcome) -> State:
    match outcome:
        case Accepted():
            return State.ACCEPTED
        case Rejected(scope=Scope.MESSAGE | Scope.RECIPIENT):
            return State.DEAD
        case Uncertain():
            return State.UNKNOWN
        case _:
            return State.PENDING
