from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.core.document import read_document
from app.core.nector import TOPICS
from app.core.schema import build_schema
from app.providers import settings_types

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "config"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return build_schema(settings_types())


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema)


def read_data(path: Path) -> Any:
    return read_document(path.read_text(encoding="utf-8")).data


def test_the_file_beside_the_yaml_is_what_the_code_says(schema: dict[str, Any]) -> None:
    written = (ROOT / "config" / "relay.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(schema, ensure_ascii=False, indent=2) + "\n", (
        "run: .venv/bin/nector-relay schema > config/relay.schema.json"
    )


def test_the_bundled_file_fits(validator: jsonschema_rs.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read_data(ROOT / "config" / "relay.yaml"))] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("ok-*.yaml")))
def test_a_good_file_fits(name: str, validator: jsonschema_rs.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read_data(CORPUS / f"{name}.yaml"))] == []


@pytest.mark.parametrize(
    "name",
    [
        "unknown-top-key",
        "version-2",
        "mode-wrong",
        "no-routes",
        "no-providers",
        "store-misspelt-key",
        "provider-misspelt-key",
        "provider-key-missing",
        "provider-type-unknown",
        "provider-name-reserved",
        "provider-name-with-blank",
        "provider-concurrency-too-high",
        "defaults-misspelt-key",
        "route-misspelt-key",
        "route-event-missing",
        "route-name-wrong",
        "on-unknown-wrong",
        "variable-is-number",
        "variable-constant-misspelt",
        "variable-name-wrong",
        "button-index-too-high",
        "header-misspelt-kind",
        "example-sends-misspelt-key",
        "example-reason-unknown",
        "key-without-value",
    ],
)
def test_an_editor_sees_the_fault_while_typing(name: str, validator: jsonschema_rs.Draft202012Validator) -> None:
    assert not validator.is_valid(read_data(CORPUS / f"{name}.yaml"))


def test_topics_are_offered_and_others_may_be_written(schema: dict[str, Any]) -> None:
    event = schema["$defs"]["RouteFields"]["properties"]["event"]
    assert jsonschema_rs.is_valid(event, "my_own_trigger")
    assert not jsonschema_rs.is_valid(event, "")
    assert set(TOPICS) <= set(event["anyOf"][0]["enum"])


def test_a_reference_may_stand_for_a_word_of_a_list(validator: jsonschema_rs.Draft202012Validator) -> None:
    data = read_data(ROOT / "config" / "relay.yaml")
    assert validator.is_valid({**data, "mode": "${RELAY_MODE:-shadow}"})
    assert not validator.is_valid({**data, "mode": "shadows"})


def test_every_key_of_our_own_sections_is_described(schema: dict[str, Any]) -> None:
    own = {name: part for name, part in schema["$defs"].items() if name.endswith("Fields")}
    assert len(own) == 8
    for name, part in own.items():
        assert part["description"], name
        for key, described in part["properties"].items():
            assert described.get("description"), f"{name}.{key}"
    assert all(described.get("description") for described in schema["properties"].values())


def test_nothing_of_python_shows(schema: dict[str, Any]) -> None:
    shown = json.dumps(schema)
    for word in ('"null"', '"writeOnly"', '"default": null'):
        assert word not in shown
