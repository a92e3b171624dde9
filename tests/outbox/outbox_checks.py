"""Whether a claim took what it was allowed to, and what a store has to show of each delivery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.model.delivery import Attempt, State
from app.outbox.store import Tx
from app.outbox.values import Hold
from app.values.instant import format_instant
from tests.outbox.outbox_model import OutboxModel
from tests.outbox.outbox_rows import Row


def read_dues(tx: Tx) -> Sequence[Any]:
    """Not by the contract: it shows no due time of what is held."""
    return tx.rows("SELECT id, state, due_at FROM deliveries")


COLUMNS = ("id", "route", "provider", "state", "reason", "receipt", "attempts", "updated_at", "next_attempt_at")


def pick_columns(shown: dict[str, Any]) -> dict[str, Any]:
    return {**{name: shown[name] for name in COLUMNS}, "wiped": not shown["recipient"]}


def show_row(model: OutboxModel, row: Row) -> dict[str, Any]:
    held = row.state is State.PENDING and model.blocking(row)
    waits = row.state in {State.PENDING, State.UNKNOWN} and not held and row.due_at is not None
    values = (
        row.given.id, row.given.route, row.given.provider, "held" if held else row.state,
        "replayed" if model.is_mended(row) else row.shown_reason, row.receipt,
        len(row.tried), format_instant(row.updated_at), format_instant(row.due_at or 0) if waits else None,
    )  # fmt: skip
    return {**dict(zip(COLUMNS, values, strict=True)), "wiped": not row.recipient}


def check_claim(model: OutboxModel, provider: str, found: Sequence[Attempt], now: int, limit: int) -> None:
    """Assert that a claim took only what it was allowed to, in the order that the contract asks for."""
    assert len(found) <= limit
    probed: set[str] = set()
    for attempt in found:
        row = model.find(attempt.delivery.id)
        assert row is not None
        assert row.given.provider == provider
        assert row.state is State.PENDING
        assert row.sendable
        assert not model.people.stops(row.given, row.state)
        assert row.due_at is not None
        assert row.due_at <= now < row.given.deadline_at
        assert model.free_at(row, now) <= now
        expected = replace(row.given, state=State.SENDING, reason=None, due_at=row.due_at, dedup_key=None, detail="")
        assert attempt.delivery == expected
        assert (attempt.number, attempt.started_at, attempt.spent) == (len(row.tried) + 1, now, row.spent)
        assert attempt.probes == model.blocking(row)
        assert not probed & {*attempt.probes}
        probed |= {*attempt.probes}
        for scope in attempt.probes:
            probe_at = model.holds[scope].probe_at
            assert probe_at is not None
            assert probe_at <= now
    recipients = Counter(attempt.delivery.recipient for attempt in found)
    assert not recipients or max(recipients.values()) == 1
    check_turns(model, provider, found, now)


def check_turns(model: OutboxModel, provider: str, found: Sequence[Attempt], now: int) -> None:
    """Assert that routes took turns, and that in each the higher priority, then the oldest went first."""
    taken = {attempt.delivery.id for attempt in found}
    written_to = {attempt.delivery.recipient for attempt in found}
    rows = [row for row in model.rows if row.given.provider == provider and model.may_go(row, now)]
    left = [row for row in rows if row.given.id not in taken and row.recipient not in written_to]
    claimed = [row for row in rows if row.given.id in taken]
    for row in left:
        peers = [each for each in claimed if each.given.route == row.given.route]
        assert all(rank(each) <= rank(row) for each in peers)
        counts = Counter(each.given.route for each in claimed)
        assert all(counts[other] <= counts[row.given.route] + 1 for other in counts)


def rank(row: Row) -> tuple[int, int, int]:
    return -row.given.priority, row.due_at or 0, row.seq


def list_holds(model: OutboxModel) -> list[Hold]:
    pending = [row for row in model.rows if row.state is State.PENDING]
    waiting = Counter(scope for row in pending for scope in row.scopes)
    return [
        Hold(scope, it.reason, it.since, waiting[scope], it.probe_at)
        for scope, it in sorted(model.holds.items(), key=lambda item: (item[1].since, item[0]))
    ]


def find_oldest_due(model: OutboxModel, provider: str, now: int) -> int | None:
    dues = [
        row.due_at
        for row in model.rows
        if row.state is State.PENDING and row.given.provider == provider and not model.blocking(row)
    ]
    return min((due_at for due_at in dues if due_at is not None and due_at <= now), default=None)


def next_due_at(model: OutboxModel, provider: str) -> int | None:
    starts = []
    for row in model.rows:
        if row.state is not State.PENDING or row.given.provider != provider or row.due_at is None:
            continue
        probes = [model.holds[scope].probe_at for scope in model.blocking(row)]
        if None not in probes:
            starts.append(max([row.due_at, *(at for at in probes if at is not None)]))
    return min(starts, default=None)
