from __future__ import annotations

from typing import Any

import pytest

from app.values.path import Path, look_up, read_path, write_path

PAYLOAD = {
    "customer": {"name": "Riya", "items": 3, "note": " "},
    "list": ["a", {"b": "c"}, None],
    "0": "nought",
    "no": "null",
    "zero": 0,
    "flag": False,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("customer", "name"), "Riya"),
        (("customer", "items"), 3),
        (("customer", "keys"), None),
        (("customer", "note"), None),
        (("customer", "name", "upper"), None),
        (("customer", "name", 0), None),
        (("list", 0), "a"),
        (("list", -1), None),
        (("list", -2, "b"), "c"),
        (("list", 3), None),
        (("list", -4), None),
        (("list", "0"), None),
        (("list", "append"), None),
        (("0",), "nought"),
        ((0,), None),
        (("no",), None),
        (("zero",), 0),
        (("flag",), False),
        (("nobody", "name"), None),
    ],
)
def test_path_leads_to_keys_and_indexes_only(path: Path, value: Any) -> None:
    assert look_up(PAYLOAD, path) == value


@pytest.mark.parametrize("path", [("customer", "name"), ("items", 0, "name"), ("items", -1), ("a",)])
def test_written_path_reads_back(path: Path) -> None:
    assert read_path(write_path(path)) == path
