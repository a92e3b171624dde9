from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from cProfile import Profile
from types import SimpleNamespace
from typing import Any

import pytest

from app.mapping import document
from app.mapping.document import MAX_BYTES, Mark, read_document
from app.values.text import SentFloat
from tests.building_once import TrueWalk


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("nULL", "nULL"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("NO", "NO"),
        ("on", "on"),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0xFF", 255),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-12-31", "2026-12-31"),
        ("1.5", 1.5),
        ("-.5e3", -500.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+919800000001", 919800000001),
        ('"12"', "12"),
        ("'true'", "true"),
        ("1" * 1001, "1" * 1001),
        ('"\\u20B9"', "₹"),
        ("a b # c", "a b"),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(scalar: str, value: Any) -> None:
    document = read_document(f"key: {scalar}\n")
    assert document.problems == ()
    assert document.data == {"key": value}
    assert document.data is not None
    assert type(document.data["key"]) in (type(value), SentFloat)


def test_not_a_number_is_read_as_such() -> None:
    data = read_document("key: .nan").data
    assert data is not None
    assert math.isnan(data["key"])


def test_a_number_with_a_point_keeps_its_text() -> None:
    data = read_document("price: 199.50").data
    assert data is not None
    assert str(data["price"]) == "199.50"


def test_every_key_and_value_has_its_place() -> None:
    document = read_document("a:\n  - b: 1\n    c: |\n      text\n  - [x, y]\n")
    assert document.data == {"a": [{"b": 1, "c": "text\n"}, ["x", "y"]]}
    places = {path: (tuple(place.key), tuple(place.value)) for path, place in document.places.items()}
    assert places == {
        (): ((1, 1), (1, 1)),
        ("a",): ((1, 1), (2, 3)),
        ("a", 0): ((2, 5), (2, 5)),
        ("a", 0, "b"): ((2, 5), (2, 8)),
        ("a", 0, "c"): ((3, 5), (3, 8)),
        ("a", 1): ((5, 5), (5, 5)),
        ("a", 1, 0): ((5, 6), (5, 6)),
        ("a", 1, 1): ((5, 9), (5, 9)),
    }


def test_a_place_that_is_not_there_is_the_nearest_above_it() -> None:
    document = read_document("a:\n  b: 1\n")
    assert document.find_place(("a", "b", "c", 3)).value == Mark(2, 6)
    assert document.find_place(("z",)).key == Mark(1, 1)
    assert read_document("").find_place(("z",)).key == Mark(1, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [(1, 1, "the file is empty")]),
        ("# only words\n", [(1, 1, "the file is empty")]),
        ("~\n", [(1, 1, "the file is empty")]),
        ("- a\n", [(1, 1, "the file must be a mapping")]),
        ("just words\n", [(1, 1, "the file must be a mapping")]),
        ("---\na: 1\n---\nb: 2\n", [(3, 1, "a second document starts here")]),
        ("a: 1\na: 2\nb: 1\nb: 2\n", [(2, 1, '"a" stands here twice'), (4, 1, '"b" stands here twice')]),
        ("a: 1\na: {b: [1, {c: 2}], d: 3}\n", [(2, 1, '"a" stands here twice')]),
        ("a: &x 1\nb: *x\n", [(1, 4, "anchors (&name) are refused"), (2, 4, "aliases (*name) are refused")]),
        ("&x a: 1\n", [(1, 1, "anchors (&name) are refused")]),
        ("a: 1\n<<: {b: 2}\n", [(2, 1, "merge keys (<<) are refused")]),
        ("a: !secret b\n", [(1, 4, "tags (!name) are refused")]),
        ("a: !!str 1\n", [(1, 4, "tags (!name) are refused")]),
        ("1: a\n", [(1, 1, "the key 1 must be a text")]),
        ("true: a\n", [(1, 1, "the key true must be a text")]),
        ("? [a, b]\n: c\n", [(1, 3, "a key must be a text")]),
        ("a: {{ b }}\n", [(1, 5, "a key must be a text")]),
        ("a:\n\tb: 1\n", [(2, 1, "a tab cannot indent YAML")]),
        ("a: b: c\n", [(1, 5, 'a second ": " on this line')]),
        ('a: "b\nc: 1\n', [(1, 4, "this quote is never closed")]),
        ('a: "b\nc: "d\n', [(1, 4, "this quote is not closed on its line")]),
        ("a: {b: 1\nc: 2\n", [(1, 4, 'this "{" mapping lacks a comma or its "}"')]),
        ("a: [1, 2\nb: 3\n", [(1, 4, 'this "[" list lacks a comma or its "]"')]),
        ('a: ["b" c]\n', [(1, 9, 'this "[" list lacks a comma or its "]"')]),
        ("a: [${X}]\n", [(1, 6, 'this "[" list lacks a comma or its "]"')]),
        ("a: 1\nb\n", [(3, 1, 'a key needs ": " after it')]),
        ("a: @b\n", [(1, 4, "a value cannot start with this character")]),
        ('a: "\\q"\n', [(1, 6, "this escape is not known in YAML")]),
        ("a:\n  - 1\n b: 2\n", [(3, 2, "this does not line up with what stands above it")]),
        ("%YAML x\n---\na: 1\n", [(1, 7, "this cannot be read as YAML")]),
        ('a: 1\nb: "\\U99999999"\n', [(2, 1, "an escape after this place names no character")]),
        ('a: "\\ud83d"\n', [(1, 4, "half a surrogate pair is not a character")]),
        ("a: 1\nb: x\x07y\n", [(2, 5, "the character U+0007 is not allowed in YAML")]),
        ("a: \ud800\n", [(1, 4, "the character U+D800 is not allowed in YAML")]),
        ("a: " + "[" * 40 + "]" * 40, [(1, 36, "nested deeper than 32 levels")]),
        ("a: " + "{" * 40 + "}" * 40, [(1, 5, "a key must be a text"), (1, 37, "nested deeper than 32 levels")]),
        ("a: " + "x" * MAX_BYTES, [(1, 1, "the file is larger than 256 KiB")]),
    ],
)
def test_every_fault_of_form_has_its_place(text: str, found: list[tuple[int, int, str]]) -> None:
    document = read_document(text)
    assert [(problem.line, problem.column, problem.message) for problem in document.problems] == found
    assert all(problem.severity == "error" for problem in document.problems)


