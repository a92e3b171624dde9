"""What suppressions, marks and replies promise, whatever the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.delivery.replay import Verdict
from app.model.delivery import Outcome, Reason, Rejected, Scope, State
from app.model.message import ReceiptStatus, Reply, Wish
from app.outbox.replay import Plan
from app.outbox.values import Heard, SuppressionCounts

RIYA, ARJUN = "+919800000001", "+919800000002"
OPTED_OUT = ("suppressed", "recipient_opted_out", None)
GONE = Decision(State.DEAD, Reason.RECIPIENT_OPTED_OUT)
MINUTE = 60_000


async def hear(
    shop: Any,
    wish: Wish | None = None,
    *,
    sender: str = RIYA,
    after_ms: int = 0,
    chosen: bool = False,
    **fields: Any,
) -> Heard:
    reply = Reply(sender, wish=wish if chosen else None, **fields)
    heard: Heard = await shop.store.apply_reply("gallabox", reply, wish, shop.now + after_ms)
    return heard


async def reasons(shop: Any) -> list[str]:
    rows, _ = await shop.store.list_suppressions(100, None)
    return [row["reason"] for row in rows]


async def counts(shop: Any) -> tuple[int, int]:
    counted: SuppressionCounts = await shop.store.count_suppressions()
    return counted.suppressed, counted.unreachable


# -- what is withheld ------------------------------------------------------------------------------


async def test_who_opted_out_gets_no_marketing_and_everything_else(shop: Any) -> None:
    await hear(shop, "stop")
    silenced = await shop.add(recipient=RIYA)
    utility = await shop.add(recipient=RIYA, marketing=False)
    other = await shop.add(recipient=ARJUN)
    assert await shop.show(silenced) == OPTED_OUT
    assert {each.delivery.id for each in await shop.claim()} == {utility, other}
    assert await shop.timeline(silenced) == [("suppressed", "recipient_opted_out")]


async def test_what_waited_when_they_opted_out_does_not_leave(shop: Any) -> None:
    waiting = await shop.add(recipient=RIYA)
    utility = await shop.add(recipient=RIYA, marketing=False)
    await hear(shop, "stop")
    assert (await shop.show(waiting))[0] == "pending"
    assert [each.delivery.id for each in await shop.claim()] == [utility]
    assert await shop.show(waiting) == OPTED_OUT
    assert await shop.store.next_due_at("gallabox") is None


async def test_a_retry_does_not_go_round_an_opt_out(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.close(await shop.claim_one(), Rejected(Reason.REQUEST_REFUSED), GONE)
    await hear(shop, "stop")
    assert await shop.store.retry_deliveries([delivery_id], shop.now) == [delivery_id]
    assert await shop.claim(after_ms=MINUTE) == []
    assert await shop.show(delivery_id) == OPTED_OUT


async def test_what_is_sent_again_by_itself_does_not_either(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA, on_unknown="resend")
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=1)
    await hear(shop, "stop")
    assert (await shop.store.sweep(shop.now + 1, 0)).resent == 1
    assert await shop.claim(after_ms=MINUTE) == []
    assert await shop.show(delivery_id) == OPTED_OUT
    await shop.receive(ReceiptStatus.DELIVERED, delivery_id)  # it had arrived the first time
    assert await shop.show(delivery_id) == ("accepted", None, "delivered")


async def test_what_was_never_tried_stays_suppressed_whatever_is_reported(shop: Any) -> None:
    await hear(shop, "stop")
    delivery_id = await shop.add(recipient=RIYA)
    await shop.receive(ReceiptStatus.DELIVERED, delivery_id)
    assert (await shop.show(delivery_id))[0] == "suppressed"


async def test_a_replay_leaves_out_who_opted_out_since(shop: Any) -> None:
    event = shop.event()
    await shop.store.add_event(event, [])
    again = shop.delivery(event, recipient=RIYA, created_at=shop.now + 1)
    utility = shop.delivery(event, recipient=RIYA, created_at=shop.now + 1, route="r", template="t", marketing=False)
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    assert await shop.store.find_suppressed([again, utility]) == set()
    await hear(shop, "stop")
    assert await shop.store.find_suppressed([again, utility]) == {again.id}
    applied = await shop.store.apply_plan("plan-1", [again, utility], shop.now + 1)
    assert applied is not None
    assert (applied.left_out, [row.id for row in applied.deliveries]) == ({again.id: Verdict.DEAD}, [utility.id])


@pytest.mark.parametrize("state", [State.DEAD, State.EXPIRED])
async def test_what_would_not_go_out_anyway_keeps_its_own_reason(shop: Any, state: State) -> None:
    await hear(shop, "stop")
    delivery_id = await shop.add(recipient=RIYA, state=state, reason=Reason.DEADLINE_PASSED)
    assert (await shop.show(delivery_id))[:2] == (state, "deadline_passed")


async def test_in_shadow_it_is_recorded_too(shop: Any) -> None:
    await hear(shop, "stop")
    assert await shop.show(await shop.add(recipient=RIYA, state=State.SHADOW)) == OPTED_OUT


async def test_what_is_withheld_is_no_first_of_its_kind(shop: Any) -> None:
    await hear(shop, "stop")
    await shop.add(recipient=RIYA, dedup_key="ACME-7Q2P")
    await shop.store.lift_suppressions([RIYA])
    assert (await shop.show(await shop.add(recipient=RIYA, dedup_key="ACME-7Q2P")))[0] == "pending"


async def test_opt_outs_outlive_a_restart_and_the_deliveries_that_told_of_them(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    await shop.add(recipient=RIYA)
    await shop.close(await shop.claim_one(), Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT), GONE)
    assert await shop.store.forget_records(shop.now + 1) == 1
    await shop.store.close()
    assert await reasons(open_shop()) == ["refused"]


# -- who opts out, and how -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.RECIPIENT_OPTED_OUT, (1, 0)),
        (Reason.RECIPIENT_UNREACHABLE, (0, 1)),
        (Reason.RECIPIENT_CAPPED, (0, 0)),
        (Reason.TEMPLATE_REFUSED, (0, 0)),
    ],
)
async def test_a_refusal_says_of_a_person_what_a_failed_receipt_says(
    shop: Any, reason: Reason, expected: tuple[int, int]
) -> None:
    outcome: Outcome = Rejected(reason, Scope.RECIPIENT)
    await shop.add(recipient=RIYA)
    await shop.close(await shop.claim_one(), outcome, Decision(State.DEAD, reason))
    assert await counts(shop) == expected
    accepted = await shop.add(recipient=ARJUN)
    await shop.accept(await shop.claim_one())
    await shop.receive(ReceiptStatus.FAILED, accepted, reason=reason)
    assert await counts(shop) == (2 * expected[0], 2 * expected[1])


async def test_nothing_is_withheld_from_who_could_not_be_reached_until_a_message_arrives(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one())
    await shop.receive(ReceiptStatus.FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE)
    assert await counts(shop) == (0, 1)
    second = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one(after_ms=MINUTE))
    await shop.receive(ReceiptStatus.SENT, second)
    assert await counts(shop) == (0, 1)
    await shop.receive(ReceiptStatus.DELIVERED, second)
    assert await counts(shop) == (0, 0)
    await shop.receive(ReceiptStatus.FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE)  # the first again
    assert await counts(shop) == (0, 0)


async def test_a_failure_after_it_arrived_marks_nobody(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one())
    await shop.receive(ReceiptStatus.READ, delivery_id)
    await shop.receive(ReceiptStatus.FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE)
    assert await counts(shop) == (0, 0)


async def test_by_hand_only_what_changes_is_counted(shop: Any) -> None:
    assert await shop.store.suppress_people([RIYA, RIYA, ARJUN, ""], "complaint", shop.now) == 2
    assert await shop.store.suppress_people([RIYA], "by_hand", shop.now + 1) == 0
    assert sorted(await reasons(shop)) == ["complaint", "complaint"]
    assert await shop.store.lift_suppressions([RIYA, RIYA, "+919800000009"]) == 1
    assert (await shop.show(await shop.add(recipient=RIYA)))[0] == "pending"


@pytest.mark.parametrize(
    ("steps", "suppressed"),
    [
        ([("stop", 1), ("stop", 1)], True),
        ([("stop", 1), ("resume", 2)], False),
        ([("stop", 1), ("resume", 2), ("stop", 1)], False),  # the first webhook again
        ([("resume", 2), ("stop", 1)], False),  # they overtook each other
        ([("resume", 1), ("stop", 2)], True),
        ([("stop", 2), ("resume", 1)], True),
        ([("stop", 1), ("stop", 3), ("resume", 2)], True),
        ([("stop", 1), ("resume", 2), ("stop", 3), ("resume", 2)], True),
        ([("stop", 1), ("resume", 1)], True),  # in one second: the safe reading
    ],
)
async def test_a_wish_counts_from_when_it_was_uttered(
    shop: Any, steps: list[tuple[Wish, int]], suppressed: bool
) -> None:
    for wish, at in steps:
        await hear(shop, wish, at=shop.now + at, after_ms=MINUTE, chosen=True)
    assert await reasons(shop) == ["preference"] * suppressed


async def test_a_resume_from_the_future_does_not_silence_the_stops_until_then(shop: Any) -> None:
    await hear(shop, "resume", at=shop.now + 10**9)
    assert (await hear(shop, "stop", at=shop.now + 1, after_ms=1)).changed


@pytest.mark.parametrize("at", [None, 1])
async def test_where_the_time_is_not_said_a_stop_wins(shop: Any, at: int | None) -> None:
    await hear(shop, "resume", at=at and shop.now + MINUTE, after_ms=MINUTE)
    assert (await hear(shop, "stop", after_ms=1)).changed, "our clock may have been set back meanwhile"


async def test_a_refusal_of_now_counts_whatever_was_wished_before(shop: Any) -> None:
    await hear(shop, "resume", at=shop.now + MINUTE, after_ms=MINUTE)
    await shop.add(recipient=RIYA)
    await shop.close(await shop.claim_one(), Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT), GONE)
    assert await reasons(shop) == ["refused"]


async def test_a_persons_word_outranks_what_was_wished_before(shop: Any) -> None:
    await hear(shop, "resume", at=shop.now + MINUTE, after_ms=MINUTE)
    assert await shop.store.suppress_people([RIYA], "by_hand", shop.now) == 1
    assert await shop.store.lift_suppressions([RIYA]) == 1
    await hear(shop, "stop", at=shop.now + 2 * MINUTE)
    assert await shop.store.lift_suppressions([RIYA]) == 1
    assert await reasons(shop) == []


async def test_who_replies_is_known_by_the_message_where_the_sender_is_not_said(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    assert await hear(shop, "stop", sender="", delivery_id="of nobody") == Heard()
    heard = await hear(shop, "stop", sender="", delivery_id=delivery_id)
    assert (heard.delivery_id, heard.route, heard.changed) == (delivery_id, "coupon-ready", True)
    assert await hear(shop, "resume", sender="") == Heard()


# -- listing ---------------------------------------------------------------------------------------


async def test_the_pages_of_a_list_are_the_whole_list(shop: Any) -> None:
    numbers = [f"+9198000000{number:02}" for number in range(25)]
    await shop.store.suppress_people(numbers, "by_hand", shop.now)
    found: list[Any] = []
    cursor: str | None = None
    for size in (10, 10, 5):
        page, cursor = await shop.store.list_suppressions(10, cursor)
        assert len(page) == size
        found += page
    assert cursor is None
    assert len({row["id"] for row in found}) == 25
    assert not [row for row in found if any(number[1:] in row["id"] for number in numbers)]
    with pytest.raises(ValueError, match="not one of ours"):
        await shop.store.list_suppressions(10, "nonsense")


# -- taps ------------------------------------------------------------------------------------------


async def test_the_first_tap_is_a_click_and_proves_that_it_was_read(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one(), "wamid.1")
    assert (await hear(shop, tapped=True, provider_message_id="wamid.1")).clicked
    once = await shop.read(delivery_id)
    assert (once["state"], once["receipt"]) == ("accepted", "read")
    assert [(row["kind"], row["value"]) for row in once["timeline"]][-2:] == [("reply", "clicked"), ("receipt", "read")]
    assert not (await hear(shop, tapped=True, delivery_id=delivery_id, after_ms=1)).clicked
    assert await shop.read(delivery_id) == once


async def test_a_tap_settles_what_is_unknown(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    await hear(shop, tapped=True, delivery_id=delivery_id)
    assert await shop.show(delivery_id) == ("accepted", None, "read")


async def test_a_text_is_no_click_and_a_tap_on_stop_is_none_either(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one())
    assert not (await hear(shop, delivery_id=delivery_id)).clicked
    assert await shop.show(delivery_id) == ("accepted", None, None)
    heard = await hear(shop, "stop", tapped=True, delivery_id=delivery_id)
    assert (heard.clicked, heard.changed) == (False, True)
    assert await shop.show(delivery_id) == ("accepted", None, "read")


async def test_a_tap_finds_its_message_by_the_id_that_only_a_receipt_told(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one(), "gallabox-1")
    await shop.receive(ReceiptStatus.SENT, None, "gallabox-1", wamid="wamid.1")
    assert (await hear(shop, tapped=True, provider_message_id="wamid.1")).delivery_id == delivery_id


async def test_a_tap_finds_its_message_after_its_ids_were_wiped(shop: Any) -> None:
    delivery_id = await shop.add(recipient=RIYA)
    await shop.accept(await shop.claim_one(), "gallabox-1")
    await shop.receive(ReceiptStatus.SENT, None, "gallabox-1", wamid="wamid.1")
    assert await shop.store.wipe_payloads(shop.now + 1) == 1
    assert (await hear(shop, tapped=True, provider_message_id="wamid.1")).delivery_id == delivery_id
