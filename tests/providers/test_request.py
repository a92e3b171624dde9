from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.model.message import Header, Location, Message, Variable
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


def test_everything_that_fills_a_template_goes_as_cloud_apis_components() -> None:
    """https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/template-messages."""
    document = Header("document", "https://cdn.example/1042.pdf", "bill.pdf")
    message = Message("+919800000001", "t", variables=(Variable("name", "Riya"), Variable("2", "100")), header=document)
    mapping = {"template": {"components": "$components", "ends": "$offer_ends_at"}}
    assert fill_mapping(mapping, message_values(message, "d-1")) == {
        "template": {
            "components": [
                {
                    "type": "header",
                    "parameters": [
                        {
                            "type": "document",
                            "document": {"link": "https://cdn.example/1042.pdf", "filename": "bill.pdf"},
                        }
                    ],
                },
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "parameter_name": "name", "text": "Riya"},
                        {"type": "text", "text": "100"},
                    ],
                },
            ]
        }
    }
    text = replace(message, header=Header("text", "Diwali"), variables=())
    assert message_values(text, "d-1")["components"] == [
        {"type": "header", "parameters": [{"type": "text", "text": "Diwali"}]}
    ]
    assert message_values(Message("+919800000001", "t"), "d-1")["components"] is None
    with pytest.raises(ValueError, match="whole value"):
        check_mapping("x-$components", MESSAGE_NAMES)


def test_a_location_is_described_as_an_object_of_its_parts() -> None:
    place = Location("12.97", "77.59", "Acme", "1 MG Road")
    values = message_values(Message("+919800000001", "t", header=place), "d-1")
    parts = {"latitude": "12.97", "longitude": "77.59", "name": "Acme", "address": "1 MG Road"}
    assert values["header"] == {"kind": "location", **parts}
    assert (values["header_kind"], values["header_value"]) == ("location", "Acme, 1 MG Road")
