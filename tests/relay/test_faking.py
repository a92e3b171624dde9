from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.relay.recorder import NAMES, fake_payload
from app.values.text import SentFloat, list_paths

KEY = b"a key"


def fake(name: str, value: Any, key: bytes = KEY) -> Any:
    return fake_payload({name: value}, key)[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "100"),
        ("amount", "-1250.50"),
        ("amount", 100),
        ("amount", SentFloat("199.50")),
        ("expire", "2026-12-31T18:29:59.000Z"),
        ("expire", "2026-12-31"),
        ("business_name", "Acme Store"),
        ("user_tier", "Gold"),
        ("fiat_class", "percent"),
        ("country", "ind"),
        ("flag", True),
        ("nothing", None),
        ("empty", ""),
        ("user_name", "null"),
        ("user_mobile", ""),
    ],
)
def test_what_is_of_no_person_stays(name: str, value: Any) -> None:
    assert fake(name, value) == value


@pytest.mark.parametrize(
    ("name", "value", "pattern"),
    [
        ("user_mobile", "9876543210", r"98000000\d\d"),
        ("user_mobile", "+91 98765-43210", r"\+9198000000\d\d"),
        ("customer_phone", "919876543210", r"9198000000\d\d"),
        ("mobile", "971501234567", r"\+9198000000\d\d"),
        ("note", "98765 43210", r"98000000\d\d"),
        ("user_email", "priya@shop.example", r"[a-z]+\d{1,2}@example\.com"),
        ("anything", "priya@shop.example", r"[a-z]+\d{1,2}@example\.com"),
        ("user_name", "Priya Sharma", "|".join(NAMES)),
        ("name", "Priya", "|".join(NAMES)),
        ("first_name", "Priya", "|".join(NAMES)),
        ("value", "ACME-7Q2P", r"[A-Z]{4}-\d[A-Z]\d[A-Z]"),
        ("product_name", "Red Shoes", r"[A-Z][a-z]{2} [A-Z][a-z]{4}"),
        ("status", "mail to priya@shop.example", r"[a-z]{4} [a-z]{2} [a-z]{5}@[a-z]{4}\.[a-z]{7}"),
        ("link", "https://acme.example/r/ABC1?c=X", r"https://shop\.example/[a-z]/[A-Z]{3}\d\?[a-z]=[A-Z]"),
        ("link", "https://acme.example", r"https://shop\.example/"),
        ("review", "नमस्ते Priya", r".*"),
    ],
)
def test_what_may_be_a_persons_is_replaced_by_the_like(name: str, value: str, pattern: str) -> None:
    shown = fake(name, value)
    assert re.fullmatch(pattern, shown)
    assert shown != value


def test_large_numbers_and_numbers_to_call_are_replaced() -> None:
    assert fake("id", 123_456_789_012) not in {123_456_789_012, 0}
    assert len(str(fake("id", 123_456_789_012))) == 12
    assert fake("mobile", 12345) != 12345
    assert isinstance(fake("price", SentFloat("12345678.5")), int)


@pytest.mark.parametrize("number", ["98000", "+91 98", "1" * 16])
def test_what_cannot_be_a_number_stays_none_so_that_its_event_dies_again(number: str) -> None:
    faked = fake("user_mobile", number)
    assert re.sub("[0-9]", "1", faked) == re.sub("[0-9]", "1", number)
    assert faked != number


def test_the_same_value_gets_the_same_fake_and_another_key_another() -> None:
    shown = fake_payload({"user_mobile": "9876543210", "customer": {"mobile": "+919876543210", "id": "abc"}}, KEY)
    assert shown["customer"]["mobile"] == f"+91{shown['user_mobile']}"
    assert fake("code", "ACME-7Q2P") == fake("code", "ACME-7Q2P")
    assert fake("code", "ACME-7Q2P") != fake("code", "ACME-7Q2P", b"another key")


def test_the_shape_stays_and_long_lists_are_cut() -> None:
    payload = {"items": [{"code": "A1"}] * 30, "customer": {"wallet": {"available": "5"}}}
    shown = fake_payload(payload, KEY)
    assert [*list_paths(shown)] == [*list_paths(payload)]
    assert len(shown["items"]) == 20
    assert fake_payload({"priya@shop.example": 1}, KEY).keys() != {"priya@shop.example"}


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(payload=st.dictionaries(st.text(), VALUES, max_size=5))
def test_any_payload_can_be_faked_and_written(payload: dict[str, Any]) -> None:
    json.dumps(fake_payload(payload, KEY))
