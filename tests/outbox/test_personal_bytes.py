"""10,000 people pass through a real file: what was wiped or erased is in no byte of it. The controls leave some."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.model.event import Customer
from app.model.message import Message, ReceiptStatus, Variable
from app.outbox import erase as erasing
from app.outbox import find as finding
from app.outbox import retention as wiping
from app.outbox.sqlite.store import SqliteStore
from tests.outbox.methods import SqliteOutbox

PEOPLE = 10_000
DAY = 86_400_000
SECRET_ID = "wamid."
# A number as it is, in every grouping that these people use, and in base64, as WhatsApp's ids have it.
NUMBERS = re.compile(rb"98000[ -]?(\d{5})")
CODED = re.compile(rb"OTE5ODAw[A-Za-z0-9]{8}")
HASHES = re.compile(rb"hash:[0-9a-f]{64}")  # in some of 10,000 chance writes what looks like a number
WORDS = re.compile(rb"Canaria(\d{5})|CANARY-(\d{5})|c-canary-(\d{5})")


def number_of(n: int) -> str:
    return f"+9198000{n:05}"


def make_body(n: int) -> bytes:
    """One in ten has the number in another field and another writing."""
    number = number_of(n)
    odd = {"notes": f"call {number[:3]} {number[3:8]}-{number[8:]}"} if n % 10 == 0 else {"user_mobile": number[3:]}
    return json.dumps({"user_name": f"Canaria{n:05}", "value": f"CANARY-{n:05}", **odd}).encode()


def make_message_id(n: int) -> str:
    return SECRET_ID + base64.b64encode(b"\x1d\x18\x0c" + number_of(n)[1:].encode() + b"\x15\x02\x00").decode()


async def add_person(shop: Any, n: int) -> None:
    name, code, number = f"Canaria{n:05}", f"CANARY-{n:05}", number_of(n)
    customer = Customer("" if n % 10 == 0 else number, f"c-canary-{n:05}")
    event = shop.event(body=make_body(n), customer=customer)
    message = Message(number, "coupon_ready", name, variables=(Variable("1", name), Variable(None, code)))
    to = [] if n % 10 == 0 else [shop.delivery(event, recipient=number, message=message, dedup_key=code)]
    await shop.store.add_event(event, to)


async def live(shop: Any, people: range) -> None:
    """Let all have their event; most get their message, some a receipt, some wait on."""
    for start in range(people.start, people.stop, 500):
        some = range(start, min(start + 500, people.stop))
        await asyncio.gather(*[add_person(shop, n) for n in some])
    for n in range(len(people) * 7 // 1_000):
        attempts = await shop.claim(100)
        ids = [make_message_id(int(each.delivery.recipient[-5:])) for each in attempts]
        await asyncio.gather(*[shop.accept(*pair) for pair in zip(attempts, ids, strict=True)])
        received = [shop.receive(ReceiptStatus.READ, None, id_) for id_ in ids[: 20 + n % 2]]
        await asyncio.gather(*received)


def find_people(folder: Path) -> dict[str, set[bytes]]:
    """Return which canaries lie in which file."""
    found: dict[str, set[bytes]] = {}
    for path in folder.iterdir():
        held = HASHES.sub(b"", path.read_bytes())
        numbers = {b"".join(match) for match in re.findall(rb"98000[ -]?(\d{3})(\d{2})", held)}
        words = {each for match in WORDS.findall(held) for each in match if each}
        coded = {base64.b64decode(match)[-5:] for match in CODED.findall(held)}
        if there := numbers | words | coded:
            found[path.name] = there
    return found


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite(recipient_gap_ms=0, queue_limit=PEOPLE))


@pytest.mark.timeout(180)
async def test_after_the_retention_no_canary_is_in_the_file(shop: Any, database: Path) -> None:
    await live(shop, range(PEOPLE))
    assert len(find_people(database.parent)["relay.db"]) == PEOPLE, "else this test could not fail"
    await shop.store.sweep(shop.now + 2 * DAY, 0)
    wiped = await shop.store.wipe_payloads(shop.now + 3 * DAY)
    assert wiped == PEOPLE * 9 // 10
    print(f"figures: {PEOPLE} people, {wiped} deliveries, {database.stat().st_size} bytes")  # noqa: T201  # for the release notes
    assert find_people(database.parent) == {}


async def live_unevenly(shop: Any, people: range) -> None:
    """Names of every length, answers in no order: rows grow within pages that are full, and go to others."""
    draw = Random(2)  # noqa: S311  # no secret
    for start in range(people.start, people.stop, 50):
        for_whom = [
            (number_of(n), f"Canaria{n:05}" * draw.randint(1, 8), f"c-canary-{n:05}") for n in range(start, start + 50)
        ]
        await asyncio.gather(*[add_named(shop, *who) for who in for_whom])
        attempts = list(await shop.claim(100))
        draw.shuffle(attempts)
        ids = [make_message_id(int(each.delivery.recipient[-5:])) for each in attempts]
        await asyncio.gather(*[shop.accept(*pair) for pair in zip(attempts, ids, strict=True)])


async def add_named(shop: Any, number: str, name: str, customer: str) -> None:
    event = shop.event(customer=Customer(number, customer))
    message = Message(number, "coupon_ready", name, variables=(Variable("1", name),))
    await shop.store.add_event(event, [shop.delivery(event, recipient=number, message=message)])


async def wipe_all(shop: Any) -> None:
    await shop.store.sweep(shop.now + 2 * DAY, 0)
    await shop.store.wipe_payloads(shop.now + 3 * DAY)


async def touch_all(shop: Any, database: Path) -> None:
    """Let every row be written once more, after it was wiped."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        ids = [row[0] for row in db.execute("SELECT id FROM deliveries")]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    await asyncio.gather(*[shop.receive(ReceiptStatus.READ, id_) for id_ in ids])


