"""The files of a relay: `init` writes those to start from, `echo` shows the YAML read, `backup` copies the outbox."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from ruamel.yaml.comments import CommentedMap
from typer import Argument, Option

from app.authoring.examples import write_yaml
from app.authoring.schema import build_schema
from app.cli import Answer, print_json
from app.cli.sources import read_config, read_yaml
from app.cli.tables import count_nouns, show_progress
from app.clock import read_clock
from app.errors import RelayError, StoreError
from app.mapping import list_leaves
from app.mapping.document import read_document
from app.mapping.parse import REFERENCE
from app.mapping.provider import is_secret_key
from app.outbox.sqlite.backup import back_up
from app.providers import settings_types
from app.settings import read_environment, read_settings
from app.sources import SOURCE

STARTER = Path(__file__).parents[1] / "starter"
"""The files to start from; in the repository links to config/ and .env.example."""
NEXT = """
Next, in {folder}, each in a terminal of its own:
  nector-relay sandbox                    a fake Gallabox and BiteSpeed
  nector-relay serve --host 127.0.0.1     the relay
  nector-relay post coins-earned          an event, as Nector would post it

relay.yaml says which event sends what; after each change:
  nector-relay check                      its mistakes, each with its cure
  nector-relay preview                    the messages as customers see them

To go live, give Nector's webhooks the secret in .env, RELAY_NECTOR_SECRETS,
put your providers' accounts into .env, and take out GALLABOX_BASE_URL and
BITESPEED_BASE_URL, which name the sandbox."""


def init(
    folder: Annotated[Path, Argument(metavar="DIR", help="Where to; it is made if it is not there.")] = Path(),
    force: Annotated[bool, Option("--force", help="Overwrite what is there, .env and its secrets, too.")] = False,
) -> Answer:
    """Write relay.yaml, templates.yaml, .env and compose.yaml to start from, with secrets made at random.

    Nothing is overwritten without --force.
    """
    texts = make_files()
    there = [name for name in texts if (folder / name).exists()]
    if there and not force:
        raise RelayError(f"{folder}: has {', '.join(there)} already; choose another DIR, or overwrite with --force")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _write(folder / name, text)
    wrote = "\n".join(f"wrote {folder / name}" for name in texts)
    next_ = NEXT.format(folder="this folder" if folder == Path() else folder)
    return Answer({"folder": str(folder), "written": list(texts)}, lambda: print(f"{wrote}\n{next_}"))


def make_files() -> Mapping[str, str]:
    """Return the files' texts by their names."""
    kept = {name: (STARTER / name).read_text(encoding="utf-8") for name in ("relay.yaml", "templates.yaml")}
    schema = json.dumps(build_schema(settings_types()), ensure_ascii=False, indent=2) + "\n"
    environment = fill_secrets((STARTER / "env.example").read_text(encoding="utf-8"))
    compose = (STARTER / "compose.yaml").read_text(encoding="utf-8")
    return {**kept, "relay.schema.json": schema, ".env": environment, "compose.yaml": compose}


def fill_secrets(example: str) -> str:
    """Return `.env.example` as a folder's own: each invented value is a random one, and the YAML stands beside it."""
    text = re.sub(r"(?m)^(\w+=)sandbox-.*$", lambda found: found[1] + secrets.token_hex(16), example)
    text = re.sub(r"(?m)^(RELAY_TEST_NUMBERS=).*$", r"\1", text).replace("config/relay.yaml", "relay.yaml")
    return re.sub(r"\A.*\n", "# Every setting. What you make of it is yours alone: it holds secrets.\n", text)


def _write(path: Path, text: str) -> None:
    """Write a file; one with secrets is its owner's alone, before they are in it."""
    if path.name == ".env":
        path.unlink(missing_ok=True)
    mode = 0o600 if path.name == ".env" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)


def echo(path: Annotated[Path | None, Argument(help="The YAML file (else RELAY_CONFIG).")] = None) -> int:
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


def backup(
    file: Annotated[Path, Argument(metavar="FILE", help="Where to; nothing is overwritten.", show_default=False)],
) -> Answer:
    """Copy the outbox of RELAY_DATABASE_URL to FILE, also while the relay runs. It holds personal data.

    Put back, the copy sends nothing by itself that had not ended in it: see "Backup" in docs/runbook.md.
    """
    settings = read_settings(read_environment())
    if settings.stateless:
        raise StoreError("RELAY_DATABASE_URL is none: a stateless relay has nothing to back up")
    if settings.shares_database:
        raise StoreError("the outbox is in PostgreSQL: back it up with pg_dump, see docs/replicas.md")
    with show_progress("copying") as report:
        done = back_up(settings.database_path, file, read_clock(), report)
    counted = f"{count_nouns(done.events, 'event')}, {count_nouns(done.deliveries, 'delivery', 'deliveries')}"
    told = {"file": str(file), "events": done.events, "deliveries": done.deliveries, "bytes": done.size}
    return Answer(told, lambda: print(f"{file}: {counted}, {done.size:,} bytes; checked"))
