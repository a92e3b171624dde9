"""Ids: UUIDv7 text, so that they sort by time and a provider can take them as they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

NewId = Callable[[int], str]
"""Makes an id for something that happens at this instant (ms since the epoch)."""


def new_uuid7(now: int) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) for `now`, in its 36-character form."""
    value = (now << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=value))
