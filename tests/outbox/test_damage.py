"""Damaged files: refused and left alone, or opened; and what is opened sends no message that was not frozen so."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreBroken, StoreError
from app.message.components import decode_message, encode_message
from app.model.message import Message, Variable
from app.outbox import claim as claiming
from app.outbox.sqlite.file import PAGE_BYTES
from app.outbox.values import DeliveryFilter
from tests.outbox.methods import SqliteOutbox

NOW = 1_790_000_000_000
DELIVERIES = 200


@pytest.fixture
async def whole(database: Path, wrap: Callable[..., Any]) -> dict[str, Message]:
    """Make a file with so many frozen messages and close it; return them by delivery id."""
    shop = wrap(SqliteOutbox(database))
    messages = {}
    for number in range(DELIVERIES):
        recipient = f"+9198000{number:05}"
        message = Message(recipient, "coupon_ready", "Riya", variables=(Variable(None, f"ACME-{number:04}"),))
        messages[await shop.add(recipient=recipient, message=message)] = message
    await shop.store.close()
    return messages


@pytest.fixture
def draw() -> random.Random:
    given = os.environ.get("RELAY_TEST_SEED")
    seed = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"seed={seed}")  # noqa: T201  # to be run again
    return random.Random(seed)  # noqa: S311  # no secret


def flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def damage(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return what was done, and the bytes after it."""
    at, size = draw.randrange(len(data)), draw.randrange(1, 8192)
    match draw.choice(("flip", "flip", "flip", "zero", "noise", "cut", "repeat", "empty", "foreign")):
        case "flip":
            return f"flip at {at}", flip(data, at, draw.randrange(8))
        case "zero":
            return f"zero {size} at {at}", data[:at] + bytes(size) + data[at + size :]
        case "noise":
            return f"noise {size} at {at}", data[:at] + draw.randbytes(size) + data[at + size :]
        case "cut":
            return f"cut at {at}", data[:at]
        case "repeat":  # a page written to the wrong place
            page, other = (place - place % PAGE_BYTES for place in (at, draw.randrange(len(data))))
            return f"page {page} over {other}", data[:other] + data[page : page + PAGE_BYTES] + data[
                other + PAGE_BYTES :
            ]
        case "empty":
            return "empty", b""
        case _:
            return "foreign", draw.randbytes(draw.randrange(1, 20_000))


def is_whole(path: Path) -> bool:
    """Tell what SQLite itself finds, reading only."""
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        db.text_factory = bytes  # what it says of noise may hold noise
        try:
            return db.execute("PRAGMA quick_check").fetchall() == [(b"ok",)]
        finally:
            db.close()
    except (sqlite3.Error, UnicodeDecodeError):  # also what an error says of noise
        return False


async def try_damages(database: Path, whole: dict[str, Message], draw: random.Random, count: int) -> None:
    pristine, frozen = database.read_bytes(), set(map(encode_message, whole.values()))
    refused = opened = dead = 0
    for _ in range(count):
        what, data = damage(pristine, draw)
        for path in database.parent.glob("relay.db*"):
            path.unlink()
        database.write_bytes(data)
        fit = is_whole(database)
        try:
            store = SqliteOutbox(database)
        except StoreBroken:
            refused += 1
            assert database.read_bytes() == data, f"{what}: a refused file was changed"
            continue
        assert fit, f"{what}: a file that fails quick_check was opened"
        opened += 1
        try:
            claimed = await store.claim_due("gallabox", NOW, 10 * DELIVERIES, 30_000)
            dead += sum(n for (_, state), n in (await store.count_deliveries()).items() if state == "dead")
        except (StoreError, sqlite3.Error):  # also rows that contradict each other, and names that are none any more
            claimed = []  # the process ends, and nothing was sent
        sent = {encode_message(attempt.delivery.message) for attempt in claimed if attempt.delivery.message}
        assert sent <= frozen, f"{what}: a message that was never frozen"
        await store.close()
    print(f"figures: {count} damaged files: refused={refused} opened={opened} dead deliveries in them={dead}, 0 wrong")  # noqa: T201  # bench/long-runs.md quotes it
    assert refused
    assert opened


