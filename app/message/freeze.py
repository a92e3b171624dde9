"""A message as bytes: written once at intake, checked before it is sent, never rendered again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from app.model.message import Button, Header, Location, Message, Variable

VERSION = 2
"""Of the bytes. Those without a version were frozen by a release that knew URL buttons only; they still go out."""


def encode_message(message: Message) -> bytes:
    """Return `message` as compact JSON, in ASCII: no store or encoding on the way can change it."""
    frozen = {
        "version": VERSION,
        "recipient": message.recipient,
        "recipient_name": message.recipient_name,
        "template": message.template,
        "language": message.language,
        "variables": [[variable.name, variable.value] for variable in message.variables],
        "header": message.header and _freeze_header(message.header),
        "buttons": [[button.index, button.value, button.kind] for button in message.buttons],
        "offer_ends_at": message.offer_ends_at,
    }
    return json.dumps(frozen, separators=(",", ":")).encode("ascii")


def decode_message(frozen: bytes) -> Message:
    """Return the message that `encode_message` froze; raises ValueError if it is none."""
    try:
        found = json.loads(frozen)
        _check_version(found.get("version", 1))
        return Message(
            recipient=found["recipient"],
            template=found["template"],
            recipient_name=found["recipient_name"],
            language=found["language"],
            variables=tuple(Variable(name, value) for name, value in found["variables"]),
            header=_thaw_header(*found["header"]) if found["header"] else None,
            buttons=tuple(Button(*button) for button in found["buttons"]),
            offer_ends_at=found.get("offer_ends_at"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("these bytes are no frozen message") from None


def _check_version(version: Any) -> None:
    if version not in {1, VERSION}:
        raise ValueError("frozen by a later release")


def _freeze_header(header: Header | Location) -> list[str | None]:
    if isinstance(header, Location):
        return [header.kind, header.latitude, header.longitude, header.name, header.address]
    return [header.kind, header.value, header.filename]


def _thaw_header(kind: Any, *parts: Any) -> Header | Location:
    return Location(*parts) if kind == Location.kind else Header(kind, *parts)


def checksum(frozen: bytes) -> str:
    """Return the hex SHA-256 by which a damaged message is told from a whole one."""
    return hashlib.sha256(frozen).hexdigest()


def thaw_message(data: bytes | None, expected: str | None) -> Message | None:
    """Return the frozen message; None if it is not the one that was frozen."""
    if data is None or checksum(data) != expected:
        return None
    try:
        return decode_message(data)
    except ValueError:  # sound bytes of a shape that this release cannot read
        return None
