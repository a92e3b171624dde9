"""The database's time, read without asking it: a replica's own clock may be off, and moves nothing."""

from __future__ import annotations

from app.clock import Clock


class DatabaseClock:
    """A `Clock` that goes by one that nobody can set, and is put right by each answer of the database."""

    def __init__(self, read_uptime: Clock) -> None:
        self.read_uptime = read_uptime
        self._ahead: int | None = None  # the database's time is so much more than the uptime

    def __call__(self) -> int:
        """Return now. Nothing is reckoned from it before the first answer."""
        return self.read_uptime() + (self._ahead or 0)

    def note(self, at: int, asked_at: int) -> None:
        """The database has shown `at`, some time after it was asked (by the uptime)."""
        least, most = at - self.read_uptime(), at - asked_at
        # No further than the answer proves: so a slow one puts nothing wrong.
        self._ahead = most if self._ahead is None else min(max(self._ahead, least), most)
