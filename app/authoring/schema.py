"""The JSON Schema of the YAML, for editors: completion, descriptions and red lines while typing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.mapping.provider import ProviderSettings
from app.mapping.rules import FileFields
from app.model.delivery import Reason
from app.sources import SOURCE
from app.sources.base import list_properties

ID = "https://raw.githubusercontent.com/nector-relay/nector-relay/main/config/relay.schema.json"
_REFERENCE = r"\$\{"  # `${NAME}` may stand wherever a text may
_NAME = {"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
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


# The reasons that an event alone can lead to: no other can be what an example expects.
DEAD: Mapping[str, str] = {
    Reason.VARIABLE_MISSING.value: "The event lacks a property that the message needs.",
    Reason.VARIABLE_INVALID.value: "It is there and cannot be used: not a date, a list, a link too long.",
    Reason.RECIPIENT_MISSING.value: "The event names no mobile number.",
    Reason.RECIPIENT_INVALID.value: "Not one mobile number with exactly one reading.",
    Reason.EXPRESSION_FAILED.value: "An expression cannot be worked out for this event.",
    Reason.DEADLINE_INVALID.value: "`valid_until` is missing or no date.",
}
WORDS: Mapping[str, Mapping[str, str]] = {
    "dead": DEAD,
    "mode": {"live": "Messages are sent.", "shadow": "What would be sent is recorded; nothing is sent."},
    "on_unknown": {
        "hold": "Wait for a receipt or for a person: never twice, perhaps not at all.",
        "resend": "Send it once more by itself: perhaps twice.",
    },
    "landlines": {
        "refuse": "A number that is certainly a landline gets no message.",
        "allow": "A landline may be on WhatsApp, too, and gets messages like a mobile.",
    },
    "webhook_signature": {
        "base64": "As Gallabox documents it.",
        "hex": "As some handlers in use read it.",
        "either": "Take both.",
    },
    "treat_500_as": {
        "retry": "It was surely not sent: try again.",
        "unknown": "It may have been sent: `on_unknown` decides.",
    },
}
"""By key: the words that it may have, and what each means."""

FORMS: Mapping[str, tuple[str, str]] = {
    "valid_for": ("[0-9]{1,9}(ms|s|min|m|h|d)", "Must be a duration such as 90s, 15m, 6h or 7d."),
    "timeout": ("[0-9]{1,9}(ms|s|min|m|h|d)", "Must be a duration such as 90s, 15m, 6h or 7d."),
    "rate": (r"[0-9]{1,6}(\.[0-9]{1,3})?/(s|min|m|h)", "Must be a rate such as 16/s, 1000/min or 100/h."),
    **dict.fromkeys(
        ("person", "route", "all"),
        ("[1-9][0-9]{0,6}/(s|min|m|h|d)", "Must be a number of messages in a time, such as 10/d or 2000/h."),
    ),
    "language": (
        r"([a-z]{2,3}(_[A-Z][A-Za-z]{1,3})?|.*\|\s*d(efault)?\s*\(.*)",
        'Must be a language as at WhatsApp, such as en or hi_IN, or an expression such as lang | default("en").',
    ),
    "live_from": (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})",
        "Must be an instant with its zone, such as 2026-10-01T00:00:00+05:30.",
    ),
}
"""By key: what its text looks like, and what to say of any other (values.duration and mapping.fields judge)."""

SECRET = ("", "A secret comes from the environment: ${NAME}.")
NUMBER = (r"\+[1-9][0-9]{7,14}", 'Must be a number with its country code, in quotes: "+919800000001".')

OTHER_FORMS: Mapping[str, Mapping[str, Any]] = {
    "when": {"type": ["string", "boolean"]},  # `when: false` switches a route off
    "message_id": {"type": ["string", "array"]},
    "allow_http": {"type": ["boolean", "string"], "pattern": r"\$\{"},
    "hits": {"default": None},  # `hits: true` is what everybody means; only false is worth writing
}
"""By key: what may stand there beside what its model says, for it is read before it is checked."""

# In a snippet `${1:…}` is where the cursor goes, and `\${` is the text `${`.
_EVENT = {"user_name": "Riya", "user_mobile": '"9800000001"', "amount": 100}
SNIPPETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "routes": [
        {
            "label": "a new route",
            "description": "One event, one message, and an example that `nector-relay check` runs.",
            "body": {
                "${1:coins-earned}": {
                    "event": "${2:walletreward_create}",
                    "template": "${3:coins_earned}",
                    "variables": ['${4:user_name | default("there")}', "${5:amount | number}"],
                    "examples": [{"event": _EVENT, "sends": {"to": '"+919800000001"'}}],
                }
            },
        }
    ],
    "examples": [
        {
            "label": "an event that is sent",
            "description": "Only the keys under `sends` are compared.",
            "body": {"event": _EVENT, "sends": {"to": '"+919800000001"'}},
        },
        {
            "label": "an event that misses the route",
            "description": "`when` keeps it away.",
            "body": {"event": _EVENT, "hits": False},
        },
        {
            "label": "an event of which nothing can be sent",
            "description": "It reaches nobody, and the relay says why.",
            "body": {"event": {"user_mobile": '"9800000001"'}, "dead": "${1:variable_missing}"},
        },
    ],
}
"""By key: blocks to begin an entry of it with."""
