"""The holds that a delivery met: from when until when each stood on one of its scopes, and who set and released it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from app.model.delivery import Reason
from app.values.instant import format_instant, parse_instant

REINSTATED = "reinstated"
_RELEASES = {REINSTATED: "WhatsApp says that it may be sent again"}


@dataclass(frozen=True, slots=True)
class MetHold:
    """A hold on a delivery's scope. Instants are ms; `released_at` None: it still stands, or outlived the delivery."""

    scope: str
    reason: str
    set_at: int
    released_at: int | None
    by_hand: bool

    def stood_between(self, since: int, until: int) -> bool:
        """Tell whether it stood at some instant after `since` and before `until`."""
        return self.set_at < until and (self.released_at is None or self.released_at > since)


def list_met_holds(changes: Sequence[Told]) -> list[MetHold]:
    """Return the holds that `hold_changes` tell of, in the order in which they were set.

    One that was renewed for another reason is one hold, with its last reason.
    """
    holds: dict[str, MetHold] = {}
    ended: list[MetHold] = []
    for change in changes:
        scope, at = change["scope"], read_at(change["at"])
        stood = holds.pop(scope, None)
        if change["change"] == "set":
            since = at if stood is None else stood.set_at
            holds[scope] = MetHold(scope, change["reason"], since, None, change["by_hand"])
        elif stood is not None:
            ended.append(MetHold(scope, stood.reason, stood.set_at, at, stood.by_hand))
    return sorted([*ended, *holds.values()], key=lambda hold: hold.set_at)


def tell_changes(changes: Sequence[Told], created_at: int) -> Iterator[PlacedStep]:
    """Yield a step for each change; a hold that stood already is told when the delivery came.

    What a person lets go is why an attempt starts; what an attempt sets or lets go comes of it.
    """
    standing: set[str] = set()
    for change in changes:
        scope, at, setter = change["scope"], read_at(change["at"]), _name_setter(change)
        if change["change"] == "released":
            standing.discard(scope)
            how = "by hand" if change["by_hand"] else _RELEASES.get(change["reason"], "its probe was accepted")
            yield Turn.CAUSE if change["by_hand"] else Turn.EFFECT, Step(at, f"hold on {scope} released: {how}")
            continue
        if at < created_at:
            text = f"{scope} was on hold already, set {format_instant(at)}{setter}"
            yield Turn.CAUSE, Step(created_at, text, "hold")
        else:
            text = f"hold on {scope} goes on" if scope in standing else f"hold set on {scope}"
            yield Turn.EFFECT, Step(at, f"{text}{setter}", "hold")
        standing.add(scope)


def _name_setter(change: Told) -> str:
    """Return ` by hand: why`; a person who gave no reason has given the hand as one."""
    by_hand = " by hand" if change["by_hand"] else ""
    return by_hand if change["reason"] == Reason.BY_HAND else f"{by_hand}: {change['reason']}"


Told = Mapping[str, Any]
"""A JSON object of the ops API: a delivery, or a part of one. Its values are masked already."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, in a line. `at`: ms since the epoch. `mark`: the state or receipt in `text`, if any."""

    at: int
    text: str
    mark: str = ""


class Turn(IntEnum):
    """Which of several steps at one instant comes first: causes before what comes of them."""

    ORIGIN = 0
    CAUSE = 1
    HAPPENING = 2
    EFFECT = 3
    WAIT = 4


PlacedStep = tuple[Turn, Step]


def read_at(text: str) -> int:
    """Return an instant of the ops API as ms since the epoch."""
    return parse_instant(text, "UTC", end_of_day=False) or 0


def explain_reason(told: Told) -> str:
    """Return the `reason` of something with its `detail`, "" where it has neither."""
    reason, detail = told["reason"] or "", told["detail"] or ""
    return f"{reason} ({detail})" if reason and detail else reason or detail


def append_reason(text: str, told: Told) -> str:
    """Return `text: reason (detail)`, `text` alone where there is no reason."""
    reason = explain_reason(told)
    return f"{text}: {reason}" if reason else text
