"""A store against a model of its contract, step by step: whatever the order of calls, both hold the same.

Hypothesis thinks up the calls; `RELAY_TEST_SEED` chooses which.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from random import SystemRandom
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from app.delivery import transitions
from app.model.delivery import Accepted, Delivery, Reason, Retryable
from app.model.event import Event
from app.model.message import ReceiptStatus
from app.outbox import add as adding
from app.outbox import claim as claiming
from app.outbox import close as closing
from app.outbox.store import Tx
from app.outbox.values import Closed, Enqueued
from tests.outbox.conftest import POOLED
from tests.outbox.outbox_givens import MINUTE, USUAL
from tests.outbox.outbox_machine import OutboxMachine
from tests.outbox.postgres_outbox import Place, PostgresOutbox


def choose_seed() -> int:
    chosen = int(os.environ.get("RELAY_TEST_SEED") or SystemRandom().randrange(2**32))
    print(f"RELAY_TEST_SEED={chosen}")  # noqa: T201  # to run the same again
    return chosen


class SqliteMachine(OutboxMachine):
    """The machine on the SQLite store; a new store gets one, too."""


class PostgresMachine(OutboxMachine):
    """The machine on a place in PostgreSQL. A process that dies closes nothing before the next one begins."""

    place: ClassVar[Place]

    def open_first(self) -> Any:
        self.place.empty()
        return PostgresOutbox(self.place.url)

    def open_again(self, *, cleanly: bool) -> Any:
        dead = self.store
        if cleanly:
            self.run(dead.close())
        opened = PostgresOutbox(self.place.url)
        if not cleanly:
            self.run(dead.close())
        return opened


@pytest.fixture(params=["sqlite", "postgres", POOLED])
def machine(request: pytest.FixtureRequest) -> type[OutboxMachine]:
    if request.param == "sqlite":
        return SqliteMachine
    place = request.getfixturevalue("postgres_place" if request.param == "postgres" else "pooled_place")
    return type("Placed", (PostgresMachine,), {"place": place})


def share(machine: type[OutboxMachine]) -> int:
    """Return the part of the steps that are gone: a round trip to a server takes longer than a call."""
    return 1 if machine is SqliteMachine else 6


def run_machine(chosen: int, examples: int, steps: int, machine: type[OutboxMachine] = SqliteMachine) -> None:
    # Not shrunk: that takes minutes, and the seed brings it back.
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    seeded = seed(chosen)(type("Seeded", (machine,), {"__module__": __name__}))
    before = Counter(OutboxMachine.figures)
    run_state_machine_as_test(seeded, settings=how)
    done = OutboxMachine.figures - before
    print(f"figures: outbox against its model: seed {chosen}, no difference after any step of {dict(done)}")  # noqa: T201  # for bench/long-runs.md


@pytest.mark.timeout(300)
def test_the_store_holds_what_the_model_holds_after_every_step(machine: type[OutboxMachine]) -> None:
    run_machine(choose_seed(), examples=60 // share(machine), steps=40, machine=machine)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_the_store_holds_what_the_model_holds_after_20000_steps(machine: type[OutboxMachine]) -> None:
    run_machine(choose_seed(), examples=225 // share(machine), steps=100, machine=machine)


# -- known-bad controls ----------------------------------------------------------------------------

# The shortest way to each broken guarantee, which the sound store must go without complaint; chance finds it, too,
# but it takes its time.


def add_a_copy(machine: OutboxMachine) -> None:
    for _ in range(2):
        machine.add_event(2, [USUAL])


def close_a_stale_attempt(machine: OutboxMachine) -> None:
    machine.wait_and_work([Retryable(Reason.CONNECT_FAILED)])
    machine.wait_and_work([None])
    machine.close_stale_attempt(0, Accepted("m-1"))


def work_past_a_deadline(machine: OutboxMachine) -> None:
    machine.add_event(2, [{**USUAL, "live_ms": MINUTE, "recipient": "+919800000007"}])
    machine.pass_time(MINUTE)
    machine.claim_due("gallabox", 6)


def work_behind_a_hold(machine: OutboxMachine) -> None:
    machine.put_hold("provider:gallabox", by_hand=True, probe_ms=None)
    machine.wait_and_work([None])


def work_past_an_opt_out(machine: OutboxMachine) -> None:
    machine.change_suppressions([USUAL["recipient"]], lift=False)
    machine.wait_and_work([None])


def add_past_an_opt_out(machine: OutboxMachine) -> None:
    machine.change_suppressions([USUAL["recipient"]], lift=False)
    machine.add_event(2, [USUAL])


def repeat_receipts(machine: OutboxMachine) -> None:
    machine.wait_and_work([Accepted("m-1")])
    for status in (ReceiptStatus.READ, ReceiptStatus.SENT):
        machine.apply_receipt(0, "ours", "m-1", status)
    machine.both_hold_the_same()


def close_unfenced(tx: Tx, endings: Sequence[closing.Ending]) -> Sequence[Closed]:
    (ending,) = endings
    found = tx.rows("SELECT attempts FROM deliveries WHERE id = :id", id=ending.attempt.delivery.id)
    attempt = replace(ending.attempt, number=found[0].attempts) if found else ending.attempt
    return close_fenced(tx, [replace(ending, attempt=attempt)])


def add_unindexed(tx: Tx, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
    tx.db.execute("DROP INDEX IF EXISTS events_source")  # type: ignore[attr-defined]  # of SQLite
    return add_indexed(tx, event, deliveries)


close_fenced, add_indexed = closing.close_attempts, adding.add_event
CONTROLS: Sequence[tuple[Callable[[OutboxMachine], None], Any, str, Any]] = (
    (add_a_copy, adding, "add_event", add_unindexed),
    (close_a_stale_attempt, closing, "close_attempts", close_unfenced),
    (work_past_a_deadline, claiming, "DUE", claiming.DUE.replace("d.deadline_at", "1 << 62 AS deadline_at")),
    (work_behind_a_hold, claiming, "list_blocking", lambda *_: ()),
    (work_past_an_opt_out, claiming, "DUE", claiming.DUE.replace("d.marketing = 1", "0 = 1")),
    (add_past_an_opt_out, adding, "find_unwanted", lambda *_: ()),
    (repeat_receipts, transitions, "_RANK", {None: 0, "sent": 4, "failed": 2, "delivered": 3, "read": 1}),
)
each_control = pytest.mark.parametrize(
    ("walk", "module", "name", "broken"), CONTROLS, ids=[walk.__name__ for walk, *_ in CONTROLS]
)


@each_control
def test_control_a_broken_store_is_told_from_the_model(
    walk: Callable[[OutboxMachine], None], module: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, machine = OutboxMachine(), OutboxMachine()
    sound.open()
    walk(sound)
    sound.teardown()
    machine.open()
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        walk(machine)
    with suppress(AssertionError):  # its stories are as wrong as its answers
        machine.teardown()


@pytest.mark.long
@pytest.mark.timeout(900)
@each_control
def test_control_chance_finds_a_broken_store(
    walk: Callable[[OutboxMachine], None], module: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del walk
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        run_machine(choose_seed(), examples=500, steps=60)
