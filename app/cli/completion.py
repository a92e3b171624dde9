"""A shell that completes a command offers the names that the YAML of the settings has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NAMES = frozenset({"route", "provider", "topic", "scope"})


def complete_name(_context: Any, parameter: Any, begun: str) -> list[str]:
    """Return what an argument or option with one of NAMES may be; nothing where the YAML cannot be read."""
    try:
        return [name for name in list_names(parameter.name, _read_yaml()) if name.startswith(begun)]
    except Exception:  # noqa: BLE001  # nothing is to be said between two keys
        return []


def list_names(kind: str, yaml: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of a kind, sorted."""
    routes = {str(name): {**(yaml.get("defaults") or {}), **(route or {})} for name, route in yaml["routes"].items()}
    match kind:
        case "route":
            found: Iterable[str] = routes
        case "provider":
            found = yaml["providers"]
        case "topic":
            found = {str(route["event"]) for route in routes.values()}
        case _:
            sent = {f"template:{route.get('provider')}/{route.get('template')}" for route in routes.values()}
            found = {*(f"route:{name}" for name in routes), *(f"provider:{name}" for name in yaml["providers"]), *sent}
    return sorted(found)


def _read_yaml() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415  # only a shell that asks pays for it

    from app.settings import read_environment  # noqa: PLC0415

    environment = read_environment()
    path = Path(environment.get("RELAY_CONFIG") or "config/relay.yaml")
    return YAML(typ="safe").load(environment.get("RELAY_CONFIG_YAML") or path.read_text(encoding="utf-8"))
