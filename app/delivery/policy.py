"""The policy says whether a delivery may leave: by its state, the holds that stop it, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from app.model.delivery import Delivery, Reason, State
from app.model.value import dataclass

if TYPE_CHECKING:
    from app.model.message import Account, Limit


class Cause(StrEnum):
    """A delivery came into its state by one of these causes. The set is closed."""

    MADE = "made"  # of an event
    REPLAYED = "replayed"  # of a stored event, by a plan
    CLAIMED = "claimed"  # its attempt was opened
    ENDED = "ended"  # its attempt ended so
    ENDED_LATE = "ended_late"  # its attempt, given up as lost, ended after all
    LOST = "lost"  # its attempt was left open by a process that died or stood still
    RECEIPT = "receipt"  # a handset has reported on it
    RESENT = "resent"  # `on_unknown: resend`: nothing had settled it
    RETRIED = "retried"  # a person wants it sent again
    DEADLINE = "deadline"  # it passed while the delivery waited
    OPTED_OUT = "opted_out"  # its recipient did, while it waited
    DAMAGED = "damaged"  # the message is not the one that was frozen
    ERASED = "erased"  # everything of its recipient was
    RESTORED = "restored"  # a backup was put back


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate is a delivery that is due, with all that the policy asks of it."""

    deadline_at: int
    opted_out: bool  # it is marketing, and its recipient wants none
    free_at: int  # from then on its recipient may be written to again
    accounts: Sequence[tuple[Account, int]] = ()  # it would count in these; from when on each has room


@dataclass(frozen=True, slots=True)
class Go:
    """It may leave."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may leave at `until`, and not before. `reason`: None for the gap, which everybody knows of every message."""

    until: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """It may leave once a person lets go of `scope`, which is put on hold."""

    scope: str
    reason: Reason


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


def judge_candidate(candidate: Candidate, now: int) -> Go | Wait | Stop | End:
    """Return what is to become of a candidate: its deadline counts first, then what its recipient wants, then limits.

    Who waits by itself stops nobody: a route that is full is held by the first message that nothing else keeps.
    """
    if candidate.deadline_at <= now:
        return TOO_LATE
    if candidate.opted_out:
        return UNWANTED
    if candidate.accounts and (stopped := _judge_accounts(candidate, now)):
        return stopped
    return Wait(candidate.free_at) if candidate.free_at > now else GO


def _judge_accounts(candidate: Candidate, now: int) -> Wait | Stop | None:
    full = [(account, room_at) for account, room_at in candidate.accounts if room_at > now]
    if waits := [room_at for account, room_at in full if not account.holds]:
        return Wait(max(*waits, candidate.free_at), Reason.LIMIT_PERSON)
    is_free = candidate.free_at <= now
    return Stop(full[-1][0].holds, Reason.LIMIT_REACHED) if full and is_free else None


def find_room(limit: Limit, counted: Sequence[tuple[int, int]], now: int) -> int:
    """Return from when on a limit lets one more go: now, or once enough of what was counted has left its window.

    `counted`: (when, how many), oldest first, of this window only.
    """
    room_at, left = now, sum(n for _, n in counted)
    for at, n in counted:
        if left < limit.count:
            break
        room_at, left = at + limit.window_ms, left - n
    return room_at


FINE = 60


def name_bucket(limit: Limit, now: int) -> int:
    """Return the instant under which a message is counted: its own, or, of a high limit, that of a 60th of its window.

    The last one of it, so that what is counted stays counted for no shorter than the window.
    """
    width = 1 if limit.count <= FINE else limit.window_ms // FINE
    return now - now % width + width - 1


def find_free(last_at: int | None, gap_ms: int, now: int) -> int:
    """Return from when on somebody may be written to again; a clock set back silences nobody longer than the gap."""
    return now if last_at is None else min(last_at, now) + gap_ms


def heeds_opt_out(delivery: Delivery) -> bool:
    """Tell whether a delivery that would go out, or would in live mode, must not to who wants no marketing."""
    return delivery.marketing and delivery.state in (State.PENDING, State.SHADOW)


def judge_new(delivery: Delivery, *, is_unwanted: bool, is_repeat: bool) -> tuple[State, Reason | None]:
    """Return how a delivery begins: as it was planned, unless its recipient wants none of it or has it already."""
    if is_unwanted:
        return State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT
    return (State.SUPPRESSED, Reason.DUPLICATE) if is_repeat else (delivery.state, delivery.reason)


# -- holds ------------------------------------------------------------------------------------------

StandingHolds = Mapping[str, int | None]
"""Every scope on hold, and when it may be probed or ends by itself; None: never, a person has set it."""


@dataclass(frozen=True, slots=True)
class Group:
    """The pending deliveries of a lane that share route, template and rank."""

    route: str
    template: str
    rank: int
    due_at: int  # their earliest
    seq: int = 0  # that one's number, where others of the same instant may be gone already


def name_scopes(provider: str, route: str, template: str) -> tuple[str, str, str]:
    """Return the scopes that would hold a delivery, the widest first."""
    return f"provider:{provider}", f"route:{route}", f"template:{provider}/{template}"


def list_blocking(holds: StandingHolds, provider: str, group: Group) -> tuple[str, ...]:
    """Return the holds that stop a group, the widest first."""
    if not holds:
        return ()
    return tuple(scope for scope in name_scopes(provider, group.route, group.template) if scope in holds)


def find_start(holds: StandingHolds, provider: str, group: Group) -> int | None:
    """Return when a group's earliest delivery may start, at the earliest; None: not before a person releases it."""
    start = group.due_at
    for scope in list_blocking(holds, provider, group):
        probe_at = holds[scope]
        if probe_at is None:
            return None
        start = max(start, probe_at)
    return start


def order_turns(groups: Sequence[Group], after: str | None) -> Sequence[Sequence[Group]]:
    """Return the groups by route, the route after the last served first; in each by rank, then by due time."""
    routes: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda group: (group.route, group.rank, group.due_at)):
        routes.setdefault(group.route, []).append(group)
    return [routes[name] for name in sorted(routes, key=lambda name: (name <= (after or ""), name))]


Streaks = dict[str, tuple[str, int]]
"""By route or provider: the reason for which its last messages were refused, and how many in a row."""


def count_streaks(
    before: Mapping[str, tuple[str, int]], ended: Iterable[tuple[str, str | None]]
) -> tuple[Streaks, list[int]]:
    """Return the counts after messages have ended, and what each made of its own.

    `ended`: (route, why it was refused for itself; "": accepted, which ends a count; None: says nothing).
    """
    counted, answers = dict(before), []
    for route, why in ended:
        if why == "":
            counted.pop(route, None)
        elif why is not None:
            last, n = counted.get(route, (why, 0))
            counted[route] = (why, n + 1 if last == why else 1)
        answers.append(counted[route][1] if why else 0)
    return counted, answers
