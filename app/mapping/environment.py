"""`${NAME}` in the YAML: filled from the environment, value by value, never as YAML text.

Filling parsed values and not the file's text means that nothing in a variable can add a key or a route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.mapping.findings import Findings
from app.mapping.problems import Path, Problem, list_leaves

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
# A key that ends so holds a secret: api_key, apiKey, webhook_token, x-api-key, client-secret, Authorization.
_SECRET_ENDINGS = ("apikey", "secret", "token", "password", "authorization", "credentials", "authkey", "accesskey")
_PLACEHOLDER = re.compile(r"\$[a-z_]+")  # in a provider's `body:`, see providers/mapping.py


def fill_environment(data: dict[str, Any], environment: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    """Return `data` with `${NAME}` and `${NAME:-default}` filled; `$${` stays `${`, and what is not set `${NAME}`."""
    filled: dict[str, Any] = _fill_value(data, (), environment, findings)
    return filled


def _fill_value(value: Any, path: Path, environment: Mapping[str, str], findings: Findings) -> Any:
    match value:
        case dict():
            return {key: _fill_value(item, (*path, key), environment, findings) for key, item in value.items()}
        case list():
            return [_fill_value(item, (*path, index), environment, findings) for index, item in enumerate(value)]
        case str() if "${" in value:
            return _REFERENCE.sub(lambda found: _fill_reference(found, path, environment, findings), value)
        case _:
            return value


def _fill_reference(found: re.Match[str], path: Path, environment: Mapping[str, str], findings: Findings) -> str:
    name, default = found.groups()
    if found[0] == "$${":
        return "${"
    if name is None:
        hint = "write ${NAME}, ${NAME:-default}, or $${ for the text ${"
        findings.error(path, "this ${…} cannot be read", hint)
        return found[0]
    # As in a shell, `:-` also stands in for a variable that is set and empty.
    value = environment.get(name, "") or default
    if value is not None:
        return value.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as half characters
    message = f"the environment variable {name} is not set"
    hint = f"a property of the event is written without ${{ }}: {name}" if path[0] == "routes" else ""
    mark = findings.document.find_place(path).value
    findings.problems.append(Problem("warning", *mark, message, hint, unset=True))
    findings.silence(path)
    return found[0]


def report_literal_secrets(providers: Mapping[str, Any], findings: Findings) -> None:
    """Report every secret of `providers:` that is written into the file. The text itself is never told."""
    for path, value in list_leaves(providers, ("providers",)):
        if is_secret_key(path) and not _is_from_environment(value):
            key = next(key for key in reversed(path) if isinstance(key, str))
            variable = re.sub(r"[^A-Z0-9]+", "_", f"{path[1]}_{key}".upper())
            findings.error(path, f'"{path[-1]}": a secret must come from the environment', f"write ${{{variable}}}")
            findings.silence(path)


def is_secret_key(path: Path) -> bool:
    """Tell whether the key at the end of `path` says that its value is a secret."""
    name = next((key for key in reversed(path) if isinstance(key, str)), "")
    return re.sub(r"[^a-z]", "", name.lower()).endswith(_SECRET_ENDINGS)


def _is_from_environment(value: Any) -> bool:
    """Tell whether a raw value leaves the secret to the environment (a default would be a literal, too)."""
    if not value or value is True:
        return True  # nothing that could be a secret; the type's own check speaks
    if not isinstance(value, str):
        return False
    references = [found for found in _REFERENCE.finditer(value) if found[1]]
    if any(found[2] for found in references):
        return False
    return bool(references) or _PLACEHOLDER.fullmatch(value) is not None
