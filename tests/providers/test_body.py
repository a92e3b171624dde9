from __future__ import annotations

from typing import Any

import pytest

from app.providers.body import as_text, first_text, parse_json, read_embedded, read_instant, read_path, walk_places

VALUE = {"a": {"b": [{"c": 1}, {"c": "x"}]}, "e": "", "t": True, "n": None, "f": 1.5}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b[1].c", "x"),
        ("a.b.0.c", 1),
        ("a.b[2].c", None),
        ("a.b[99999999999999].c", None),
        ("a.b.c", None),
        ("a.b[²].c", None),
        ("e.x", None),
        ("missing", None),
        ("", VALUE),
    ],
)
def test_path_leads_to_its_value_or_to_none(path: str, expected: Any) -> None:
    assert read_path(VALUE, path) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("n", "e", "t", "f", "a", "a.b[0].c"), "1"),
        (("a.b[1].c", "a.b[0].c"), "x"),
        (("n",), None),
    ],
)
def test_first_text_skips_what_is_no_text(paths: tuple[str, ...], expected: str | None) -> None:
    assert first_text(VALUE, paths) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" x ", "x"),
        ("a\x00b\nc", "a b c"),
        ("\ud800", "\ufffd"),
        ("x" * 200, "x" * 200),
        ("x" * 201, None),
        ("  ", None),
        (10**201, None),
        (-7, "-7"),
        (False, None),
    ],
)
def test_text_is_fit_for_a_store(value: Any, expected: str | None) -> None:
    assert as_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_790_000_000, 1_790_000_000_000),
        (1_790_000_000_123, 1_790_000_000_123),
        ("1790000000", 1_790_000_000_000),
        (1_790_000_000.5, 1_790_000_000_500),
        ("2026-09-21T13:33:20Z", 1_789_997_600_000),
        ("2026-09-21T13:33:20+05:30", 1_789_977_800_000),
        ("2026-09-21T13:33:20", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("soon", None),
        ("", None),
        (0, None),
        (-5, None),
        (10**15, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_instant_is_read_in_every_form(value: Any, expected: int | None) -> None:
    assert read_instant(value) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b"1" * 5_000, b'"' + b"x" * 65_536 + b'"'])
def test_what_is_no_json_is_none(body: bytes) -> None:
    assert parse_json(body) is None


def deep(levels: int, value: Any) -> Any:
    return {"in": deep(levels - 1, value)} if levels else value


def test_what_stands_in_a_value_is_found_in_the_order_written() -> None:
    value = {"M_1": "1", "in": [{"m": '{"x": [2]}'}, "text", [{"m": 3}], 7], "last": None}
    found = [(place.key, place.value, place.inside) for place in walk_places(value)]
    assert found == [
        ("m1", "1", ()),
        ("in", value["in"], ()),
        ("m", '{"x": [2]}', ("in",)),
        ("x", [2], ("in", "m")),
        ("in", "text", ()),
        ("m", 3, ("in",)),
        ("last", None, ()),
    ]


@pytest.mark.parametrize(("levels", "found"), [(4, True), (15, True), (16, False), (500, False)])
def test_values_are_walked_so_deep_and_no_deeper(levels: int, found: bool) -> None:
    assert ("m" in [place.key for place in walk_places(deep(levels, {"m": 1}))]) is found


def test_of_a_long_list_the_beginning_is_looked_at() -> None:
    assert len([place for place in walk_places({"in": ["x"] * 5_000}) if place.value == "x"]) == 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("no {{1}} here", None),
        ('400 - {"a": {"b": 1}} - end', {"a": {"b": 1}}),
        ('{"a": ', None),
        ('{"a":' * 5_000, None),
    ],
)
def test_an_object_in_a_text_is_read(text: str, expected: Any) -> None:
    assert read_embedded(text) == expected


def test_a_byte_order_mark_is_no_part_of_the_json() -> None:
    assert parse_json(b"\xef\xbb\xbf" + b'{"a": 1}') == {"a": 1}