async def test_rows_that_sqlite_has_moved_from_page_to_page_leave_nothing_behind(
    shop: Any, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.sqlite.sidecars.PAGES", 16)
    await live_unevenly(shop, range(4_000, 5_000))
    await wipe_all(shop)
    assert find_people(database.parent) == {}
    await touch_all(shop, database)
    assert find_people(database.parent) == {}


async def test_the_pages_are_read_only_where_something_was_wiped_since(
    shop: Any, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at every page of a large file takes seconds of the processor."""
    passes: list[bool] = []
    empty_log = SqliteStore.empty_log

    async def try_to_empty(store: SqliteStore) -> bool:
        passes.append(len(passes) > 1 and await empty_log(store))  # the first two are cut off
        return passes[-1]

    monkeypatch.setattr(SqliteStore, "empty_log", try_to_empty)
    await shop.store.wipe_payloads(shop.now)  # a new file may be an old one's successor
    await live_unevenly(shop, range(4_000, 4_200))
    await wipe_all(shop)
    assert find_people(database.parent)
    await wipe_all(shop)
    assert (passes, find_people(database.parent)) == ([False, False, True], {})
    await wipe_all(shop)
    assert len(passes) == 3


ONE = 4_242


@pytest.mark.timeout(180)
async def test_after_the_erasing_of_one_that_one_is_in_no_byte_and_the_others_are(shop: Any, database: Path) -> None:
    await live(shop, range(4_000, 4_000 + PEOPLE // 10))
    people = {f"{n:05}".encode() for n in range(4_000, 4_000 + PEOPLE // 10)}
    erased = await shop.store.erase_person(number_of(ONE), shop.now)
    assert (erased.events, erased.deliveries, erased.open, erased.log_emptied) == (1, 1, 0, True)
    assert find_people(database.parent) == {"relay.db": people - {b"04242"}}
    assert (await shop.store.erase_person(number_of(4_250), shop.now)).events == 1, "who is only named in a text"
    assert find_people(database.parent) == {"relay.db": people - {b"04242", b"04250"}}


# -- known-bad controls ---------------------------------------------------------------------------


async def forget_secure_delete(store: Any) -> None:
    def switch_off(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA secure_delete = OFF").fetchall()

    await store._writer.run_alone(switch_off)


def keep_ids(_tx: Any, row: Any) -> dict[str, str | None]:
    return {"message_id": row.provider_message_id, "wamid": row.wamid}


@pytest.mark.parametrize(
    ("name", "fault"), [("find_gaps", lambda *_: iter(())), ("FORGET_PAGES", "PRAGMA user_version")]
)
async def test_control_pages_that_are_left_or_remembered_hold_copies_of_rows(
    shop: Any, database: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Any
) -> None:
    monkeypatch.setattr(f"app.outbox.sqlite.sidecars.{name}", fault)
    await live_unevenly(shop, range(4_000, 5_000))
    await wipe_all(shop)
    await touch_all(shop, database)
    assert find_people(database.parent)


@pytest.mark.parametrize("how", ["erase", "wipe"])
@pytest.mark.parametrize("fault", ["no secure_delete", "a log that stays", "the id stays"])
async def test_a_store_that_leaves_bytes_is_noticed(
    shop: Any, database: Path, monkeypatch: pytest.MonkeyPatch, how: str, fault: str
) -> None:
    if fault == "no secure_delete":
        await forget_secure_delete(shop.store)
    if fault == "a log that stays":

        async def leave_log(_store: Any) -> bool:
            return True

        monkeypatch.setattr(SqliteStore, "empty_log", leave_log)
    if fault == "the id stays":
        for module in (wiping, erasing):
            monkeypatch.setattr(module, "hash_ids", keep_ids)
    await live(shop, range(4_000, 4_500))
    if how == "erase":
        for n in range(4_200, 4_250):
            await shop.store.erase_person(number_of(n), shop.now)
    else:
        await shop.store.sweep(shop.now + 2 * DAY, 0)
        await shop.store.wipe_payloads(shop.now + 3 * DAY)
    gone = range(4_200, 4_250) if how == "erase" else range(4_000, 4_500)
    found = set().union(*find_people(database.parent).values())
    assert found & {f"{n:05}".encode() for n in gone}


# -- kill -9 in the middle ------------------------------------------------------------------------


def list_linked(shop: Any) -> Iterator[Awaitable[Any]]:
    """One person in every way that an event can lead to them; others beside."""
    her = Customer(number_of(ONE), "c-canary-04242")
    for customer, to in ((her, number_of(ONE)), (Customer("", her.id), ""), (None, ""), (None, number_of(ONE))):
        event = shop.event(body=make_body(ONE), customer=customer)
        yield shop.store.add_event(event, [shop.delivery(event, recipient=to)] if to else [])
    bare = shop.event(body=b'{"name": "Canaria04242"}', customer=Customer("", her.id))
    yield shop.store.add_event(bare, [])


async def test_a_killed_erasing_is_finished_by_the_next_call(
    open_sqlite: Callable[..., SqliteOutbox],
    wrap: Callable[..., Any],
    keep_kills: Callable[..., Awaitable[list[Path]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasing, "ERASE_LIMIT", 1)
    shop = wrap(open_sqlite())
    for added in list_linked(shop):
        await added
    kills = await keep_kills(shop.store, shop.store.erase_person(number_of(ONE), shop.now))
    assert len(kills) > 20
    halves = 0
    for killed in kills:
        halves += 0 < count_bodies(killed) < 5
        again = SqliteOutbox(killed)
        assert (await again.erase_person(number_of(ONE), shop.now)).open == 0
        assert (await again.export_person(number_of(ONE)))["events"] == []
        assert find_people(killed.parent) == {}
        await again.close()
        shutil.rmtree(killed.parent)
    assert halves > 5, "else nothing was killed in the middle"


def count_bodies(database: Path) -> int:
    db = sqlite3.connect(database)
    try:
        return int(db.execute("SELECT count(*) FROM events WHERE body IS NOT NULL").fetchone()[0])
    finally:
        db.close()


async def test_cutting_the_links_first_would_lose_what_hangs_on_them(
    open_sqlite: Callable[..., SqliteOutbox],
    wrap: Callable[..., Any],
    keep_kills: Callable[..., Awaitable[list[Path]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The known-bad control."""
    monkeypatch.setattr(erasing, "ERASE_LIMIT", 1)
    find = finding.find_person

    async def find_backwards(*given: Any) -> Any:
        found = await find(*given)
        return type(found)(found.about, found.named, found.linked)

    shop = wrap(open_sqlite())
    for added in list_linked(shop):
        await added
    monkeypatch.setattr(erasing, "find_person", find_backwards)
    kills = await keep_kills(shop.store, shop.store.erase_person(number_of(ONE), shop.now))
    monkeypatch.undo()
    left = []
    for killed in kills:
        again = SqliteOutbox(killed)
        await again.erase_person(number_of(ONE), shop.now)
        left.append(find_people(killed.parent))
        await again.close()
    assert any(left)


async def test_a_log_that_others_read_is_not_said_to_be_empty(
    shop: Any, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.sqlite.store.LOG_TRIES", 2)
    await live(shop, range(4_200, 4_300))
    reading = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM events").fetchone()
    assert not (await shop.store.erase_person(number_of(ONE), shop.now)).log_emptied
    assert b"04242" in find_people(database.parent)["relay.db-wal"]
    reading.rollback()
    reading.close()
    assert (await shop.store.erase_person(number_of(ONE), shop.now)).log_emptied
    assert all(b"04242" not in each for each in find_people(database.parent).values())
