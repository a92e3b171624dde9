"""The seam to the durable store. sqlite.py is one answer; the contract suite (tests/outbox/) defines any.

A method that returns has committed with fsync. A method that raises `StoreError` has not been seen to
commit: its effect may or may not be there after a restart, and every method is safe to call again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from app.delivery.decide import Decision
from app.model.delivery import Attempt, Delivery, Outcome, State
from app.model.event import Event
from app.model.receipt import Receipt, Reply, Wish
from app.outbox.values import (
    Applied,
    Closed,
    DeliveryFilter,
    Enqueued,
    Erased,
    EventFilter,
    EventPage,
    Heard,
    Hold,
    LaneState,
    LedgerQuery,
    LedgerRow,
    Noted,
    Plan,
    Recording,
    StoreTime,
    Suppression,
    SuppressionCounts,
    Swept,
)


class Outbox(Protocol):
    """Durable events, deliveries, attempts, timelines and holds. Instants are ms since the epoch, UTC."""

    async def add_event(self, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
        """Commit the event, its dedup row, its deliveries and their first timeline rows in one transaction.

        A known (source, delivery_id, topic) changes nothing and answers with the first one's. A delivery whose
        (route, recipient, dedup_key) was seen within 30 days is stored `suppressed`, reason `duplicate`.
        """

    async def claim_due(self, provider: str, now: int, limit: int, lease_ms: int) -> Sequence[Attempt]:
        """Open an attempt on up to `limit` due deliveries of a lane and commit it; state becomes `sending`.

        Routes take turns; within a route higher priority, then oldest first. Skips what is held, but for one
        probe where a hold's `probe_at` has come. Puts off a recipient of this provider with an attempt less
        than 6 s ago. What is past its deadline becomes `expired` instead, what is damaged `dead`; since one
        call does not do much of that, it may return nothing while `next_due_at` has come: call again.
        `dedup_key` of the deliveries is None: only its hash is kept.
        """

    async def next_due_at(self, provider: str) -> int | None:
        """Return when the lane's earliest pending, not held delivery (or hold probe) is due; None if there is none."""

    async def close_attempt(
        self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int, tries: int
    ) -> Closed:
        """Record what an attempt came to and what follows; not `recorded` if it is no longer the open one.

        One that was meanwhile given up as lost (`unknown`, its lease ran out) is still recorded if no other followed.
        The fifth message of a route in a row that is refused for the same reason sets a hold on the route. An accepted
        one ends the holds that it probed, but for those that a person has set meanwhile.
        """

    async def recover_open_attempts(self, now: int, settle_ms: int) -> int:
        """At start: make every delivery with an open attempt `unknown` (reason `process_died`). Return how many.

        `on_unknown: resend` makes it due after `settle_ms`, unless that was the third such death: what may kill
        the process waits for a person. One that already has a receipt becomes `accepted`.
        """

    async def read_lane(self, provider: str) -> LaneState:
        """Return what is remembered of a lane; the default if nothing is."""

    async def save_lane(self, provider: str, state: LaneState) -> None:
        """Remember a lane's pause and luck (`last_claim_at` of `state` is ignored)."""

    async def shift_waits(self, total_ms: int) -> None:
        """The wall clock was set: move everything that was counted from "now", so that it lasts as long as before.

        Due times of pending and unknown deliveries, leases, probes, pauses and recipients' gaps. What names an
        instant of the world stays: deadlines, when things happened, dedup keys. `total_ms`: by how much they are
        to have been moved in all since the store was made, see `read_time`; a second such call changes nothing.
        Calls made after this one come after it, calls made before it are moved by it.
        """

    async def read_time(self) -> StoreTime:
        """Return what the store knows of the clock that it was used by."""

    async def sweep(self, now: int, settle_ms: int) -> Swept:
        """Expire what is past its deadline (held ones too) and make `unknown` ones that are due `pending` again.

        Only `on_unknown: resend` makes an unknown delivery due; past its deadline it stays `unknown`. An attempt
        whose lease ran out is treated as by `recover_open_attempts`. Drops early receipts and dedup keys of old.
        """

    async def apply_receipts(self, provider: str, receipts: Sequence[Receipt], now: int) -> Sequence[Noted]:
        """Record receipts in one transaction; one that matches no delivery yet is kept 24 h, for one to appear.

        Never moves a receipt back. Any receipt settles an `unknown` delivery as `accepted`; one that says it
        arrived also a tried one that is `pending`, `dead`, `expired` or `suppressed`. While `sending` the attempt's end
        decides. A failed one that is new sets the hold that its scope asks for, suppresses whom it says has opted out
        and marks whom it says cannot be reached, until a message arrives there.
        """

    async def apply_reply(self, provider: str, reply: Reply, wish: Wish | None, now: int) -> Heard:
        """Do what a customer wished, by the time at which they said it; note the first tap on a delivery's button.

        A tap proves `read`. A reply that comes again, or after a newer wish, changes nothing.
        """

    async def suppress_people(self, numbers: Collection[str], reason: str, now: int) -> int:
        """Send no marketing to these E.164 numbers any more; return how many that is new for.

        From then on `add_event` stores their marketing deliveries as `suppressed`, reason `recipient_opted_out`, and
        `claim_due` makes those that wait so. Only hashes of the numbers are kept.
        """

    async def lift_suppressions(self, numbers: Collection[str]) -> int:
        """Let these numbers have marketing again; return how many were suppressed."""

    async def list_suppressions(self, limit: int, cursor: str | None) -> tuple[Sequence[Suppression], str | None]:
        """Return a page, in the order of the ids, and the next cursor. Raises ValueError for one that is not ours."""

    async def count_suppressions(self) -> SuppressionCounts:
        """Return how many people are suppressed, and how many cannot be reached."""

    async def find_suppressed(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """Return the ids of those that are marketing to somebody who has opted out."""

    async def retry_deliveries(self, ids: Collection[str], now: int, *, careful: bool = False) -> Sequence[str]:
        """Make `dead`, `unknown` or `expired` deliveries with a message `pending`; return the ids that changed.

        `careful`: not those `dead` or `expired` whose provider may have taken the message all the same.
        """

    async def explain_retry(self, ids: Collection[str], now: int) -> Mapping[str, str]:
        """Return, for each of these deliveries that cannot be retried, why.

        `not_found`, `deadline_passed`, `payload_gone`, `replayed` (a later delivery of its event does its work),
        `perhaps_taken`, or the state in which there is nothing to retry.
        """

    async def find_events(self, wanted: EventFilter) -> EventPage:
        """Return a page of stored events, oldest first, each with the deliveries it has."""

    async def find_duplicates(self, deliveries: Sequence[Delivery], now: int) -> Collection[str]:
        """Return the ids of those whose dedup key another event has; a key of nobody known counts as another's."""

    async def save_plan(self, plan: Plan) -> None:
        """Keep a plan for a day."""

    async def read_plan(self, plan_id: str) -> Plan | None:
        """Return a plan; None if there is none (any more)."""

    async def apply_plan(self, plan_id: str, deliveries: Sequence[Delivery], now: int) -> Applied | None:
        """Add a plan's deliveries to their events, all in one transaction, and mark the plan applied.

        Left out: what meanwhile has an obstacle (delivery.replay.find_obstacle), passed its deadline, is another
        event's duplicate, whose recipient has opted out of it, or whose event was wiped. None, and no change, if the
        plan is gone or was applied.
        """

    async def count_reasons(self, state: str) -> Sequence[Mapping[str, Any]]:
        """Return the deliveries of a state grouped: `reason`, `route`, `provider`, `count`, `newest_id`, `newest_at`.

        Largest group first. `state` as in DeliveryFilter.
        """

    async def record_event(self, recording: Recording) -> None:
        """Keep an event with invented values; the 20 newest of a topic stay."""

    async def list_recordings(self, topic: str | None) -> Sequence[Recording]:
        """Return what is kept of a topic, or of all; topic by topic, newest first."""

    async def put_hold(
        self, scope: str, reason: str, now: int, probe_at: int | None = None, *, by_hand: bool = False
    ) -> bool:
        """Set a hold; True if none stood. One that stands keeps its `since`; one set by hand only a person changes."""

    async def release_hold(self, scope: str, now: int) -> bool:
        """End a hold, as a person wishes; False if there was none. A route's refusals are then counted anew."""

    async def lift_hold(self, scope: str, reasons: Collection[str], now: int) -> bool:
        """End a hold that stands for one of these reasons, since WhatsApp says so; False if none does, or by hand."""

    async def list_holds(self) -> Sequence[Hold]:
        """Return every hold, oldest first."""

    async def list_deliveries(self, wanted: DeliveryFilter) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """Return a page of deliveries as DESIGN §3.4 shapes them (recipient masked) and the next cursor.

        Raises ValueError for a cursor that is not one of ours.
        """

    async def read_delivery(self, delivery_id: str) -> Mapping[str, Any] | None:
        """Return one delivery as listed, and more; None if unknown.

        Adds `detail`, `deadline_at`, `provider_message_id`, `on_unknown`, `config_hash`, `config_line` (None: not
        known), `event` {id, source, topic, received_at, delivery_id (the source's)}, `message` {template, language,
        header, variables [{name, value (masked)}], buttons (how many)} or None, and, each oldest first,
        `attempt_list`, `receipts`, `timeline`, `hold_changes` [{scope, change, at, reason, by_hand}] (what stood on
        its scopes when it came, and what changed until its last state), and `siblings` [{id, route, provider,
        template, state, created_at}] (the event's other deliveries: of other routes, and of replays).
        """

    async def count_deliveries(self) -> Mapping[tuple[str, State], int]:
        """Return how many deliveries stand in each (provider, state)."""

    async def count_reached(self) -> Mapping[tuple[str, str, State], int]:
        """Return how often a delivery has come into each (route, provider, state), whoever moved it; not `sending`.

        Counted since the store was made, or since it was put back as a backup.
        """

    async def find_oldest_due(self, provider: str, now: int) -> int | None:
        """Return since when the lane's oldest delivery that could go now is due: pending, not held. None: none is."""

    async def read_last_events(self) -> Mapping[str, int]:
        """Return when each topic among the newest 1,000 events last came; not those of `send-test`."""

    async def read_ledger(self, wanted: LedgerQuery) -> Sequence[LedgerRow]:
        """Count what became of deliveries, and what their customers did after; a row for each key that has any.

        Days in order, else the most received first. Shadows and test messages are left out. An act counts for a
        delivery if it is the same person's (the same number; the source's id where the act's event named no number),
        later than its acceptance and within the window. Takes seconds for a million, and holds nothing up.
        """

    async def wipe_payloads(self, before: int) -> int:
        """Wipe bodies, messages and recipients of deliveries last changed before `before` and in a last state.

        An `unknown` one whose deadline passed before `before` counts as in a last state. Returns how many deliveries.
        """

    async def forget_records(self, before: int) -> int:
        """Delete events received before `before` with all that hangs on them, if every delivery is in a last state.

        And only if each was last changed before `before`, too. An `unknown` one counts as in a last state once its
        deadline is before `before`. What changed with the holds before then goes, but for what still stands; so do
        recordings, and who was unreachable. Returns how many events.
        """

    async def export_person(self, number: str) -> Mapping[str, Any]:
        """Return everything that is kept of a person (E.164), unmasked: exactly what `erase_person` would find.

        `phone`, `marketing` {suppressed, reason, since}, `unreachable_since`, and `events`, oldest first: `id`,
        `source`, `source_delivery_id`, `topic`, `received_at`, `body` (JSON; None: wiped), `acts`, and `deliveries` as
        by `read_delivery`, with the whole `message`, `marketing` and `clicked_at`. Events are theirs that are about
        them (by number, or by a customer id that an event of that number has), that led to a message to them, or that
        name their number anywhere.
        """

    async def erase_person(self, number: str, now: int) -> Erased:
        """Wipe every event of a person and make it nobody's, with its deliveries; in steps, so that no one waits long.

        What may still be sent becomes `suppressed`, reason `erased`, but for what is being sent. Ids, times, states,
        keys of dedup and an opt-out stay. No byte of what was erased is left in the store's files, if `log_emptied`.
        """

    async def can_commit(self) -> bool:
        """Tell whether a commit works now (for /readyz)."""

    async def close(self) -> None:
        """Answer what waits, checkpoint and release the store."""
