"""`nector-relay init`: the files to start from, with secrets that nobody else has."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from app.authoring.schema import build_schema
from app.cli.commands import Answer
from app.errors import RelayError
from app.providers import settings_types

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
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made if it is not there.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there, .env and its secrets, too.")] = False,
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
