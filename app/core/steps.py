"""The steps of a delivery's story, and how they are put into words. Told from the JSON of `GET /deliveries/{id}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from app.core.instants import parse_instant

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
