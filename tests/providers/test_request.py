from __future__ import annotations

from typing import Any

import pytest

from app.model.message import Header, Message, Variable
from app.providers.request import MESSAGE_NAMES, check_mapping, fill_mapping, message_values

VALUES = {"template": "tpl", "name": None, "variables": ["a", "$template"], "header": None, "n": 5}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("$template", "tpl"),
        ("x-$template-$n", "x-tpl-5"),
        ("hi $name!", "hi !"),
        ("$$template costs $$5", "$template costs $5"),
        ("$$", "$"),
        ("US$5", "US$5"),
        ("$variables", ["a", "$template"]),
        ({"a": "$name", "b": 1, "c": None, "d": True}, {"b": 1, "c": None, "d": True}),
        (["$name", "x", None], ["x", None]),
        ({"media": {"url": "$name"}, "list": ["$name"], "kept": {}, "also": []}, {"kept": {}, "also": []}),
        ({"only": "$name"}, None),
        (7, 7),
    ],
)
def test_placeholders_are_filled_once(mapping: Any, expected: Any) -> None:
    assert fill_mapping(mapping, VALUES) == expected


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"a": [{"b": "$nam"}]}, r"\$nam is not known; there are \$buttons"),
        ("x $variables", "whole value"),
        ("$header$header", "whole value"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(mapping: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_mapping(mapping, MESSAGE_NAMES)


@pytest.mark.parametrize("mapping", [{"a": ["$phone", 1, None, "$$x", "US$5"]}, "$variables", 3])
def test_right_mappings_pass(mapping: Any) -> None:
    check_mapping(mapping, MESSAGE_NAMES)


def test_every_known_name_has_a_value_and_no_other() -> None:
    assert set(message_values(Message("+919800000001", "t"), "d-1")) == MESSAGE_NAMES


def test_a_message_fills_every_name() -> None:
    message = Message(
        "+919800000001", "t", variables=(Variable("a", "1"), Variable(None, "2")), header=Header("text", "Diwali")
    )
    values = message_values(message, "d-1")
    assert values["variables_by_name"] == {"a": "1", "2": "2"}
    assert values["text_parameters"] == [
        {"type": "text", "parameter_name": "a", "text": "1"},
        {"type": "text", "text": "2"},
    ]
    assert values["header"] == {"kind": "text", "text": "Diwali"}
    assert (values["header_kind"], values["header_value"], values["header_filename"]) == ("text", "Diwali", None)
    assert (values["phone"], values["phone_plus"]) == ("919800000001", "+919800000001")
    assert (values["name"], values["language"], values["buttons"]) == (None, None, None)


def test_a_media_header_without_a_file_name_has_none() -> None:
    values = message_values(Message("+919800000001", "t", header=Header("video", "https://cdn.example/v")), "d-1")
    assert values["header"] == {"kind": "video", "url": "https://cdn.example/v"}
