"""`nector-relay echo`: the YAML as it is read, with no secret; `schema`: what an editor completes and checks it by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml.comments import CommentedMap

from app.authoring.examples import write_yaml
from app.authoring.schema import build_schema
from app.cli.commands import print_json
from app.cli.sources import read_config, read_yaml
from app.mapping.document import read_document
from app.mapping.parse import REFERENCE
from app.mapping.problems import list_leaves
from app.mapping.provider import is_secret_key
from app.providers import settings_types
from app.settings import read_environment
from app.sources import SOURCE


def echo(path: Annotated[Path | None, typer.Argument(help="The YAML file (else RELAY_CONFIG).")] = None) -> int:
    """Print what reading the YAML gives: defaults and environment filled in, a secret as its variable's name alone."""
    environment = read_environment()
    read_config(path, environment)
    data = read_document(read_yaml(path, environment).sources.text).data or {}
    print(write_echo(data, environment, build_schema(settings_types())), end="")
    return 0


def schema() -> int:
    """Print the JSON Schema of the YAML (config/relay.schema.json is this)."""
    print_json(build_schema(settings_types()))
    return 0


_SECTIONS = ("version", "mode", "only", "store", "providers", "routes")


def write_echo(data: Mapping[str, Any], environment: Mapping[str, str], schema: Mapping[str, Any]) -> str:
    """Return a sound file with all that reading it adds; read again, it comes to the same routes.

    `data`: as written. A secret stays the name of its variable, wherever that is used.
    """
    secret = set(_list_secret_names(data.get("providers", {})))
    defaults, mode = data.get("defaults", {}), schema["properties"]["mode"]["default"]
    of = {name: _list_defaults(schema, name) for name in ("store", "defaults")}
    whole = {
        **data,
        "mode": data.get("mode", mode),
        "store": data.get("store", {}) | of["store"] | data.get("store", {}),
        "providers": {name: one | _list_defaults(schema, one["type"]) | one for name, one in data["providers"].items()},
        "routes": {
            name: one | of["defaults"] | defaults | one | {"event": SOURCE.canonical_topic(one["event"])}
            for name, one in data["routes"].items()
        },
    }
    return write_yaml(_fill({key: whole[key] for key in _SECTIONS if key in whole}, environment, secret))


def _list_secret_names(providers: Any) -> Iterator[str]:
    for path, value in list_leaves(providers, ()):
        if is_secret_key(path) and isinstance(value, str):
            yield from (found[1] for found in REFERENCE.finditer(value) if found[1])


def _list_defaults(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    properties = schema["$defs"][name]["properties"]
    return {key: described["default"] for key, described in properties.items() if "default" in described}


def _fill(value: Any, environment: Mapping[str, str], secret: Collection[str]) -> Any:
    """Return the same with its variables' values, and a remark behind each secret: whether it is set, nothing of it."""

    def fill(found: re.Match[str]) -> str:
        name, default = found.groups()
        filled = environment.get(name, "") or default
        return found[0] if name is None or name in secret or filled is None else filled.replace("${", "$${")

    match value:
        case dict():
            marked = CommentedMap({key: _fill(item, environment, secret) for key, item in value.items()})
            for key, item in value.items():
                found = REFERENCE.finditer(item) if isinstance(item, str) else ()
                if names := [one[1] for one in found if one[1] in secret]:
                    marked.yaml_add_eol_comment("***" if all(map(environment.get, names)) else "not set", key)
            return marked
        case list():
            return [_fill(item, environment, secret) for item in value]
        case str():
            return REFERENCE.sub(fill, value)
        case _:
            return value
