"""The flight recorder tells what surely never left, and where anything is odd about it, nothing."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.delivery.transitions import DEATHS_LIMIT
from app.model.delivery import Attempt
from app.model.message import NO_LIMITS, Limit, Limits, ReceiptStatus
from app.outbox import close
from app.outbox.sqlite.sidecars import SLOTS, open_flights
from app.outbox.store import Flights
from tests.outbox.methods import SqliteOutbox, at

SETTLE = 900_000
TO_ONE = Limits(person=Limit(1, 86_400_000))
HEAD_BYTES = 52


@pytest.fixture
def shop(open_sqlite: Callable[[], SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    """Return the one store that has a recorder: where replicas share an outbox, leases tell what was lost."""
    return wrap(open_sqlite())


async def recover(shop: Any, flights: Flights, after_ms: int = 0, limits: Limits = NO_LIMITS) -> int:
    job = partial(close.recover_open_attempts, settle_ms=SETTLE, flights=flights, limits=limits)
    unknown: int = await shop.store.write(at(shop.now + after_ms, job), essential=True)
    flights.begin()
    return unknown


def leave(flights: Flights, attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        flights.take_off(attempt.delivery.id, attempt.number)


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    place = tmp_path / "boot_id"
    place.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    return place


@pytest.fixture
def open_recorder(database: Path, boot_id: Path) -> Callable[[], Flights]:
    """Return what opens the recorder anew, as the next process does."""
    database.parent.mkdir(exist_ok=True)
    return lambda: open_flights(database, boot_id)


async def test_what_never_left_is_sent_and_what_may_have_left_is_unknown(
    shop: Any, open_recorder: Callable[[], Flights]
) -> None:
    flights = open_recorder()
    await recover(shop, flights)
    await shop.add_many(4)
    ended, *others = await shop.claim(4)
    leave(flights, [ended, others[0]])
    await shop.accept(ended)
    flights.land(ended.delivery.id, ended.number)
    assert await recover(shop, open_recorder()) == 1
    states = [(await shop.show(each.delivery.id))[:2] for each in (ended, *others)]
    died = "process_died"
    assert states == [("accepted", None), ("unknown", died), ("pending", died), ("pending", died)]
    assert {each.delivery.id for each in await shop.claim(after_ms=6_000)} == {each.delivery.id for each in others[1:]}
    row = await shop.read(others[1].delivery.id)
    assert row["attempt_list"][0]["outcome"] == "retryable"
    assert row["attempt_list"][0]["detail"] == close.NEVER_LEFT


@pytest.mark.parametrize(("limits", "went"), [(TO_ONE, 1), (NO_LIMITS, 0)], ids=["given back", "control"])
async def test_what_never_left_counts_in_no_limit(
    shop: Any, open_recorder: Callable[[], Flights], limits: Limits, went: int
) -> None:
    shop.store.limits = TO_ONE
    await recover(shop, open_recorder())
    delivery_id = await shop.add()
    await shop.claim_one()
    await recover(shop, open_recorder(), limits=limits)
    assert (await shop.show(delivery_id))[0] == "pending"
    assert len(await shop.claim(after_ms=6_000)) == went


async def test_without_a_recorder_every_open_attempt_may_have_left(shop: Any) -> None:
    """The known-bad control: two of three that are unknown nobody ever saw."""
    await recover(shop, Flights())
    await shop.add_many(3)
    await shop.claim(3)
    assert await recover(shop, Flights()) == 3


def tear(place: Path) -> None:
    with place.open("r+b") as file:
        file.seek(HEAD_BYTES + 3)
        file.write(b"\xff")


def clear_head(place: Path) -> None:
    with place.open("r+b") as file:
        file.write(bytes(8))


def cut(place: Path) -> None:
    os.truncate(place, place.stat().st_size - 1)


def age(place: Path) -> None:
    """Leave the file of some earlier run: the one that died had no recorder."""
    with place.open("r+b") as file:
        file.seek(HEAD_BYTES - 8)
        file.write(struct.pack("<q", 7))


@pytest.mark.parametrize("harm", [Path.unlink, tear, clear_head, cut, age])
async def test_of_a_lost_or_torn_mapping_nothing_is_believed(
    shop: Any, open_recorder: Callable[[], Flights], database: Path, harm: Callable[[Path], None]
) -> None:
    flights = open_recorder()
    await recover(shop, flights)
    await shop.add_many(2)
    leave(flights, (await shop.claim(2))[:1])
    harm(database.with_name(f"{database.name}.flights"))
    assert await recover(shop, open_recorder()) == 2


async def test_after_a_reboot_nothing_is_believed(
    shop: Any, open_recorder: Callable[[], Flights], boot_id: Path
) -> None:
    await recover(shop, open_recorder())
    await shop.add_many(2)
    await shop.claim(2)
    boot_id.write_text("99999999-89ab-cdef-0123-456789abcdef\n")
    assert await recover(shop, open_recorder()) == 2


async def test_a_run_that_had_no_recorder_is_not_judged_by_the_one_before(
    shop: Any, open_recorder: Callable[[], Flights]
) -> None:
    await recover(shop, open_recorder())
    await recover(shop, Flights())  # the disk had no room for it
    await shop.add_many(2)
    await shop.claim(2)
    assert await recover(shop, open_recorder()) == 2


async def test_where_more_is_open_than_there_are_slots_nothing_is_believed(
    shop: Any, open_recorder: Callable[[], Flights]
) -> None:
    flights = open_recorder()
    await recover(shop, flights)
    await shop.add_many(2)
    await shop.claim(2)
    for number in range(SLOTS + 1):
        flights.take_off(f"dlv-{number}", 1)
    assert await recover(shop, open_recorder()) == 2


async def end_after_the_copy(shop: Any, flights: Flights, opened: Sequence[Attempt]) -> None:
    for attempt in opened:
        leave(flights, [attempt])
        await shop.accept(attempt)
        flights.land(attempt.delivery.id, attempt.number)


async def end_and_go_on_after_the_copy(shop: Any, flights: Flights, opened: Sequence[Attempt]) -> None:
    await end_after_the_copy(shop, flights, opened)
    for _ in range(SLOTS):  # until no slot knows of them any more
        await shop.add()
        (later,) = await shop.claim(1)
        await end_after_the_copy(shop, flights, [later])


@pytest.mark.parametrize("go_on", [end_after_the_copy, end_and_go_on_after_the_copy])
async def test_a_copy_made_by_hand_and_put_back_has_nothing_sent_again(
    shop: Any, open_recorder: Callable[[], Flights], database: Path, go_on: Callable[..., Any], wrap: Callable[..., Any]
) -> None:
    flights = open_recorder()
    await recover(shop, flights)
    await shop.add_many(2)
    opened = await shop.claim(2)
    await shop.store.empty_log()
    copy = database.with_name("copy.db")
    shutil.copy(database, copy)
    await go_on(shop, flights, opened)
    left = open_recorder()
    older = wrap(SqliteOutbox(copy))
    assert await recover(older, left) == 2
    await older.store.close()


async def test_control_a_recorder_that_is_believed_without_a_look_at_the_outbox_sends_twice(
    shop: Any,
    open_recorder: Callable[[], Flights],
    database: Path,
    wrap: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(close, "_fits", lambda *_, **__: True)
    with pytest.raises(AssertionError):
        await test_a_copy_made_by_hand_and_put_back_has_nothing_sent_again(
            shop, open_recorder, database, end_after_the_copy, wrap
        )


async def test_what_may_kill_the_process_before_it_leaves_waits_for_a_person_in_the_end(
    shop: Any, open_recorder: Callable[[], Flights]
) -> None:
    await recover(shop, open_recorder())
    delivery_id = await shop.add()
    unknown = []
    for death in range(DEATHS_LIMIT):
        await shop.claim(after_ms=death * 10_000)
        unknown.append(await recover(shop, open_recorder(), death * 10_000))
    assert unknown == [0] * (DEATHS_LIMIT - 1) + [1]
    assert (await shop.show(delivery_id))[0] == "unknown"


async def test_a_receipt_tells_more_than_the_recorder(shop: Any, open_recorder: Callable[[], Flights]) -> None:
    await recover(shop, open_recorder())
    await shop.add()
    attempt = await shop.claim_one()
    await shop.receive(ReceiptStatus.DELIVERED, attempt.delivery.id)
    await recover(shop, open_recorder())
    assert (await shop.show(attempt.delivery.id))[0] == "accepted"


@pytest.mark.usefixtures("open_recorder")
def test_a_system_or_a_disk_that_cannot_have_one_gets_none(
    database: Path, boot_id: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(open_flights(database, tmp_path / "no such")) is Flights
    assert type(open_flights(tmp_path / "no folder" / "relay.db", boot_id)) is Flights

    def have_no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", have_no_room)
    assert type(open_flights(database, boot_id)) is Flights
    assert not database.with_name(f"{database.name}.flights").exists()


@pytest.mark.usefixtures("open_recorder")
def test_a_link_is_not_followed(database: Path, boot_id: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    database.with_name(f"{database.name}.flights").symlink_to(other)
    assert type(open_flights(database, boot_id)) is Flights
    assert other.read_text() == "precious"


def test_nobody_else_can_read_it(database: Path, open_recorder: Callable[[], Flights]) -> None:
    open_recorder()
    assert database.with_name(f"{database.name}.flights").stat().st_mode & 0o777 == 0o600
