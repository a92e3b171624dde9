"""Whether a delivery that is due may leave now: what a claim asks of each candidate."""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.transitions import Cause
from app.model.delivery import Reason, State


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a delivery that is due.

    `opted_out`: it is marketing, and its recipient wants none. `free_at`: from when on its recipient may be written to
    again.
    """

    deadline_at: int
    opted_out: bool
    free_at: int


@dataclass(frozen=True, slots=True)
class Go:
    """It may leave."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may leave at `until`, and not before."""

    until: int


@dataclass(frozen=True, slots=True)
class End:
    """It must not leave any more."""

    state: State
    reason: Reason
    cause: Cause


GO = Go()
TOO_LATE = End(State.EXPIRED, Reason.DEADLINE_PASSED, Cause.DEADLINE)
UNWANTED = End(State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT, Cause.OPTED_OUT)
DAMAGED = End(State.DEAD, Reason.MESSAGE_DAMAGED, Cause.DAMAGED)


def judge_candidate(candidate: Candidate, now: int) -> Go | Wait | End:
    """Return what is to become of a candidate: its deadline counts first, then what its recipient wants."""
    if candidate.deadline_at <= now:
        return TOO_LATE
    if candidate.opted_out:
        return UNWANTED
    if candidate.free_at > now:
        return Wait(candidate.free_at)
    return GO


def find_free(last_at: int | None, gap_ms: int, now: int) -> int:
    """Return from when on somebody may be written to again whose last message left at `last_at`.

    A clock that was set back must not silence anybody for longer than the gap.
    """
    return now if last_at is None else min(last_at, now) + gap_ms
