"""Whose turn it is: the gap between two messages of a provider to one person, seen to where they leave."""

from __future__ import annotations

from app.core.rates import RECIPIENT_GAP_MS

FORGET_FROM = 1_000  # turns; before that it is not worth the while


class Turns:
    """When the last message of a provider to each person left, or will leave.

    The claim has seen to the gap by the time at which it was asked for. This is for what came in between: a store
    that took seconds, a process that stood still. One for each provider and not for each lane: while a reload replaces
    a lane, the old one still sends what it has claimed.
    """

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._forget_at = FORGET_FROM  # twice as many as were left the last time: each is looked at a few times at most

    def take(self, recipient: str, now: int) -> float:
        """Return how many seconds a message has to wait for the one before it to the same person."""
        if len(self._left) >= self._forget_at:
            self._left = {person: at for person, at in self._left.items() if at > now - RECIPIENT_GAP_MS}
            self._forget_at = max(FORGET_FROM, 2 * len(self._left))
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