def test_what_is_sound_beside_a_fault_is_still_read() -> None:
    document = read_document("a: *x\n2: b\nc: 3\nc: 4\n")
    assert document.data == {"a": None, "c": 3}
    assert document.refused == {("a",)}
    assert document.incomplete == {()}


def test_the_limits_themselves_are_fine() -> None:
    assert read_document("a: " + "x" * (MAX_BYTES - 3)).problems == ()
    assert read_document("a: " + "[" * 31 + "]" * 31).problems == ()


@pytest.mark.untraced
def test_two_hundred_routes_are_read() -> None:
    route = "  route-{}:\n    event: coupon_create\n    variables: [a, b]\n    when: a > 0\n" + "    k{}: v\n" * 12
    text = "routes:\n" + "".join(route.format(*range(number, number + 13)) for number in range(200))
    assert read_document(text).problems == ()


PIECES = ["[", "{", "- ", "? ", "a: ", '"', "!", "&a ", "{},", "[],", "- a\n", "---\n", "%a b\n"]
LENGTH = 3_000


def measure_cost(read: Callable[[str], object], text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many calls a reading takes, and for what looks back and forth in a line the square of its length."""
    squares = 0

    def watch(pattern: re.Pattern[str]) -> Any:
        def search(line: str) -> re.Match[str] | None:
            nonlocal squares
            squares += len(line) ** 2
            return pattern.search(line)

        return SimpleNamespace(search=search)

    with monkeypatch.context() as patch:
        patch.setattr(document, "_Walk", TrueWalk)  # what another test has read would cost nothing
        for name in ("_SPLIT_BY_COMMA", "_SPLIT_BY_COLON"):
            patch.setattr(document, name, watch(getattr(document, name)))
        before, profile = sys.getprofile(), Profile()
        try:
            profile.runcall(read, text)
        finally:
            sys.setprofile(before)
    return squares + sum(entry.callcount for entry in profile.getstats())


def measure_growth(read: Callable[[str], object], piece: str, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return how many times as much a text of twice as many pieces costs."""
    short, long = (piece * (length // len(piece)) for length in (LENGTH, 2 * LENGTH))
    return measure_cost(read, long, monkeypatch) / measure_cost(read, short, monkeypatch)


@pytest.mark.untraced
@pytest.mark.parametrize(
    ("start", "piece"), [*(("", piece) for piece in PIECES), *(("[", piece) for piece in PIECES if piece not in "[{")]
)
def test_hostile_text_of_twice_the_length_costs_at_most_twice_and_never_raises(
    start: str, piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure_growth(lambda text: read_document(start + text), piece, monkeypatch) < 2.2


def test_a_pattern_that_looked_through_whole_lines_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_LONGEST_LINE", 10**9)
    assert measure_growth(read_document, '"', monkeypatch) > 2.2


def test_a_reader_that_began_anew_at_every_line_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: str) -> None:
        lines = text.splitlines(keepends=True)
        for number in range(0, len(lines), 150):
            read_document("".join(lines[:number]))

    assert measure_growth(read, "- a\n", monkeypatch) > 2.2
