"""All that others hold on to: settings, commands, paths, YAML keys, metrics, log events, reasons, states.

`python -m tests.surface` writes it to tests/surface.json; tests/test_surface.py compares. A name that goes or comes is
then a line of a commit.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.outside import ROOT, START_S, TOKEN, build_environment, describe_account, run_cli, start_program

PATH = Path(__file__).with_name("surface.json")
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
ENUMS = {"Reason": "reasons", "State": "states", "ReceiptStatus": "receipt_states", "Scope": "scopes", "Act": "acts"}

DAMAGED = {"RELAY_DATABASE_URL": "sqlite:///damaged.db"}
NOBODY = {"RELAY_URL": "http://127.0.0.1:9"}
ENDINGS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "check: no error": (("check", "relay.yaml"), {}),
    "check: no file": (("check", "missing.yaml"), {}),
    "check --strict: a warning": (("check", "warned.yaml", "--strict"), {}),
    "route: a hit": (("route", "event.json", "--topic", "coupon_create"), {}),
    "route: no hit": (("route", "event.json", "--topic", "lead_create"), {}),
    "schema": (("schema",), {}),
    "serve: no such option": (("serve", "--nothing"), {}),
    "serve: a wrong setting": (("serve",), {"RELAY_LOG_LEVEL": "loud"}),
    "serve: no YAML": (("serve",), {"RELAY_CONFIG": "missing.yaml"}),
    "serve: a damaged file": (("serve", "--port", "0"), DAMAGED),
    "deliveries: no relay": (("deliveries",), NOBODY),
    "backup: a damaged file": (("backup", "copy.db"), DAMAGED),
}


def describe_surface() -> dict[str, Any]:
    """Return the surface of today's code."""
    trees = {
        path: ast.parse(path.read_text())
        for path in sorted((ROOT / "app").rglob("*.py"))
        if "sandbox" not in path.relative_to(ROOT).parts
    }
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    paths, types = ask_relay()
    return {
        "settings": describe_settings(),
        "commands": describe_commands(),
        "exit_codes": list_exit_codes(),
        "exits_seen": see_exits(),
        "paths": paths,
        "yaml_keys": list_yaml_keys(json.loads(run_cli("schema"))),
        "metrics": describe_metrics(nodes, types),
        "log_events": sorted({event for node in nodes for event in find_log_events(node)}),
        **{key: list_words(nodes, name) for name, key in ENUMS.items()},
        "outcomes": list_outcomes(nodes),
    }


def describe_settings() -> dict[str, Any]:
    prefix = str(Settings.model_config["env_prefix"])
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    return {
        f"{prefix}{name.upper()}": value if isinstance(value, int | None) else str(value)
        for name, value in sorted(defaults.items())
    }


def describe_commands() -> dict[str, Any]:
    """Return each command's usage, arguments and options, and what its help says of its exit code."""
    listed = run_cli("--help").split("Commands:\n")[1]
    return {
        name: _describe_command(run_cli(name, "--help")) for name in re.findall(r"^  ([a-z-]+)", listed, re.MULTILINE)
    }


def _describe_command(text: str) -> dict[str, Any]:
    head, _, options = text.partition("\n\nOptions:\n")
    entries = re.findall(r"^  (\S.*?)(?:  .*)?$", options, re.MULTILINE)
    arguments = re.search(r"\nArguments:\n((?:  .*\n)+)", text)
    return {
        "usage": " ".join(re.findall(r"Usage: (?:nector-relay) (.*?)\n\n", text, re.DOTALL)[0].split()),
        "arguments": re.findall(r"^  (\S.*?)(?:  .*)?$", arguments[1] if arguments else "", re.MULTILINE),
        "options": sorted(entry for entry in entries if entry.startswith("-")),
        "exits": re.findall(r"Exit \d[^.]*\.", " ".join(head.split())),
    }


def list_exit_codes() -> list[int]:
    """Return the codes of the operator's table: what a supervisor may be told."""
    table = (ROOT / "docs/reference.md").read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    return [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]


