from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Mistake
from app.sources.signature import (
    RAW,
    find_secret_mistake,
    list_schemes,
    list_signed,
    match_hmac,
    verify_secret,
)

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
