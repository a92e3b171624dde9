"""Why a request is not carried out: what the API answers it with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status, and what is wrong with which field and the cure, never a value."""

    http_status: int
    detail: str
