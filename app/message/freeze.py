"""A message as bytes: written once at intake, checked before it is sent, never rendered again."""

from __future__ import annotations

import hashlib
import json

from app.model.message import Button, Header, Message, Variable


def encode_message(message: Message) -> bytes:
    """Return `message` as compact JSON, in ASCII: no store or encoding on the way can change it."""
    frozen = {
        "recipient": message.recipient,
        "recipient_name": message.recipient_name,
        "template": message.template,
        "language": message.language,
        "variables": [[variable.name, variable.value] for variable in message.variables],
        "header": message.header and [message.header.kind, message.header.value, message.header.filename],
        "buttons": [[button.index, button.url] for button in message.buttons],
    }
    return json.dumps(frozen, separators=(",", ":")).encode("ascii")


def decode_message(frozen: bytes) -> Message:
    """Return the message that `encode_message` froze; raises ValueError if it is none."""
    try:
        found = json.loads(frozen)
        return Message(
            recipient=found["recipient"],
            template=found["template"],
            recipient_name=found["recipient_name"],
            language=found["language"],
            variables=tuple(Variable(name, value) for name, value in found["variables"]),
            header=Header(*found["header"]) if found["header"] else None,
            buttons=tuple(Button(index, url) for index, url in found["buttons"]),
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError("these bytes are no frozen message") from None


def checksum(frozen: bytes) -> str:
    """Return the hex SHA-256 by which a damaged message is told from a whole one."""
    return hashlib.sha256(frozen).hexdigest()
