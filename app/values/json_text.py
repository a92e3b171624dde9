"""JSON of plain ASCII, which no charset on the way can change, by encoders that are made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def make_json_writer(comma: str = ", ", colon: str = ": ", *, allow_nan: bool = True) -> Callable[[Any], str]:
    """Return what writes a value, none that holds itself, as `json.dumps` with these separators does.

    JSONEncoder makes the same C encoder anew for each text, which takes half as long as a line of the log.
    """
    make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]  # typeshed leaves it out
    refuse = json.JSONEncoder().default
    encode = make(None, refuse, encoder.encode_basestring_ascii, None, colon, comma, False, False, allow_nan)

    def write(value: Any) -> str:
        return "".join(encode(value, 0))

    return write


write_json = make_json_writer()
"""Writes as `json.dumps` does."""
