"""What happens after an attempt: one pure function from an outcome to a decision."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.models import Reason, State


@dataclass(frozen=True, slots=True)
class Decision:
    """The delivery's next state. `due_at`: when it may be claimed (`pending`) or settled (`unknown`)."""

    state: State
    reason: Reason | None = None
    due_at: int | None = None
    hold_scope: str | None = None  # set this hold, too
    hold_probe_at: int | None = None
    lane_pause_until: int | None = None  # nothing of this lane before then (429, 503)
    attempt_spent: bool = True  # False: the attempt does not count towards backing off
