from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

from app.authoring.schema import build_schema, read_hints
from app.mapping.document import read_document
from app.mapping.parse import parse_config
from app.mapping.provider import ProviderSettings
from app.model.delivery import Mode, OnUnknown, Reason
from app.providers import settings_types
from app.sources import SOURCE

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "config"
WORDS, FORMS = read_hints()["words"], read_hints()["forms"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return build_schema(settings_types())


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema)


# What no schema can say: what a name refers to, what an expression means, what two keys say together.
CHECK_ALONE = {
    "anchor",
    "button-missing-for-template",
    "button-not-of-template",
    "button-twice",
    "date-pattern-wrong",
    "defaults-provider-unknown",
    "duplicate-key",
    "duplicate-route-name",
    "example-expects-two-things",
    "expression-assigns",
    "expression-braces-quoted",
    "expression-calls",
    "expression-syntax",
    "filter-arguments-wrong",
    "filter-unknown",
    "header-not-of-template",
    "header-two-kinds",
    "header-without-kind",
    "live-from-is-no-date",
    "merge-key",
    "provider-base-url-plain-http",
    "provider-rate-zero",
    "provider-timeout-zero",
    "reference-malformed",
    "route-doubled",
    "route-provider-missing",
    "route-provider-unknown",
    "secret-in-default",
    "secret-literal-in-header",
    "store-country-unknown",
    "store-locale-unknown",
    "store-timezone-is-folder",
    "store-timezone-unknown",
    "tag",
    "valid-for-too-long",
    "valid-for-zero",
    "variable-name-missing",
    "variable-name-unknown",
    "variables-too-few",
    "variables-too-many",
    "when-is-false",
    "when-never-true",
}
FAULTY = [
    path.stem
    for path in CORPUS.glob("*.yaml")
    if not path.stem.startswith(("ok-", "warn-")) and path.stem != "templates"
]


def read_data(path: Path) -> Any:
    return read_document(path.read_text(encoding="utf-8")).data


def test_the_file_beside_the_yaml_is_what_the_code_says(schema: dict[str, Any]) -> None:
    written = (ROOT / "config" / "relay.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(schema, ensure_ascii=False, indent=2) + "\n", (
        "run: .venv/bin/nector-relay schema > config/relay.schema.json"
    )


def test_the_bundled_file_fits(validator: jsonschema_rs.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read_data(ROOT / "config" / "relay.yaml"))] == []


@pytest.mark.parametrize("name", sorted(path.stem for kind in ("ok", "warn") for path in CORPUS.glob(f"{kind}-*.yaml")))
def test_a_good_file_fits(name: str, validator: jsonschema_rs.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(read_data(CORPUS / f"{name}.yaml"))] == []