def see_exits() -> dict[str, int]:
    """Return how some commands end, each in a process of its own, all at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "relay.yaml").write_text(write_yaml())
        (folder / "warned.yaml").write_text(write_yaml().replace("coupon_create", "coupon_creates"))
        (folder / "event.json").write_text('{"user_mobile": "9800000001"}')
        (folder / "damaged.db").write_bytes(b"no database" * 1000)
        running = {
            case: start_program(folder, folder / f"log-{number}", *arguments, **settings)
            for number, (case, (arguments, settings)) in enumerate(ENDINGS.items())
        }
        return {case: process.wait(START_S) for case, process in running.items()}


def write_yaml() -> str:
    yaml = f"version: 1\nproviders:\n{describe_account('shop', 'http://127.0.0.1:9')}"
    return f"{yaml}routes:\n  one: {{event: coupon_create, provider: shop, template: one}}\n"


def ask_relay() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the paths with their answers, and each metric's type, as a running relay tells them."""
    with tempfile.TemporaryDirectory() as folder:
        environment = build_environment(Path(folder), RELAY_CONFIG_YAML=write_yaml(), RELAY_LOG_LEVEL="error")
        access = {"authorization": f"Bearer {TOKEN}"}
        with TestClient(create_app(None, environment)) as client:
            described = client.get("/openapi.json", headers=access).json()["paths"]
            metrics = client.get("/metrics", headers=access).text
    answers = {
        f"{method.upper()} {path}": _describe_operation(operation)
        for path, operations in described.items()
        for method, operation in operations.items()
    }
    return dict(sorted(answers.items())), dict(re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE))


def _describe_operation(operation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "answers": sorted(operation["responses"]),
        "query": sorted(one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"),
    }


def list_yaml_keys(schema: Mapping[str, Any]) -> list[str]:
    """Return every key that the YAML may have, with the part that has it and its default."""
    parts = {"file": schema, **schema["$defs"]}
    return sorted(
        f"{part}.{key}" + (f" = {json.dumps(shape['default'])}" if "default" in shape else "")
        for part, described in parts.items()
        for key, shape in described.get("properties", {}).items()
    )


def describe_metrics(nodes: list[ast.AST], types: Mapping[str, str]) -> dict[str, Any]:
    """Return each metric's type and labels. The labels stand in the code: without a sample nothing shows them."""
    labels = dict(found for node in nodes for found in _find_metric(node))
    return {
        name: {"type": type_, "labels": labels.get(name.removesuffix("_total"), [])}
        for name, type_ in sorted(types.items())
    }


def _find_metric(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    if isinstance(node, ast.Call) and (name := _read_text(node.args[0] if node.args else None)).startswith(
        "nector_relay_"
    ):
        lists = [argument for argument in node.args if isinstance(argument, ast.List | ast.Tuple)]
        yield name, [_read_text(label) for label in (lists[0].elts if lists else ())]


def find_log_events(node: ast.AST) -> Iterator[str]:
    """Yield what a call of a log calls its line."""
    match node:
        case ast.Call(func=ast.Attribute(value=log, attr=level), args=[first, *_]) if level in LEVELS:
            if ast.unparse(log).split(".")[-1].strip("_") in {"log", "logger"}:
                yield from _list_texts(first)


def _list_texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from (text for branch in (node.body, node.orelse) for text in _list_texts(branch))
    else:
        yield _read_text(node) or f"<{ast.unparse(node)}>"


def list_words(nodes: list[ast.AST], name: str) -> list[str]:
    """Return the words of an enumeration, wherever it stands."""
    (found,) = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name]
    return sorted(_read_text(line.value) for line in found.body if isinstance(line, ast.Assign))


def list_outcomes(nodes: list[ast.AST]) -> list[str]:
    """Return what an attempt may come to."""
    (found,) = [node for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "Outcome"]
    return sorted(name.id.lower() for name in ast.walk(found.value) if isinstance(name, ast.Name))


def _read_text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def show_surface() -> str:
    """Return the surface as it is kept, a line a name."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
        return json.dumps(describe_surface(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(show_surface())