async def test_no_damaged_file_sends_what_was_not_frozen(
    database: Path, whole: dict[str, Message], draw: random.Random
) -> None:
    await try_damages(database, whole, draw, 50)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_none_of_1_000_damaged_files_sends_what_was_not_frozen(
    database: Path, whole: dict[str, Message], draw: random.Random
) -> None:
    await try_damages(database, whole, draw, 1_000)


async def flip_messages(database: Path, whole: dict[str, Message], draw: random.Random, count: int) -> list[str]:
    """Flip one bit in each of so many messages of the file; return those whose message is claimed all the same."""
    data, flipped = database.read_bytes(), draw.sample(sorted(whole), count)
    for id_ in flipped:
        text = encode_message(whole[id_])
        assert data.count(text) == 1
        data = flip(data, data.index(text) + draw.randrange(len(text)), draw.randrange(8))
    database.write_bytes(data)
    store = SqliteOutbox(database)
    claimed = {attempt.delivery.id for attempt in await store.claim_due("gallabox", NOW, 10 * DELIVERIES, 30_000)}
    assert claimed >= set(whole) - set(flipped)
    for id_ in set(flipped) - claimed:
        row = await store.read_delivery(id_)
        assert row is not None
        assert (row["state"], row["reason"], row["attempts"]) == ("dead", "message_damaged", 0)
    await store.close()
    return sorted(set(flipped) & claimed)


async def test_every_flip_inside_a_frozen_message_is_noticed_before_it_is_sent(
    database: Path, whole: dict[str, Message], draw: random.Random
) -> None:
    assert await flip_messages(database, whole, draw, 100) == []


