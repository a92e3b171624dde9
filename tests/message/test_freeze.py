from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.message.freeze import checksum, decode_message, encode_message, thaw_message
from app.model.message import Button, Header, Message, Variable

MESSAGES = st.builds(
    Message,
    recipient=st.text(),
    template=st.text(),
    recipient_name=st.text(),
    language=st.none() | st.text(),
    variables=st.lists(st.builds(Variable, st.none() | st.text(), st.text())).map(tuple),
    header=st.none()
    | st.builds(Header, st.sampled_from(["image", "video", "document", "text"]), st.text(), st.none() | st.text()),
    buttons=st.lists(st.builds(Button, st.integers(0, 9), st.text())).map(tuple),
)
MESSAGE = Message("+919800000001", "coins_earned", "रिया", "hi", (Variable(None, "रिया"), Variable("coins", "100")))


@given(MESSAGES)
def test_frozen_message_thaws_to_the_same(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_frozen_message_is_compact_ascii() -> None:
    frozen = encode_message(MESSAGE)
    assert frozen.isascii()
    assert b": " not in frozen
    assert len(encode_message(Message("+919800000001", "t\ud800"))) > 0


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{}", b"[]", b"null", b"\xff", encode_message(MESSAGE)[:-1], b'{"recipient":"x","template":"y"}'],
)
def test_damaged_message_does_not_thaw(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="these bytes are no frozen message"):
        decode_message(damaged)


@given(st.data())
def test_every_flipped_bit_shows_in_the_checksum(data: st.DataObject) -> None:
    frozen = bytearray(encode_message(MESSAGE))
    whole = checksum(bytes(frozen))
    at = data.draw(st.integers(0, len(frozen) - 1))
    frozen[at] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(bytes(frozen)) != whole


FROZEN = encode_message(MESSAGE)


@pytest.mark.parametrize(
    ("data", "expected", "message"),
    [
        (FROZEN, checksum(FROZEN), MESSAGE),
        (None, None, None),
        (FROZEN, checksum(b"another"), None),
        (b"{}", checksum(b"{}"), None),
    ],
)
def test_only_what_was_frozen_and_can_be_read_thaws(
    data: bytes | None, expected: str | None, message: Message | None
) -> None:
    assert thaw_message(data, expected) == message
