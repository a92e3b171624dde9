"""A value is a class of fields that nobody changes: mypy sees to it, and making one costs what a plain object does.

A frozen dataclass sets each field by a call, which takes twice as long, and an event makes fifty of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  # under this name, with all that mypy knows of it
else:

    def dataclass(*, frozen: bool, **options: Any) -> Callable[[type], type]:  # noqa: ARG001  # see above
        """Return what makes a class such a value."""
        return dataclasses.dataclass(**options, unsafe_hash=True)
