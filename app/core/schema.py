"""The JSON Schema of the YAML, for editors: completion, descriptions and red lines while typing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.core.config import ProviderSettings
from app.core.fields import FileFields
from app.core.hints import FORMS, NUMBER, OTHER_FORMS, SECRET, SNIPPETS, TOPICS, WORDS

_REFERENCE = r"\$\{"  # `${NAME}` may stand wherever a text may
_NAME = {"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
_ANYTHING = "JsonValue"
_CLASS = re.compile("(Fields|Settings|Rule)$")  # of a class's name: an editor shows the rest
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
    definitions["RouteFields"]["properties"]["event"] = _describe_topics(definitions["RouteFields"])
    references = {name: places[(model, "validation")]["$ref"] for name, model in sorted(provider_types.items())}
    for name, reference in references.items():
        definitions[reference]["properties"]["type"] = {"const": name, "description": "The provider's type."}
    file["properties"]["providers"] |= {
        "additionalProperties": {"oneOf": [{"$ref": reference} for reference in references.values()]},
        "propertyNames": {**_NAME, "not": {"const": "nector"}},
        "minProperties": 1,
    }
    file["properties"]["routes"] |= {"propertyNames": _NAME, "minProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_clean(file),
        "$defs": {_name(model): _clean(part) for model, part in sorted(definitions.items())},
    }


def _name(model: str) -> str:
    return _CLASS.sub("", model).lower()


def _describe_topics(route: Mapping[str, Any]) -> dict[str, Any]:
    # Open: triggers called through Nector's API may send any topic.
    description = route["properties"]["event"]["description"]
    return {"description": description, "anyOf": [_list_words(TOPICS), {"type": "string", "minLength": 1}]}


# -- what the models do not say -------------------------------------------------------------------


def _add_hints(key: str, described: Mapping[str, Any]) -> dict[str, Any]:
    hinted = {**described, **OTHER_FORMS.get(key, {})}
    if key in FORMS:
        hinted |= _hold_to(*FORMS[key])
    if hinted.get("format") == "password":
        hinted |= _hold_to(*SECRET)
    if key == "only":
        (numbers, _) = hinted["anyOf"]
        hinted["anyOf"] = [{**numbers, "items": {**numbers["items"], **_hold_to(*NUMBER)}}]
    if key in WORDS:
        hinted = {"description": hinted["description"], "default": hinted["default"], "type": "string"}
        hinted |= _list_words(WORDS[key])
    if key in SNIPPETS:
        place = hinted.get("items", hinted)
        place["defaultSnippets"] = SNIPPETS[key]
    return hinted


def _hold_to(form: str, told: str) -> dict[str, str]:
    return {"pattern": rf"^\s*{form}\s*$", "patternErrorMessage": told}


def _list_words(words: Mapping[str, str]) -> dict[str, list[str]]:
    return {"enum": list(words), "enumDescriptions": list(words.values())}


# -- what they say too much -----------------------------------------------------------------------


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
        clean = _choose({**clean, "anyOf": [choice for choice in clean["anyOf"] if choice != {"type": "null"}]})
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


def _choose(schema: dict[str, Any]) -> dict[str, Any]:
    (first, *others) = schema["anyOf"]
    return schema if others else {**first, **{key: value for key, value in schema.items() if key != "anyOf"}}
