"""The YAML as it is read: defaults written out, the environment filled in, and no secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from app.mapping.parse import REFERENCE
from app.mapping.problems import list_leaves
from app.mapping.provider import is_secret_key
from app.sources import SOURCE
from app.values.text import SentFloat

_SECTIONS = ("version", "mode", "only", "store", "providers", "routes")


def write_echo(data: Mapping[str, Any], environment: Mapping[str, str], schema: Mapping[str, Any]) -> str:
    """Return a sound file with all that reading it adds; read again, it comes to the same routes.

    `data`: as written. A secret stays the name of its variable, wherever that is used.
    """
    secret = set(_list_secret_names(data.get("providers", {})))
    defaults, mode = data.get("defaults", {}), schema["properties"]["mode"]["default"]
    of = {name: _list_defaults(schema, name) for name in ("store", "defaults")}
    routes = data["routes"].items()
    whole = {
        **data,
        "mode": data.get("mode", mode),
        "store": data.get("store", {}) | of["store"] | data.get("store", {}),
        "providers": {name: one | _list_defaults(schema, one["type"]) | one for name, one in data["providers"].items()},
        "routes": {name: one | of["defaults"] | defaults | _name_topic(one) for name, one in routes},
    }
    echoed = {key: _fill(whole[key], environment, secret) for key in _SECTIONS if key in whole}
    return _dump(_remark(echoed, environment, secret))


def _list_secret_names(providers: Any) -> Iterator[str]:
    for path, value in list_leaves(providers, ()):
        if is_secret_key(path) and isinstance(value, str):
            yield from (found[1] for found in REFERENCE.finditer(value) if found[1])


def _list_defaults(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    properties = schema["$defs"][name]["properties"]
    return {key: described["default"] for key, described in properties.items() if "default" in described}


def _name_topic(route: Mapping[str, Any]) -> dict[str, Any]:
    return {**route, "event": SOURCE.canonical_topic(route["event"])}


def _fill(value: Any, environment: Mapping[str, str], secret: Collection[str]) -> Any:
    def fill(found: re.Match[str]) -> str:
        name, default = found.groups()
        filled = environment.get(name, "") or default
        return found[0] if name is None or name in secret or filled is None else filled.replace("${", "$${")

    match value:
        case dict():
            return {key: _fill(item, environment, secret) for key, item in value.items()}
        case list():
            return [_fill(item, environment, secret) for item in value]
        case str():
            return REFERENCE.sub(fill, value)
        case _:
            return value


def _remark(value: Any, environment: Mapping[str, str], secret: Collection[str]) -> Any:
    """Return the same with a remark behind each secret: whether it is set, and nothing of it."""
    if isinstance(value, list):
        return [_remark(item, environment, secret) for item in value]
    if not isinstance(value, dict):
        return value
    marked = CommentedMap({key: _remark(item, environment, secret) for key, item in value.items()})
    for key, item in value.items():
        names = [found[1] for found in REFERENCE.finditer(item) if found[1] in secret] if isinstance(item, str) else []
        if names:
            marked.yaml_add_eol_comment("***" if all(map(environment.get, names)) else "not set", key)
    return marked


def _dump(value: Any) -> str:
    yaml = YAML()
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.representer.add_representer(
        SentFloat, lambda shown, number: shown.represent_scalar("tag:yaml.org,2002:float", str(number))
    )
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
