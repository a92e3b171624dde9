"""People whom an earlier release knew by another form: Argentina's without the 9, Mexico's with the 1."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from typing import Any

import pytest

from app.model.message import Reply
from app.outbox import people
from app.outbox.add import hash_dedup_key
from app.outbox.store import Tx

BUENOS_AIRES, FORMER = "+5491123456789", "+541123456789"
MEXICO, WHATSAPP = "+525512345678", "+5215512345678"
OPTED_OUT = ("suppressed", "recipient_opted_out", None)


def hash_as_before(key: bytes, number: str) -> bytes:
    return hmac.digest(key, f"number:{number}".encode(), hashlib.sha256)[:16]


def run(tx: Tx, sql: str, **values: Any) -> int:
    return tx.run(sql, **values)


async def keep_as_before(shop: Any, number: str) -> None:
    """Write an opt-out as the earlier release did."""
    person = hash_as_before(shop.store._people_key, number)
    await shop.store.write(
        partial(run, sql="INSERT INTO suppressions VALUES (:person, 'stop_reply', 1)", person=person)
    )


async def count_opt_outs(shop: Any) -> int:
    return int((await shop.store.count_suppressions()).suppressed)


@pytest.mark.parametrize(("number", "former"), [(BUENOS_AIRES, FORMER), (MEXICO, WHATSAPP)])
async def test_an_opt_out_under_the_former_number_still_holds(shop: Any, number: str, former: str) -> None:
    await keep_as_before(shop, former)
    event = shop.event()
    assert await shop.store.find_suppressed([shop.delivery(event, recipient=number)]) != set()
    assert await shop.show(await shop.add(recipient=number)) == OPTED_OUT
    assert await count_opt_outs(shop) == 1
    await shop.store.lift_suppressions([number])
    assert await count_opt_outs(shop) == 0
    assert (await shop.show(await shop.add(recipient=number)))[0] == "pending"


@pytest.mark.parametrize(("number", "former"), [(BUENOS_AIRES, FORMER), (MEXICO, WHATSAPP)])
async def test_who_opted_out_under_both_is_one_person(shop: Any, number: str, former: str) -> None:
    await keep_as_before(shop, former)
    await shop.store.suppress_people([number], "by_hand", shop.now)
    assert await count_opt_outs(shop) == 1
    await keep_as_before(shop, former)
    await shop.store.lift_suppressions([number])
    assert (await shop.show(await shop.add(recipient=number)))[0] == "pending"


async def test_control_somebody_else_is_not_silenced(shop: Any) -> None:
    await keep_as_before(shop, FORMER)
    assert (await shop.show(await shop.add(recipient="+5491123456780")))[0] == "pending"


async def test_a_reply_from_whatsapps_own_id_is_that_persons(shop: Any) -> None:
    await shop.store.apply_reply("gallabox", Reply(WHATSAPP), "stop", shop.now)
    assert await shop.show(await shop.add(recipient=MEXICO)) == OPTED_OUT
    await shop.store.apply_reply("gallabox", Reply(MEXICO), "resume", shop.now + 1)
    assert (await shop.show(await shop.add(recipient=MEXICO)))[0] == "pending"


async def test_a_key_that_was_seen_with_the_former_number_is_no_new_one(shop: Any) -> None:
    event = shop.event()
    hashed = hash_dedup_key(shop.delivery(event, recipient=FORMER, dedup_key="ACME-7Q2P"))
    sql = "INSERT INTO dedup_keys (hash, seen_at, event_seq) VALUES (:hashed, :now, 99)"
    await shop.store.write(partial(run, sql=sql, hashed=hashed, now=shop.now))
    delivery = shop.delivery(event, recipient=BUENOS_AIRES, dedup_key="ACME-7Q2P")
    assert await shop.store.find_duplicates([delivery], shop.now) == {delivery.id}
    shown = await shop.show(await shop.add(recipient=BUENOS_AIRES, dedup_key="ACME-7Q2P"))
    assert shown == ("suppressed", "duplicate", None)


async def test_what_is_kept_under_the_former_number_is_exported_and_erased(shop: Any) -> None:
    kept = await shop.add(recipient=FORMER)
    person = hash_as_before(shop.store._people_key, FORMER)
    await shop.store.write(partial(run, sql="UPDATE deliveries SET person = :person", person=person))
    record = await shop.store.export_person(BUENOS_AIRES)
    assert [each["recipient"] for event in record["events"] for each in event["deliveries"]] == [FORMER]
    assert (await shop.store.erase_person(BUENOS_AIRES, shop.now)).deliveries == 1
    assert (await shop.read(kept))["recipient"] == ""


def test_hashes_know_one_person_by_both() -> None:
    assert people.hash_person(b"key", FORMER) == people.hash_person(b"key", BUENOS_AIRES)
    assert people.hash_other_form(b"key", BUENOS_AIRES) == hash_as_before(b"key", FORMER)
    assert people.hash_other_form(b"key", "+919800000001") is None
