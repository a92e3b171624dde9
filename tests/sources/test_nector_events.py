from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sources import SOURCE
from app.sources.nector_events import CouponEvent, NectorEvent, WalletEvent, list_places
from app.sources.properties import Kind, find_notes
from app.values.text import SentFloat


@pytest.mark.parametrize(
    ("topic", "payload", "notes"),
    [
        ("walletreward_create", {}, []),
        ("walletreward_create", {"amount": 100, "available": "1,250.00", "user_mobile": 9800000001}, []),
        ("walletreward_create", {"amount": SentFloat("1.50"), "user_name": "Riya", "theirs": [1]}, []),
        ("walletreward_create", {"amount": None, "user_available": "", "balance": " ", "user_mobile": ""}, []),
        ("walletreward_create", {"customer": {"country": {"code": "IN"}, "more": True}, "lead": None}, []),
        ("walletreward_create", {"amount": "N/A"}, ["`amount` is a text, not a number"]),
        ("walletreward_create", {"amount": "many"}, ["`amount` is a text, not a number"]),
        ("walletreward_create", {"amount": True}, ["`amount` is true or false, not a number"]),
        (
            "walletreward_create",
            {"user_mobile": SentFloat("9.8e9")},
            ["`user_mobile` is a number, not a mobile number"],
        ),
        ("walletreward_create", {"user_name": {"first": "Riya"}}, ["`user_name` is an object, not a name"]),
        ("walletreward_create", {"customer": "Riya"}, ["`customer` is a text, not an object"]),
        ("walletreward_create", {"lead": {"_id": ["l-1"]}}, ["`lead._id` is a list, not the source's own id"]),
        ("coupon_create", {"expire": "soon", "offer": [1]}, ["`expire` is a text, not a date"]),
        ("coupon_create", {"expire": 1_790_000_000, "fiat_value": "200"}, []),
        ("lead_create", {"expire": "soon"}, []),  # of coupons
        ("lead_create", {1: 2, "customer": {1: [], "id": []}}, ["`customer.id` is a list, not an id"]),  # of no JSON
        ("a trigger of their own", {"user_email": [], "amount": []}, ["`user_email` is a list, not a text"]),
        (
            "viptier_create",
            {"tier": [], "customer": {"name": [], "mobile": []}},
            [
                "`customer.name` is a list, not a name",
                "`customer.mobile` is a list, not a mobile number",
                "`tier` is a list, not a text",
            ],
        ),
    ],
)
def test_what_is_of_another_kind_is_noted_by_its_name(topic: str, payload: dict[Any, Any], notes: list[str]) -> None:
    assert list(find_notes(SOURCE.find_model(topic), payload)) == notes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.untraced
@given(st.dictionaries(st.sampled_from([*SOURCE.properties["coupon_create"]]) | st.text(), JSON, max_size=8))
def test_noting_never_raises_and_changes_nothing(payload: dict[str, Any]) -> None:
    before = repr(payload)
    find_notes(CouponEvent, payload)
    assert repr(payload) == before


def test_a_note_holds_no_value() -> None:
    secret = "RIYA-4711"
    payload = {"amount": secret.replace("4711", "x"), "customer": {"mobile": [secret], "name": {secret: secret}}}
    notes = find_notes(WalletEvent, payload)
    assert len(notes) == 3
    assert "RIYA" not in "".join(notes)


def test_the_first_place_that_a_model_has_counts_first() -> None:
    assert [".".join(map(str, path)) for path in list_places(Kind.MOBILE)] == [
        "user_mobile",
        "mobile",
        "customer.mobile",
        "lead.mobile",
    ]
    assert list_places(Kind.NAME) == (("user_name",), ("customer", "name"), ("name",), ("lead", "name"))
    assert list_places(Kind.OWN_ID) == (("customer", "_id"), ("lead", "_id"))
    assert ("customer", "id") in list_places(Kind.ID)


def test_every_topic_has_a_model_and_an_unknown_one_the_common_one() -> None:
    assert all(issubclass(SOURCE.find_model(topic), NectorEvent) for topic in SOURCE.topics)
    assert SOURCE.find_model("a trigger of their own") is NectorEvent
