"""Whose turn it is: the gap between two messages of a provider to one person, seen to where they leave."""

from __future__ import annotations

from app.core.rates import RECIPIENT_GAP_MS

MOST_TURNS = 1_000  # before those that are over are forgotten


class Turns:
    """When the last message of a provider to each person left, or will leave.

    The claim has seen to the gap by the time at which it was asked for. This is for what came in between: a store
    that took seconds, a process that stood still. One for each provider and not for each lane: while a reload replaces
    a lane, the old one still sends what it has claimed.
    """

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def take(self, recipient: str, now: int) -> float:
        """Return how many seconds a message has to wait for the one before it to the same person."""
        if len(self._left) > MOST_TURNS:
            self._left = {person: at for person, at in self._left.items() if at > now - RECIPIENT_GAP_MS}
        last = self._left.get(recipient)
        # A clock that was set back must not silence anybody for longer than the gap.
        at = now if last is None else max(now, min(last, now + RECIPIENT_GAP_MS) + RECIPIENT_GAP_MS)
        self._left[recipient] = at
        return (at - now) / 1000

    def leave(self, recipient: str, now: int) -> None:
        """The message that had to wait leaves now, perhaps later than it was to."""
        self._left[recipient] = max(self._left.get(recipient, now), now)

    def shift(self, by_ms: int) -> None:
        """The clock was set: what is remembered moves along."""
        self._left = {recipient: at + by_ms for recipient, at in self._left.items()}
