"""Ids: UUIDv7 text, so that they sort by time and a provider can take them as they are."""

from __future__ import annotations

import os
from collections.abc import Callable

NewId = Callable[[int], str]
"""Makes an id for something that happens at this instant (ms since the epoch)."""


_DRAWN_AT_ONCE = 512
"""So many ids' random bytes are drawn together: each draw lets other threads in, and waits until they let go again."""


_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)  # or two processes would make one id


def new_uuid7(now: int) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) for `now`, in its 36-character form."""
    while not _drawn:
        bits = os.urandom(10 * _DRAWN_AT_ONCE).hex()
        _drawn.extend(bits[start : start + 20] for start in range(0, len(bits), 20))
    at, drawn = f"{now:012x}", _drawn.pop()
    variant = "89ab"[int(drawn[3], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{drawn[:3]}-{variant}{drawn[4:7]}-{drawn[7:19]}"
