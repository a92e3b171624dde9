from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.authoring.examples import judge_recorded, read_recorded, write_example, write_recorded
from app.mapping.document import read_document
from app.mapping.parse import Parsed
from app.mapping.rules import Config

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            {"user_mobile": "9800000001", "amount": 5, "code": "1e5", "note": "a: b", "on": "yes", "list": ["x", None]},
            {"sends": {"to": "+919800000001", "variables": ["5"]}},
        ),
        ({"user_mobile": "9800000001", "amount": 0}, {"hits": False}),
        ({"user_mobile": "9800000001"}, {"hits": False}),
        ({"amount": 5}, {"dead": "recipient_missing"}),
    ],
)
def test_an_example_reads_back_as_the_event_it_was_made_of(
    payload: dict[str, Any],
    expected: dict[str, Any],
    parse: Callable[..., Parsed],
    with_route: Callable[..., str],
    config_of: Callable[[Parsed], Config],
) -> None:
    config = config_of(parse(with_route("provider: bitespeed, template: t, variables: [amount], when: amount > 0")))
    text = write_example(config.routes[0], payload, config, NOW)
    assert all(line.startswith("      ") for line in text.splitlines())
    document = read_document(f"examples:\n{text}")
    assert document.problems == ()
    assert document.data == {"examples": [{"event": payload, **expected}]}


def test_recorded_events_are_written_sorted_and_read_back() -> None:
    recorded: dict[str, Any] = {"b": [{"y": 1, "x": "क"}, {"a": 1}], "a": []}
    text = write_recorded(recorded)
    assert text.index('"a"') < text.index('"b"')
    assert text == write_recorded({"a": [], "b": [{"a": 1}, {"x": "क", "y": 1}]})
    assert read_recorded(text) == {"a": [], "b": [{"a": 1}, {"x": "क", "y": 1}]}
    assert read_recorded(write_recorded({})) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [1]}', "[" * 100_000])
def test_what_is_no_file_of_recorded_events_is_none(text: str) -> None:
    assert read_recorded(text) is None


def test_recorded_events_that_would_die_are_told_once_for_each_way(
    parse: Callable[..., Parsed], with_route: Callable[..., str], config_of: Callable[[Parsed], Config]
) -> None:
    config = config_of(parse(with_route("provider: bitespeed, template: t, variables: [a], when: 1 / b > 0")))
    fine: dict[str, Any] = {"user_mobile": "9800000001", "a": "x", "b": 1}
    events = [fine, {**fine, "a": ""}, {**fine, "a": None}, {**fine, "b": 0}, {**fine, "b": -1}]
    told = [problem.message for problem in judge_recorded(config, {"coupon_create": events}, NOW)]
    missing, broken = told
    assert missing == (
        '2 of 5 recorded events would, on route "a", be dead with variable_missing: variable 1 (`a`) is missing'
    )
    assert broken.startswith('1 of 5 recorded events would, on route "a", be dead: `when` cannot be worked out: `1 / b')
    assert list(judge_recorded(config, {}, NOW)) == []
