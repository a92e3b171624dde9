"""`nector-relay echo`: the YAML as it is read; `schema`: what an editor completes and checks it by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.authoring.echo import write_echo
from app.authoring.schema import build_schema
from app.cli.commands import print_json
from app.cli.mapping.sources import read_config, read_yaml
from app.mapping.document import read_document
from app.providers import settings_types
from app.settings import read_environment


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
