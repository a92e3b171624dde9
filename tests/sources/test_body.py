from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refusal
from app.sources.body import parse_body
from app.values.text import SentFloat


def test_body_is_read_with_its_numbers_as_sent() -> None:
    payload = parse_body(b'{"a": 199.50, "b": 100, "c": 12345678901234567890, "d": -0, "e": 1E5, "f": "x", "g": [1.0]}')
    assert isinstance(payload, dict)
    assert {key: str(value) for key, value in payload.items() if key != "g"} == {
        "a": "199.50",
        "b": "100",
        "c": "12345678901234567890",
        "d": "-0",
        "e": "1E5",
        "f": "x",
    }
    assert payload["a"] == 199.5
    assert isinstance(payload["g"][0], SentFloat)
    assert [type(payload[key]) for key in "bcd"] == [int, str, SentFloat]


@pytest.mark.parametrize(
    ("number", "kind"), [("9" * 18, int), ("-" + "9" * 18, int), ("9" * 19, str), ("9" * 9999, str)]
)
def test_long_integers_stay_texts(number: str, kind: type) -> None:
    payload = parse_body(f'{{"n": {number}}}'.encode())
    assert isinstance(payload, dict)
    assert type(payload["n"]) is kind
    assert str(payload["n"]) == number


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is not JSON at line 1, column 1"),
        (b"   ", "the body is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "the body is not UTF-8 at byte 0"),
        ('{"a": 1}'.encode("utf-16-le"), "the body is not JSON"),
        (b'{"a": "\xff"}', "the body is not UTF-8 at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "the body is not UTF-8 at byte 7"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": [Infinity]}', "Infinity is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e400}', "a number is too large"),
        (b'{"a": -1.0e999}', "a number is too large"),
        (b'{"mobile": "1", "mobile": "2"}', "the key `mobile` is there twice in one object"),
        (b'{"a": [{"b": {"c": 1, "c": 1}}]}', "the key `c` is there twice in one object"),
        (b'{"+919800000001": 1, "+919800000001": 1}', "a key is there twice in one object"),
        (b'{"' + b"k" * 41 + b'": 1, "' + b"k" * 41 + b'": 1}', "a key is there twice in one object"),
        (b'{"a": 1}{', "the body is not JSON at line 1, column 9: Extra data"),
        (b'{"a": 1,}', "the body is not JSON"),
        (b'{"a": "\n"}', "the body is not JSON at line 1, column 8"),
        (b"{'a': 1}", "the body is not JSON"),
        (b'{"a": "\\ud800"}', "a text holds half a character"),
        (b'{"a": [{"\\uDFFF": 1}]}', "a text holds half a character"),
        (b'{"a": ["\\udc00\\ud800"]}', "a text holds half a character"),
        (b"[" * 65_536, "the body is nested deeper than 32 levels"),
        (b'{"a":' * 10_000, "the body is nested deeper than 32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "the body is nested deeper than 32 levels"),
        (b'"' + b'\\"' * 30_000 + b"[" * 40, "the body is not JSON"),
    ],
)
def test_bad_json_is_400_and_says_where(body: bytes, detail: str) -> None:
    fault = parse_body(body)
    assert isinstance(fault, Refusal)
    assert fault.http_status == 400
    assert fault.detail.startswith(detail)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true", b"1.5"])
def test_what_is_no_object_is_422(body: bytes) -> None:
    fault = parse_body(body)
    assert isinstance(fault, Refusal)
    assert fault.http_status == 422


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 32 + b"1" + b"}" * 32,
        b'{"a": "' + b"[{" * 100 + b'"}',
        b'{"a": "\\"' + b"[" * 100 + b'\\\\", "b": []}',
        b'{"a": [' + b"[],[[]]," * 100 + b"{}]}",
        b'{"a": "\\ud83d\\ude00", "b": "\\u0939", "c": "\\u0000"}',
        b'{"a": "\\ud83d\\ude00", "b": [1, null, true]}',
        b'\n\t {"\xe0\xa4\xb9": "\xf0\x9f\x98\x80"} ',
    ],
)
def test_unusual_but_good_json_is_read(body: bytes) -> None:
    assert parse_body(body) == json.loads(body)


def test_a_byte_order_mark_before_the_body_says_nothing() -> None:
    assert parse_body(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_fault_holds_no_value() -> None:
    for body in (b'{"mobile": 9800000001x}', b'{"mobile": "9800000001}', b'{"9800000001": 1, "9800000001": 2}'):
        fault = parse_body(body)
        assert isinstance(fault, Refusal)
        assert "98000" not in fault.detail


@given(st.binary(max_size=400) | st.text(alphabet='{}[]":,\\u d8e-+.019"', max_size=200).map(str.encode))
def test_parsing_never_raises(body: bytes) -> None:
    assert isinstance(parse_body(body), dict | Refusal)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18) + 1, 10**18 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.untraced
@given(st.dictionaries(st.text(), JSON, max_size=6), st.booleans())
def test_parsing_agrees_with_the_standard_parser(payload: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(payload, ensure_ascii=ascii_only).encode()
    assert parse_body(body) == payload