async def test_without_the_checksum_some_would_be_sent(
    database: Path, whole: dict[str, Message], draw: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control."""

    def thaw_unchecked(data: bytes, *_: Any) -> Message | None:
        try:
            return decode_message(data)
        except ValueError:
            return None

    monkeypatch.setattr(claiming, "thaw_message", thaw_unchecked)
    assert await flip_messages(database, whole, draw, 100)


@pytest.mark.parametrize("column", ["checksum", "route", "template", "recipient", "id", "on_unknown", "detail"])
async def test_a_text_that_is_none_any_more_stops_no_other_row(
    column: str, database: Path, whole: dict[str, Message]
) -> None:
    damaged = min(whole)
    db = sqlite3.connect(database)
    db.execute(f"UPDATE deliveries SET {column} = CAST(x'ff80' AS TEXT) WHERE id = ?", (damaged,))  # noqa: S608  # our own names
    db.commit()
    db.close()
    store = SqliteOutbox(database)
    claimed = {attempt.delivery.id for attempt in await store.claim_due("gallabox", NOW, 10 * DELIVERIES, 30_000)}
    assert claimed >= set(whole) - {damaged}
    assert len((await store.list_deliveries(DeliveryFilter(limit=500)))[0]) == DELIVERIES
    await store.close()


@pytest.mark.parametrize("table", ["counts", "reached"])
async def test_a_counter_of_no_state_is_damage_as_any_other(
    table: str, database: Path, whole: dict[str, Message]
) -> None:
    del whole
    db = sqlite3.connect(database)
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    values = {"state": "accep\x04ed", "n": 1}
    db.execute(
        f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})",  # noqa: S608  # our own names
        [values.get(column, "x") for column in columns],
    )
    db.commit()
    db.close()
    store = SqliteOutbox(database)
    count = store.count_deliveries if table == "counts" else store.count_reached
    with pytest.raises(StoreBroken, match="is damaged; restore a backup"):
        await count()
    await store.close()


async def test_a_delivery_that_lost_its_timeline_stops_no_other_one(database: Path, whole: dict[str, Message]) -> None:
    db = sqlite3.connect(database)
    lost = (min(whole),)
    db.execute("DELETE FROM timeline_kept WHERE delivery_seq = (SELECT seq FROM deliveries WHERE id = ?)", lost)
    db.commit()
    db.close()
    store = SqliteOutbox(database)
    claimed = {attempt.delivery.id for attempt in await store.claim_due("gallabox", NOW, 10 * DELIVERIES, 30_000)}
    assert claimed == set(whole)
    await store.close()


async def test_a_damaged_name_of_a_table_is_damage_as_any_other(database: Path, whole: dict[str, Message]) -> None:
    del whole
    data = database.read_bytes()
    database.write_bytes(data.replace(b"CREATE TABLE receipts", b"CREATE \xdf\xdf\xdf\xdf\xdf receipts"))
    with pytest.raises(StoreBroken, match=r"relay\.db: is damaged"):
        SqliteOutbox(database)


async def test_a_file_that_lost_its_key_of_people_is_refused_and_left_as_it_is(
    database: Path, whole: dict[str, Message]
) -> None:
    del whole
    db = sqlite3.connect(database)
    db.execute("UPDATE keys SET name = 'poople'")  # a bit of the name flipped: the file is sound for all that
    db.commit()
    db.close()
    before = database.read_bytes()
    with pytest.raises(StoreBroken, match=r"relay\.db: has lost the key by which it knows people; restore a backup"):
        SqliteOutbox(database)
    assert database.read_bytes() == before


# -- a volume that is read-only at the start --------------------------------------------------------


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Return a function that makes a folder read-only: a tmpfs, else what the system would answer."""
    place = tmp_path / "volume"
    place.mkdir()
    mount = shutil.which("mount")
    mounted = mount is not None and not subprocess.call(
        [mount, "-t", "tmpfs", "tmpfs", str(place)], stderr=subprocess.DEVNULL
    )

    def turn() -> Path:
        if mounted:
            subprocess.check_call([str(mount), "-o", "remount,ro", str(place)])
        else:

            def refuse(path: Any, *_: Any) -> int:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

            monkeypatch.setattr(os, "open", refuse)
        return place

    yield turn
    if mounted:
        subprocess.check_call(["umount", "--lazy", str(place)])


@pytest.mark.parametrize("there", [True, False])
async def test_a_read_only_volume_is_refused_at_the_start(
    there: bool, tmp_path: Path, read_only: Callable[[], Path]
) -> None:
    database = tmp_path / "volume" / "relay.db"
    if there:
        await SqliteOutbox(database).close()
    read_only()
    with pytest.raises(StoreBroken, match=r"relay\.db.*cannot be written \(Read-only file system\); check its"):
        SqliteOutbox(database)


async def claim_within(store: SqliteOutbox, steps: int) -> bool:
    """Tell whether a claim ends before so many steps of SQLite's machine."""
    taken = 0

    def count() -> bool:
        nonlocal taken
        taken += 1
        return taken > steps

    store._writer._db.set_progress_handler(count, 1)
    with suppress(sqlite3.OperationalError, StoreError):  # it was stopped, or it noticed the damage
        await store.claim_due("gallabox", NOW, 10, 30_000)
    store._writer._db.set_progress_handler(None, 0)
    return taken <= steps


async def flip_routes(database: Path, wrap: Callable[..., Any]) -> list[int]:
    """Flip a bit of the one stored route, wherever it stands in the file; return where a claim did not end."""
    shop = wrap(SqliteOutbox(database))
    await shop.add()
    await shop.store.close()
    data, endless = database.read_bytes(), []
    for place in re.finditer(b"coupon-ready", data):
        for path in database.parent.glob("relay.db*"):
            path.unlink()
        database.write_bytes(flip(data, place.start(), 0))
        store = SqliteOutbox(database)
        if not await claim_within(store, 100_000):
            endless.append(place.start())
        await store.close()
    return endless


async def test_a_row_that_says_another_route_than_its_index_does_not_hold_a_claim_up(
    database: Path, wrap: Callable[..., Any]
) -> None:
    assert await flip_routes(database, wrap) == []


async def test_a_scan_that_goes_on_from_what_rows_say_would_not_end(
    database: Path, wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control of the test above."""
    of_rows = claiming._NEXT_GROUP.replace("SELECT route, template", "SELECT +route AS route, template").replace(
        "FROM deliveries /*sqlite INDEXED BY deliveries_pending*/",
        "FROM deliveries NOT INDEXED WHERE seq = (SELECT seq FROM deliveries INDEXED BY deliveries_pending",
    )
    monkeypatch.setattr(claiming, "_NEXT_GROUP", of_rows.rstrip() + ")")
    assert await flip_routes(database, wrap) != []
