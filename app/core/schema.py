"""The JSON Schema of the YAML, for editors: completion, descriptions and red lines while typing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.core.config import ProviderSettings
from app.core.fields import FileFields
from app.core.nector import TOPICS

_REFERENCE = {"type": "string", "pattern": r"\$\{"}  # `${NAME}` may stand wherever a text may
_NAME = {"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}


def build_schema(provider_types: Mapping[str, type[ProviderSettings]]) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a file whose providers may be of these types."""
    models: list[type[BaseModel]] = [FileFields, *provider_types.values()]
    places, whole = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    definitions = whole["$defs"]
    _describe_topics(definitions["RouteFields"])
    file = definitions.pop("FileFields")
    references = {name: places[(model, "validation")]["$ref"] for name, model in sorted(provider_types.items())}
    for name, reference in references.items():
        _describe_provider(definitions[reference.rpartition("/")[2]], name)
    file["properties"]["providers"] |= {
        "additionalProperties": {"oneOf": [{"$ref": reference} for reference in references.values()]},
        "propertyNames": {**_NAME, "not": {"const": "nector"}},
        "minProperties": 1,
    }
    file["properties"]["routes"] |= {"propertyNames": _NAME, "minProperties": 1}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nector-relay",
        **{key: value for key, value in file.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }
    loosened: dict[str, Any] = _loosen(schema)
    return loosened


def _describe_topics(route: dict[str, Any]) -> None:
    # Open: triggers called through Nector's API may send any topic.
    route["properties"]["event"] = {
        "description": route["properties"]["event"]["description"],
        "anyOf": [{"enum": list(TOPICS)}, {"type": "string", "minLength": 1}],
    }


def _describe_provider(definition: dict[str, Any], name: str) -> None:
    definition["properties"]["type"] = {
        "const": name,
        "description": "The provider's type.",
    }


def _loosen(value: Any) -> Any:
    """Let `${NAME}` stand for any text that is otherwise held to a list of words, and leave out what says nothing."""
    if isinstance(value, list):
        return [_loosen(item) for item in value]
    if not isinstance(value, dict):
        return value
    loose = {key: _loosen(item) for key, item in value.items() if key not in ("title", "discriminator", "writeOnly")}
    if "patternProperties" in loose:  # names of variables: any other name is a fault
        loose["additionalProperties"] = False
    if {"type": "null"} in loose.get("anyOf", ()):  # a key without a value is refused
        others = [choice for choice in loose.pop("anyOf") if choice != {"type": "null"}]
        loose = {key: loose[key] for key in loose if key != "default"} | (
            others[0] if len(others) == 1 else {"anyOf": others}
        )
    if "enum" in loose and loose.get("type") == "string":
        kept = {key: loose[key] for key in ("description", "default", "examples") if key in loose}
        return {**kept, "anyOf": [{"type": "string", "enum": loose["enum"]}, _REFERENCE]}
    return loose
