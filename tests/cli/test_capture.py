from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.captures import Capture, read_capture

BODY = b'{"amount": "100"}'
HEADERS = {"x-nector-topic": "walletreward_create", "x-nector-timestamp": "1790000000"}
WIRE = b"X-Nector-Topic: walletreward_create\r\nx-nector-timestamp:1790000000"


@pytest.mark.parametrize(
    ("data", "bodies"),
    [
        (b"POST /webhooks/nector HTTP/1.1\r\n" + WIRE + b"\r\n\r\n" + BODY, {"as it is": BODY}),
        (WIRE + b"\r\n\r\n" + BODY, {"as it is": BODY}),
        (
            WIRE.replace(b"\r", b"") + b"\n\n" + BODY + b"\n",
            {"as it is": BODY + b"\n", "without the last newline": BODY},
        ),
        (WIRE + b"\r\n\r\n{\r\n}", {"as it is": b"{\r\n}"}),
        (json.dumps({"headers": HEADERS, "body": BODY.decode()}).encode(), {"as it is": BODY}),
        (
            json.dumps(
                [{"headers": {key: [value] for key, value in HEADERS.items()}, "content": BODY.decode()}]
            ).encode(),
            {"as it is": BODY},
        ),
        (
            json.dumps({"request": {"headers": [[*each] for each in HEADERS.items()], "raw": BODY.decode()}}).encode(),
            {"as it is": BODY},
        ),
        (
            json.dumps(
                {"headers": [{"name": key, "value": value} for key, value in HEADERS.items()], "body": BODY.decode()}
            ).encode(),
            {"as it is": BODY},
        ),
        (
            json.dumps({"headers": HEADERS, "isBase64Encoded": True, "body": base64.b64encode(BODY).decode()}).encode(),
            {"decoded from base64": BODY},
        ),
        (json.dumps({"headers": HEADERS, "isBase64Encoded": True, "body": "%%"}).encode(), {"as it is": b"%%"}),
        (
            json.dumps({"headers": HEADERS, "body": {"amount": "100"}}).encode(),
            {"written again without blanks": b'{"amount":"100"}', "written again with blanks": BODY},
        ),
    ],
)
def test_a_request_is_read_in_every_form(data: bytes, bodies: dict[str, bytes]) -> None:
    assert read_capture(data) == Capture(HEADERS, bodies)


def test_what_an_editor_would_have_added_is_first_taken_away() -> None:
    capture = read_capture(b"x-nector-topic: a\n\n" + BODY + b"\n")
    assert isinstance(capture, Capture)
    assert list(capture.bodies) == ["without the last newline", "as it is"]


def test_a_content_length_says_where_the_body_ends() -> None:
    capture = read_capture(WIRE + b"\r\ncontent-length: 17\r\n\r\n" + BODY + b"\n--")
    assert isinstance(capture, Capture)
    assert capture.bodies == {"cut to its Content-Length": BODY}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is no blank line between the headers and the body"),
        (b"POST / HTTP/1.1\n\n{}", "there are no headers (`name: value`, one a line)"),
        (b"{", "it looks like JSON and is none"),
        (b"[" * 100_000, "it looks like JSON and is none"),
        (b"[1, 2]", "the JSON holds no `headers` (and `body`) of one request"),
        (b'{"body": "x"}', "the JSON holds no `headers` (and `body`) of one request"),
        (b'{"headers": {}, "body": ""}', "the JSON holds no `body`"),
    ],
)
def test_what_is_no_request_says_why(data: bytes, why: str) -> None:
    assert read_capture(data) == why


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["headers", "body", "request", "x"]), inner),
)


@pytest.mark.untraced
@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_reading_a_capture_never_raises(data: bytes) -> None:
    assert isinstance(read_capture(data), Capture | str)
