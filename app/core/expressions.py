"""The one expression language of the YAML: Jinja2 expressions over an event's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Missing:
    """The expression came to nothing: absent, null, empty, "null", "undefined" or "NaN"."""

    name: str  # what was read, e.g. "customer.mobile"


@dataclass(frozen=True, slots=True)
class Failed:
    """The expression could not be worked out; `detail` names fields and filters, never values."""

    detail: str


class ExpressionError(ValueError):
    """An expression that cannot be compiled; the text says why and, where it can, what was meant."""


class Expression:
    """A compiled expression. `names` are the dotted paths it reads."""

    source: str
    names: frozenset[str]

    def evaluate(self, payload: Mapping[str, Any]) -> Any | Missing | Failed:
        """Return the value for this payload. Never raises."""
        raise NotImplementedError


class ExpressionCompiler:
    """Compiles expressions for one store (its country, timezone and locale shape the filters)."""

    def __init__(self, country: str, timezone: str, locale: str) -> None:
        raise NotImplementedError

    def compile(self, source: str) -> Expression:
        """Return the compiled expression; raises ExpressionError."""
        raise NotImplementedError
