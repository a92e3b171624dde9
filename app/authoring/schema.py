"""The JSON Schema of the YAML, for editors: completion, descriptions and red lines while typing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from ruamel.yaml import YAML

from app.mapping.provider import ProviderSettings
from app.mapping.rules import FileFields
from app.sources import SOURCE
from app.sources.properties import list_properties

ID = "https://raw.githubusercontent.com/nector-relay/nector-relay/main/config/relay.schema.json"
_REFERENCE = r"\$\{"  # `${NAME}` may stand wherever a text may
_NAME = {"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
_SECRET = ("", "A secret comes from the environment: ${NAME}.")
_NUMBER = (r"\+[1-9][0-9]{7,14}", 'Must be a number with its country code, in quotes: "+919800000001".')
_ANYTHING = "JsonValue"
_CLASS = re.compile("(Fields|Settings|Rule|Source)$")  # of a class's name: an editor shows the rest
_SAYS_NOTHING = frozenset({"title", "discriminator", "format", "writeOnly"})
_BY_NAME = frozenset({"properties", "patternProperties", "$defs"})
_IN_TURN = frozenset({"anyOf", "oneOf"})
_WITHIN = frozenset({"items", "additionalProperties"})


def build_schema(provider_types: Mapping[str, type[ProviderSettings]]) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a file whose providers may be of these types."""
    models: list[type[BaseModel]] = [FileFields, *provider_types.values()]
    places, whole = models_json_schema([(model, "validation") for model in models], ref_template="{model}")
    definitions = whole["$defs"]
    file = definitions.pop("FileFields")
    del definitions[_ANYTHING], definitions["Reason"]  # an example knows the few that an event can lead to
    for part in (file, *definitions.values()):
        part["properties"] = {key: _add_hints(key, value) for key, value in part["properties"].items()}
    definitions["ExampleFields"]["properties"]["event"]["properties"] = _list_event()
    # Open: triggers of a merchant's own may send any topic.
    topic = definitions["RouteFields"]["properties"]["event"]
    topics = [_list_words(_list_topics()), {"type": "string", "minLength": 1}]
    definitions["RouteFields"]["properties"]["event"] = {"description": topic["description"], "anyOf": topics}
    references = {name: places[(model, "validation")]["$ref"] for name, model in sorted(provider_types.items())}
    for name, reference in references.items():
        definitions[reference]["properties"]["type"] = {"const": name, "description": "The provider's type."}
    file["properties"]["providers"] |= {
        "additionalProperties": {"oneOf": [{"$ref": reference} for reference in references.values()]},
        "propertyNames": {**_NAME, "not": {"const": SOURCE.name}},
        "minProperties": 1,
    }
    file["properties"]["routes"] |= {"propertyNames": _NAME, "minProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "The YAML of nector-relay",
        **_clean(file),
        "$defs": {_name(model): _clean(part) for model, part in sorted(definitions.items())},
    }


def _name(model: str) -> str:
    return _CLASS.sub("", model).lower()


def _list_topics() -> dict[str, str]:
    """Return the topics, each with what it tells; beside it its other spellings (names on a screen have blanks)."""
    topics: dict[str, str] = {}
    for topic, told in SOURCE.topics.items():
        others = [other for other, one in SOURCE.spellings.items() if one == topic and " " not in other]
        topics |= {topic: told, **dict.fromkeys(others, f"The same as {topic}.")}
    return topics


def _list_event() -> dict[str, Any]:
    """Return the properties that some event may well hold; no kind, for an example may show what a wrong one does."""
    whole: dict[str, Any] = {"properties": {}}
    for topic in SOURCE.topics:
        for path, kind, field in list_properties(SOURCE.find_model(topic)):
            *parents, last = path
            place = whole
            for parent in parents:
                place = place["properties"][parent]
            told = field.description or f"{kind.capitalize()}."
            place.setdefault("properties", {}).setdefault(last, {"description": told})
    properties: dict[str, Any] = whole["properties"]
    return properties


@cache
def read_hints() -> Mapping[str, Mapping[str, Any]]:
    """Return what schema.yaml says of keys: `words`, `forms`, `other_forms` and `snippets`."""
    hints: dict[str, Any] = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return hints


def _add_hints(key: str, described: Mapping[str, Any]) -> dict[str, Any]:
    words, forms, other_forms, snippets = read_hints().values()
    hinted = {**described, **other_forms.get(key, {})}
    if key in forms:
        hinted |= _hold_to(*forms[key])
    if hinted.get("format") == "password":
        hinted |= _hold_to(*_SECRET)
    if key == "only":
        (numbers, _) = hinted["anyOf"]
        hinted["anyOf"] = [{**numbers, "items": {**numbers["items"], **_hold_to(*_NUMBER)}}]
    if key in words:
        hinted = {"description": hinted["description"], "default": hinted["default"], "type": "string"}
        hinted |= _list_words(words[key])
    if key in snippets:
        place = hinted.get("items", hinted)
        place["defaultSnippets"] = snippets[key]
    return hinted


def _hold_to(form: str, told: str) -> dict[str, str]:
    return {"pattern": rf"^\s*{form}\s*$", "patternErrorMessage": told}


def _list_words(words: Mapping[str, str]) -> dict[str, list[str]]:
    return {"enum": list(words), "enumDescriptions": list(words.values())}


def _clean(schema: Any) -> Any:
    """Leave out what says nothing, and let `${NAME}` stand for any text that is held to a list of words."""
    if not isinstance(schema, dict) or schema.get("$ref") == _ANYTHING:
        return True if isinstance(schema, dict) else schema
    clean = {key: _clean_part(key, value) for key, value in schema.items() if key not in _SAYS_NOTHING}
    if isinstance(clean.get("default"), list | dict | None) or clean["default"] == "":  # an editor would write it down
        clean.pop("default", None)
    if "patternProperties" in clean:  # names of variables: any other name is a fault
        clean["additionalProperties"] = False
    if "anyOf" in clean:  # null: a key without a value is refused
        (first, *others) = [choice for choice in clean["anyOf"] if choice != {"type": "null"}]
        chosen = {key: value for key, value in clean.items() if key != "anyOf"}
        clean = {**clean, "anyOf": [first, *others]} if others else {**first, **chosen}
    if "pattern" in clean and clean["pattern"] != _REFERENCE:
        clean["pattern"] += f"|{_REFERENCE}"
    if "enum" in clean and clean.get("type") == "string":
        words = {"type": "string", **{key: clean.pop(key) for key in ("enum", "enumDescriptions") if key in clean}}
        clean = {
            **{key: value for key, value in clean.items() if key != "type"},
            "anyOf": [words, {"type": "string", "pattern": _REFERENCE}],
        }
    return clean


def _clean_part(key: str, value: Any) -> Any:
    if key == "$ref":
        return f"#/$defs/{_name(value)}"
    if key in _BY_NAME:
        return {name: _clean(part) for name, part in value.items()}
    if key in _IN_TURN:
        return [_clean(part) for part in value]
    return _clean(value) if key in _WITHIN else value
