from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Mistake, Refusal
from app.sources.base import (
    _DECODER,
    RAW,
    _read_text,
    find_secret_mistake,
    list_schemes,
    list_signed,
    match_hmac,
    parse_body,
    verify_secret,
)
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


@pytest.mark.parametrize(
    "body", [" {} ", "{}\n", "\t[1]", "{}x", "{} {}", "", " ", "{", '{"a":}', "1", "\u00a0{}", "{}\u2003"]
)
def test_quick_reading_does_what_the_decoder_does(body: str) -> None:
    try:
        expected = _DECODER.decode(body)
    except json.JSONDecodeError as error:
        with pytest.raises(json.JSONDecodeError, match=re.escape(str(error))):
            _read_text(body)
    else:
        assert _read_text(body) == expected


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


SECRET = "an-invented-secret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.mark.parametrize("value", [DIGEST, DIGEST.upper(), f" {DIGEST} "])
@pytest.mark.parametrize("secrets", [[SECRET], ["older", SECRET], [SECRET, "newer"]])
def test_hash_of_any_active_secret_is_accepted(value: str, secrets: list[str]) -> None:
    assert verify_secret(value, secrets)


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (None, [SECRET]),
        ("", [SECRET]),
        (SECRET, [SECRET]),
        (DIGEST[:-1], [SECRET]),
        (DIGEST, []),
        (DIGEST, ["another"]),
        ("क" * 64, [SECRET]),
        ("\udcff", [SECRET]),
        (hashlib.sha256(b"").hexdigest(), [""]),
        (hashlib.sha256(b" ").hexdigest(), [" "]),
    ],
)
def test_any_other_hash_is_refused(value: str | None, secrets: list[str]) -> None:
    assert not verify_secret(value, secrets)


@pytest.mark.parametrize(
    ("value", "secrets", "mistake"),
    [
        (DIGEST, ["older", SECRET], None),
        (None, [SECRET], Mistake.MISSING),
        (" ", [SECRET], Mistake.MISSING),
        ("", [""], Mistake.MISSING),
        (f" {SECRET}", ["older", SECRET], Mistake.PLAIN),
        (SECRET.upper(), [SECRET], Mistake.OTHER),
        (DIGEST, ["another"], Mistake.OTHER),
        (DIGEST, [], Mistake.OTHER),
        ("\udcff", [SECRET], Mistake.OTHER),
    ],
)
def test_a_mistake_is_named(value: str | None, secrets: list[str], mistake: Mistake | None) -> None:
    assert find_secret_mistake(value, secrets) is mistake


BODY = b'{"user_name": "Riya"}'
KEYS = {
    "secret": SECRET.encode(),
    "sha256hex(secret)": DIGEST.encode(),
    "sha256(secret)": hashlib.sha256(SECRET.encode()).digest(),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_hmac_scheme_is_found(key: str, encoding: str, prefix: str) -> None:
    digest = hmac.digest(KEYS[key], BODY, "sha256")
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert match_hmac(prefix + text, ["", "older", SECRET], {RAW: BODY}) == f"{encoding}/key={key}"
    assert match_hmac(prefix + text, [SECRET], {RAW: BODY + b" "}) is None
    assert match_hmac(prefix + text, ["another"], {RAW: BODY}) is None


def test_hmac_hex_is_read_in_either_case() -> None:
    assert (
        match_hmac(hmac.digest(KEYS["secret"], BODY, "sha256").hex().upper(), [SECRET], {RAW: BODY}) == "hex/key=secret"
    )


@pytest.mark.untraced
@given(value=st.none() | st.text(), secrets=st.lists(st.text()), body=st.binary())
def test_signatures_never_raise(value: str | None, secrets: list[str], body: bytes) -> None:
    assert not verify_secret(value, secrets)
    assert match_hmac(value, secrets, list_signed(body, "", "")) is None


SPACED = b'{"b": 1.50, "a": "\xe0\xa4\x95"}'


@pytest.mark.parametrize(
    ("content", "over"),
    [
        (b"1790000000." + SPACED, "timestamp.body"),
        (b"1790000000" + SPACED, "timestamp+body"),
        (b"d-1.1790000000." + SPACED, "id.timestamp.body"),
        ('{"b":1.5,"a":"क"}'.encode(), "compact"),
        ('{"a":"क","b":1.5}'.encode(), "compact-sorted"),
    ],
)
def test_other_contents_than_the_raw_body_are_tried_too(content: bytes, over: str) -> None:
    given_hmac = hmac.digest(SECRET.encode(), content, "sha256").hex()
    signed = list_signed(SPACED, "1790000000", "d-1")
    assert match_hmac(given_hmac, [SECRET], signed) == f"hex/key=secret/over={over}"
    assert match_hmac(given_hmac, [SECRET], signed, only=f"hex/key=secret/over={over}") is not None
    assert match_hmac(given_hmac, [SECRET], signed, only="hex/key=secret") is None
    assert match_hmac(given_hmac, [SECRET], {RAW: SPACED}) is None


def test_every_scheme_that_can_be_found_can_be_asked_for() -> None:
    schemes = list_schemes()
    assert len(schemes) == len({*schemes}) == 36
    assert {"hex/key=secret", "base64/key=sha256(secret)/over=timestamp.body"} < {*schemes}


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_signed_as_it_stands(body: bytes) -> None:
    signed = list_signed(body, "", "")
    assert signed[RAW] == body
    assert signed["compact"] == body.decode("utf-8", "replace").encode()
