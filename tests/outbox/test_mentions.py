"""A number is found wherever it stands and however it is written, and another's is not taken for it."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from app.outbox.find import is_told_by_id, mentions, seek_number

SOUGHT = seek_number("+919800000001")

WRITTEN: list[tuple[Any, bool]] = [
    ("9800000001", True),
    (919800000001, True),
    (9800000001.0, True),
    ("+91 98000-00001", True),
    ("call (+91) 98000 00001 now", True),
    ("+91 (0) 98000 00001", True),
    ("009198000 00001", True),
    ("098000 00001", True),
    ("9800000002 9800000001", True),
    ("+919800000002, 9800000001", True),
    ("919800000001@c.us", True),
    ("https://wa.me/919800000001?text=%F0%9F%98%80", True),
    ("tel:%2B91%209800000001", True),
    ("98000%2000001", True),
    ("2026-01-01 9800000001", True),
    ("\u0669\u0668\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661", True),
    ("\uff19\uff18\uff10\uff10\uff10 \uff10\uff10\uff10\uff10\uff11", True),
    ("98000\u00a000001", True),
    ("\u202a+91 98000\u200b00001\u202c", True),
    ({"a": [{"b": ["9800000001"]}]}, True),
    ({"9800000001": 1}, True),
    ("+1 9800000001", False),
    ("+1 (980) 000-0001", False),
    ("19800000001", False),
    ("98000000012", False),
    ("55598000000015", False),
    ("98000 0000", False),
    ("+91980000000", False),
    (None, False),
    (True, False),
    ([], False),
    (["98000000012"], False),
]


@pytest.mark.parametrize(("value", "expected"), WRITTEN)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_number_is_seen_in_any_writing(value: Any, expected: bool, ascii_only: bool) -> None:
    assert mentions(SOUGHT, json.dumps({"x": value}, ensure_ascii=ascii_only).encode()) is expected


@pytest.mark.parametrize(
    ("body", "expected"), [(b"no JSON: 98000 00001 {", True), (b"no JSON {", False), (b"\xff 9800000001", True)]
)
def test_what_is_no_json_is_read_as_a_text(body: bytes, expected: bool) -> None:
    assert mentions(SOUGHT, body) is expected


@pytest.mark.parametrize(
    ("number", "text"),
    [("+14155550123", "(415) 555-0123"), ("+447911123456", "07911 123456"), ("+447911123456", "+44 (0)7911 123456")],
)
def test_other_countries_have_their_own_ways(number: str, text: str) -> None:
    assert mentions(seek_number(number), json.dumps([text]).encode())
    assert not mentions(SOUGHT, json.dumps([text]).encode())


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        ("+525512345678", "5215512345678", True),
        ("+525512345678", "+52 1 55 1234 5678", True),
        ("+525512345678", "55 1234 5678", True),
        ("+525512345678", "+53 55 1234 5678", False),
        ("+5491123456789", "+54 11 2345 6789", True),
        ("+5491123456789", "+54 9 11 2345-6789", True),
        ("+5491123456789", "11 2345 6789", True),
        ("+201001234567", "+20 100 123 4567", True),
        ("+201001234567", "+20 (0) 100 123 4567", True),
    ],
)
def test_a_number_with_two_forms_is_found_under_both(number: str, text: str, expected: bool) -> None:
    assert mentions(seek_number(number), json.dumps([text]).encode()) is expected
    wamid = base64.b64encode(re.sub("[^0-9]", "", text).encode()).decode()
    if text.startswith(("+52", "+54", "52")):
        assert is_told_by_id(seek_number(number), f"wamid.{wamid}")


WAMID = base64.b64encode(b"\x1d\x18\x0c919800000001\x15\x02\x00\x11").decode()


@pytest.mark.parametrize(
    ("message_id", "expected"),
    [
        (f"wamid.{WAMID}", True),
        (f"wamid.{WAMID.rstrip('=')}", True),
        (WAMID, True),
        ("x-919800000001", True),
        ("wamid.HBgMOTE5ODAwMDAwMDAyFQIA", False),
        ("65f0c2", False),
        ("a", False),
        ("é", False),
    ],
)
def test_whatsapps_own_ids_are_known_to_hold_the_number(message_id: str, expected: bool) -> None:
    assert is_told_by_id(SOUGHT, message_id) is expected
