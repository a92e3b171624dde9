"""Requests to providers leave this network directly, or in the way that the settings tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Way:
    """A way tells whom TLS trusts beside the system's authorities, and the proxy in between."""

    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a password


DIRECT = Way()
