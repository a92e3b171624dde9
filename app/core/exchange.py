"""One HTTP request to a provider and its answer, as the client carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to a provider, complete: nothing is added later but transport headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # holds secrets
    body: bytes = field(repr=False)  # holds the recipient


@dataclass(frozen=True, slots=True)
class Response:
    """A provider's whole answer. Header names are lower case; `body` is at most 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
