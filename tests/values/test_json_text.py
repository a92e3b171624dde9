from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values.text import SentFloat, make_json_writer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_what_is_written_is_what_the_standard_library_writes(value: Any) -> None:
    assert make_json_writer()(value) == json.dumps(value)
    assert make_json_writer(",", ":")(value) == json.dumps(value, separators=(",", ":"))


def test_what_is_no_json_is_refused() -> None:
    write = make_json_writer(allow_nan=False)
    assert write([SentFloat("1.50"), "\ud800"]) == '[1.5, "\\ud800"]'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write({"a": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write([object()])
