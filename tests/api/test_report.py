"""`GET /report`, from the webhooks to the numbers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from app.api.deliveries import NOTE
from app.outbox.retention import wipe_payloads

COUPON = {
    "user_name": "Riya", "user_mobile": "9800000001", "user_customer_id": "shopify-1", "value": "ACME-7Q2P",
    "fiat_value": 200, "expire": "2099-12-31",
}  # fmt: skip
USED = {"user_mobile": "9800000001", "value": "ACME-7Q2P", "status": "used"}
COUNTS = {
    "received", "accepted", "delivered", "read", "clicked", "acted", "ordered", "failed", "waiting", "dead", "expired",
    "unknown", "suppressed", "reported",
}  # fmt: skip


@pytest.fixture
async def sent(relay: Any) -> str:
    """The id of a coupon's accepted delivery to Riya."""
    (delivery,) = (await relay.post(COUPON, "coupon_create")).json()["deliveries"]
    await relay.wait_for(delivery["id"], "accepted")
    return str(delivery["id"])


async def report(relay: Any, **query: str) -> dict[str, Any]:
    answer = await relay.ops("GET", "/report", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def count(relay: Any, name: str = "acted", **query: str) -> int:
    return int((await report(relay, **query))["total"][name])


async def test_the_answer_has_the_keys_of_the_contract(relay: Any, sent: str) -> None:
    assert sent
    answer = await report(relay)
    assert list(answer) == ["since", "until", "by", "window", "rows", "total", "note", "unheard"]
    assert (answer["by"], answer["window"], answer["note"]) == ("route", "7d", NOTE)
    assert answer["since"].endswith("Z")
    (row,) = answer["rows"]
    assert set(row) == COUNTS | {"key"}
    assert set(answer["total"]) == COUNTS
    assert (row["key"], row["received"], row["accepted"]) == ("coupon-ready", 1, 1)
    assert "correlation" in answer["note"]


async def test_a_coupon_that_is_used_after_its_message_counts(relay: Any, sent: str) -> None:
    assert sent
    assert await count(relay) == 0
    await relay.post(USED, "coupon_update")
    assert await count(relay) == 1
    for by, key in (("route", "coupon-ready"), ("topic", "coupon_create")):
        assert [(row["key"], row["acted"]) for row in (await report(relay, by=by))["rows"]] == [(key, 1)]
    await relay.post(USED, "coupon_update")
    await relay.post(USED, "coupon_update")
    assert await count(relay) == 1
    assert await count(relay, window="1ms") == 0


async def test_what_counts_for_nothing(relay: Any) -> None:
    await relay.post(USED, "coupon_update")  # before there was a message
    (delivery,) = (await relay.post(COUPON, "coupon_create")).json()["deliveries"]
    await relay.wait_for(delivery["id"], "accepted")
    for topic, changes in (
        ("coupon_update", {"user_mobile": "9800000002"}),
        ("coupon_update", {"status": "expired"}),
        ("wallettrasaction_update", {"operation": "dr"}),
        ("order_update", {}),
    ):
        await relay.post({**USED, **changes}, topic)
    total = (await report(relay))["total"]
    assert (total["accepted"], total["acted"], total["ordered"]) == (1, 0, 0)


async def test_an_order_is_ordered_whatever_the_message_was_for(relay: Any, sent: str) -> None:
    assert sent
    await relay.post({"customer": {"id": "shopify-1"}, "total": 999}, "order_create")  # an order without a number
    assert (await count(relay), await count(relay, "ordered")) == (0, 1)


async def test_a_wiped_payload_still_counts(relay: Any, sent: str) -> None:
    await relay.post(USED, "coupon_update")
    assert await wipe_payloads(relay.outbox, 2**62) == 1
    assert (await relay.delivery(sent))["message"] is None
    assert await count(relay) == 1


async def test_a_test_message_is_not_counted(open_relay: Any) -> None:
    async with open_relay(RELAY_TEST_NUMBERS="+919800000009") as relay:
        answer = await relay.ops("POST", "/send-test", json={"route": "coins-earned", "to": "+919800000009"})
        assert answer.status_code == 202, answer.text
        assert (await report(relay))["rows"] == []


async def test_an_empty_report_is_a_total_of_nothing(relay: Any) -> None:
    answer = await report(relay, since="1h", until="", by="day", window="36h")
    assert (answer["rows"], answer["window"]) == ([], "36h")
    assert set(answer["total"].values()) == {0}


@pytest.mark.parametrize(
    "bounds",
    [{"since": "999999999d"}, {"since": "2020-01-01", "until": "9999-12-31"}, {"until": "2099-01-01T00:00:00Z"}],
)
async def test_bounds_beyond_all_deliveries_are_the_first_and_the_last(
    relay: Any, sent: str, bounds: dict[str, str]
) -> None:
    assert sent
    assert await count(relay, "received", **bounds) == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "yesterday"}, "since: must be how long ago"),
        ({"until": "31/12/2026"}, "until: must be how long ago"),
        ({"since": "1h", "until": "2h"}, "until: must be later than since"),
        ({"since": "2099-01-01"}, "since: must not be in the future"),
        ({"since": ""}, "since: must be"),
        ({"window": "a week"}, "window: must be a duration"),
        ({"window": "0d"}, "window: must be longer"),
        ({"by": "customer"}, "query.by:"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_query_is_422_and_names_the_field(relay: Any, query: dict[str, str], said: str) -> None:
    answer = await relay.ops("GET", "/report", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


async def test_a_report_of_a_closed_outbox_is_503(relay: Any) -> None:
    await relay.outbox._late_reader.close()
    answer = await relay.ops("GET", "/report")
    assert (answer.status_code, "closed" in answer.json()["detail"]) == (503, True)


async def test_what_no_topic_has_ever_told_is_named_until_it_comes(relay: Any, sent: str) -> None:
    assert sent
    silent = [
        {"topic": "coupon_update", "column": "acted", "rows": ["coupon-ready"]},
        {"topic": "order_create", "column": "ordered", "rows": ["coupon-ready"]},
    ]
    assert (await report(relay))["unheard"] == silent
    assert [one["rows"] for one in (await report(relay, by="topic"))["unheard"]] == [["coupon_create"]] * 2
    await relay.post({**USED, "status": "issued"}, "coupon_update")  # tells of no act, and that the webhook is there
    assert (await report(relay))["unheard"] == silent[1:]
    assert [one["column"] for one in (await report(relay, by="day"))["unheard"]] == ["ordered"]


async def test_what_was_told_and_forgotten_since_is_no_silence(relay: Any, sent: str) -> None:
    assert sent
    await relay.post(USED, "coupon_update")
    with closing(sqlite3.connect(relay.outbox.path)) as db, db:
        db.execute("DELETE FROM events WHERE topic = 'coupon_update'")
    assert [one["topic"] for one in (await report(relay))["unheard"]] == ["order_create"]
