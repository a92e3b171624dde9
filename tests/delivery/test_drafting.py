"""A replay's plan while it is worked out: one message of a kind, bounded, and without a value in what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.delivery.replay import Draft, Entry, Verdict, read_sends, write_entries
from app.model.delivery import Delivery, Reason, State
from app.model.message import Message

DELIVERY = Delivery(
    id="d-1",
    event_id="e-1",
    route="coupon",
    provider="gallabox",
    template="coupon_ready",
    recipient="+919800000001",
    message=Message("+919800000001", "coupon_ready"),
    state=State.PENDING,
    reason=None,
    created_at=1,
    due_at=1,
    deadline_at=2,
    dedup_key="ACME-7Q2P",
)


def fill(draft: Draft, number: int, verdict: Verdict = Verdict.SEND, *, taken: bool = False, **changes: Any) -> None:
    entry = Entry(f"e-{number}", "coupon_create", "coupon", verdict, None, f"past-{number}")
    draft.add_delivery(replace(DELIVERY, id=f"d-{number}", **changes), entry, taken=taken)


def list_verdicts(draft: Draft) -> list[str]:
    return [entry.verdict.value for entry in draft.entries]


def test_of_two_that_would_send_the_same_only_the_first_does() -> None:
    draft = Draft()
    fill(draft, 1)
    fill(draft, 2)
    fill(draft, 3, recipient="+919800000002")
    fill(draft, 4, dedup_key="other")
    fill(draft, 5, dedup_key=None)
    fill(draft, 6, dedup_key=None)
    assert list_verdicts(draft) == ["send", "duplicate", "send", "send", "send", "send"]
    assert draft.entries[1].reason is Reason.DUPLICATE
    assert draft.counts == {Verdict.SEND: 5, Verdict.DUPLICATE: 1}


def test_parts_of_a_key_cannot_collide() -> None:
    draft = Draft()
    fill(draft, 1, recipient="+1", dedup_key="23")
    fill(draft, 2, recipient="+12", dedup_key="3")
    assert list_verdicts(draft) == ["send", "send"]


def test_what_another_event_has_sent_is_a_duplicate_and_silences_nobody() -> None:
    draft = Draft()
    fill(draft, 1, taken=True)
    fill(draft, 2)
    fill(draft, 3, Verdict.ACCEPTED, taken=True)
    assert list_verdicts(draft) == ["duplicate", "send", "accepted"]


def test_an_event_that_stands_on_two_pages_is_sent_once() -> None:
    draft = Draft()
    fill(draft, 1, dedup_key=None)
    fill(draft, 1, dedup_key=None)
    assert list_verdicts(draft) == ["send"]


def test_a_plan_ends_at_its_limit_and_says_so() -> None:
    draft = Draft(send_limit=2)
    for number in range(2):
        fill(draft, number, dedup_key=None)
    assert draft.complete
    fill(draft, 9, dedup_key=None)
    assert not draft.complete
    assert list_verdicts(draft) == ["send", "send"]


def test_what_is_not_sent_is_counted_beyond_what_is_listed() -> None:
    draft = Draft(list_limit=2)
    for number in range(5):
        fill(draft, number, Verdict.ACCEPTED)
        fill(draft, 10 + number, dedup_key=None)
    draft.add(Entry("e-99", "coupon_create", "", Verdict.UNROUTED))
    assert draft.counts == {Verdict.SEND: 5, Verdict.ACCEPTED: 5, Verdict.UNROUTED: 1}
    assert list_verdicts(draft).count("accepted") == 2
    assert draft.unlisted == 4


def test_what_is_kept_has_ids_and_verdicts_and_no_value() -> None:
    draft = Draft()
    fill(draft, 1)
    fill(draft, 2)
    draft.add(Entry("e-1", "coupon_create", "other", Verdict.SEND))
    kept = write_entries(draft)
    assert "98000" not in kept
    assert "ACME" not in kept
    assert read_sends(kept) == {"e-1": ["coupon", "other"]}
