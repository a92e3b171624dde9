"""Moving instants: what a value remembers of the time goes along when the clock was set."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")

_INSTANTS = ("_at", "_until")  # so every field that holds ms since the epoch is named


def shift_instants(value: T, by_ms: int) -> T:
    """Return a dataclass with every instant in it moved, in the dataclasses inside it too. None stays None."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    moved: dict[str, Any] = {}
    for each in fields(value):
        held = getattr(value, each.name)
        if each.name.endswith(_INSTANTS) and held is not None:
            moved[each.name] = held + by_ms
        elif is_dataclass(held):
            moved[each.name] = shift_instants(held, by_ms)
    return replace(value, **moved)