@pytest.mark.parametrize("name", sorted(set(FAULTY) - CHECK_ALONE))
def test_an_editor_sees_the_fault_while_typing(name: str, validator: jsonschema_rs.Draft202012Validator) -> None:
    document = read_document((CORPUS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert document.data is None or not validator.is_valid(document.data)  # None: it is not even YAML


@pytest.mark.parametrize("name", sorted(CHECK_ALONE))
def test_what_only_check_finds_is_told_apart(name: str, validator: jsonschema_rs.Draft202012Validator) -> None:
    assert validator.is_valid(read_data(CORPUS / f"{name}.yaml"))


def test_an_examples_event_is_offered_likely_properties_and_may_hold_any(schema: dict[str, Any]) -> None:
    event = schema["$defs"]["example"]["properties"]["event"]
    assert {"user_mobile", "amount", "expire", "_id"} < event["properties"].keys()
    assert event["properties"]["value"]["description"] == "The coupon's code."
    assert event["properties"]["customer"]["properties"]["mobile"] == {"description": "A mobile number."}
    assert jsonschema_rs.is_valid(event, {"theirs": [1], "amount": ["wrong"], "customer": 5})


def test_topics_are_offered_in_both_spellings_and_others_may_be_written(schema: dict[str, Any]) -> None:
    event = schema["$defs"]["route"]["properties"]["event"]
    assert jsonschema_rs.is_valid(event, "my_own_trigger")
    assert not jsonschema_rs.is_valid(event, "")
    offered = event["anyOf"][0]["enum"]
    assert {SOURCE.canonical_topic(topic) for topic in offered} == set(SOURCE.topics)
    assert {"wallettrasaction_update", "wallettransaction_update"} <= set(offered)


TEXTS = [
    "90s",
    "15m",
    "6h",
    "7d",
    "5ms",
    "2min",
    "24 hours",
    "1w",
    "6",
    "16/s",
    "1000/min",
    "0.5/h",
    "16 per s",
    "10/d",
    "en",
    "hi",
    "en_US",
    "english",
    "2026-10-01T00:00:00+05:30",
    "2026-10-01T00:00:00Z",
    "2026-10-01",
    "2026-10-01 10:00",
]


PLACES = {**dict.fromkeys(("rate", "timeout"), "http"), **dict.fromkeys(("person", "route", "all"), "limits")}


@pytest.mark.parametrize("key", sorted(FORMS))
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_form_that_check_wants(key: str, text: str, schema: dict[str, Any]) -> None:
    part = schema["$defs"][PLACES.get(key, "route")]
    assert jsonschema_rs.is_valid(part["properties"][key], text) is is_read(key, text)


def is_read(key: str, text: str) -> bool:
    """Whether the parser takes the text there."""
    place, written = PLACES.get(key, "route"), f"{key}: '{text}'"
    provider, route = (f", {written}" if each == place else "" for each in ("http", "route"))
    limits = f"limits: {{{written}}}" if place == "limits" else ""
    written = f"""version: 1
{limits}
providers: {{a: {{type: http, base_url: "https://a.example", body: {{to: $phone}}{provider}}}}}
routes: {{r: {{event: order_create, provider: a, template: t{route}}}}}
"""
    parsed = parse_config(written, environment={}, provider_types=settings_types(), templates={})
    return all(problem.severity != "error" for problem in parsed.problems)


@pytest.mark.parametrize(
    ("definition", "key", "value", "fits"),
    [
        ("route", "when", False, True),
        ("route", "when", 1, False),
        ("route", "only", ["+919800000001"], True),
        ("route", "only", ["${MINE}"], True),
        ("route", "only", ["9800000001"], False),
        ("route", "valid_for", "${VALID_FOR:-24h}", True),
        ("http", "message_id", "data.id", True),
        ("http", "message_id", ["data.id", "id"], True),
        ("http", "path", "/v1/send", True),
        ("http", "path", "${SEND_PATH}", True),
        ("http", "path", "v1/send", False),
        ("http", "allow_http", True, True),
        ("http", "allow_http", "${ALLOW_HTTP:-false}", True),
        ("http", "allow_http", "yes", False),
        ("gallabox", "api_key", "${KEY}", True),
        ("gallabox", "api_key", "sk-live-4711", False),
        ("gallabox", "webhook_secret", "", True),
    ],
)
def test_what_is_read_before_it_is_checked_may_be_written_so(
    definition: str, key: str, value: Any, fits: bool, schema: dict[str, Any]
) -> None:
    assert jsonschema_rs.is_valid(schema["$defs"][definition]["properties"][key], value) is fits


def test_a_reference_may_stand_for_a_word_of_a_list(validator: jsonschema_rs.Draft202012Validator) -> None:
    data = read_data(ROOT / "config" / "relay.yaml")
    assert validator.is_valid({**data, "mode": "${RELAY_MODE:-shadow}"})
    assert not validator.is_valid({**data, "mode": "shadows"})


def list_schemas(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema that has a place in the file, with its path."""
    for name in ("properties", "patternProperties", "$defs"):
        for key, part in value.get(name, {}).items():
            yield f"{path}/{key}", part
            yield from list_schemas(part, f"{path}/{key}")
    for name in ("anyOf", "oneOf"):
        for part in value.get(name, ()):
            yield from list_schemas(part, path)
    for name in ("items", "additionalProperties"):
        if isinstance(value.get(name), dict):
            yield from list_schemas(value[name], path)


def list_keys(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {path: part for path, part in list_schemas(schema) if "^" not in path}


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    keys = list_keys(schema)
    assert {"/http/accepted", "/accepted/path", "/gallabox/api_key", "/sends/to", "/button/url", "/route"} <= set(keys)
    assert len(keys) > 90
    assert [path for path, part in keys.items() if not part.get("description")] == []
    assert "/route/mode" in [  # the control: the walk sees a key that lost its description
        path
        for path, part in list_keys(without(schema, "description", of="mode")).items()
        if not part.get("description")
    ]


def without(value: Any, key: str, *, of: str) -> Any:
    """Return a schema whose keys of this name have lost something."""
    if isinstance(value, list):
        return [without(item, key, of=of) for item in value]
    if not isinstance(value, dict):
        return value
    cut = {name: without(item, key, of=of) for name, item in value.items()}
    if isinstance(cut.get(of), dict):
        cut[of] = {name: item for name, item in cut[of].items() if name != key}
    return cut


def test_every_word_of_a_list_says_what_it_means(schema: dict[str, Any]) -> None:
    lists = [part for path, key in list_schemas(schema) for part in (key, *key.get("anyOf", ())) if "enum" in part]
    described = [part for part in lists if "enumDescriptions" in part]
    assert len(described) >= 9
    assert [part["enum"] for part in lists if part not in described] == [["POST", "PUT", "PATCH"]] * 2
    assert all(len(part["enum"]) == len(part["enumDescriptions"]) for part in described)


def test_the_words_are_those_that_check_knows() -> None:
    for key, known in {"mode": Mode, "on_unknown": OnUnknown}.items():
        assert set(WORDS[key]) == set(get_args(known))
    assert set(WORDS["treat_500_as"]) == set(get_args(ProviderSettings.model_fields["treat_500_as"].annotation))
    assert set(WORDS["dead"]) < {reason.value for reason in Reason}


def test_the_examples_of_a_key_fit_it(schema: dict[str, Any]) -> None:
    tried = 0
    for path, part in list_keys(schema).items():
        for example in part.get("examples", ()) if isinstance(part.get("examples"), list) else ():
            tried += 1
            assert jsonschema_rs.is_valid({**part, "$defs": schema["$defs"]}, example), (path, example)
    assert tried > 30


def test_no_default_is_offered_that_check_would_refuse(schema: dict[str, Any]) -> None:
    for path, part in list_keys(schema).items():
        if not isinstance(part.get("default", {}), dict):
            assert part["default"] != "", path
            assert jsonschema_rs.is_valid({**part, "$defs": schema["$defs"]}, part["default"]), path


def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)


def test_nothing_of_python_shows(schema: dict[str, Any]) -> None:
    shown = json.dumps(schema)
    for word in ('"null"', '"writeOnly"', '"default": null', "Fields", 'Settings"', "JsonValue"):
        assert word not in shown
