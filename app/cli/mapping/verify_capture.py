"""`nector-relay verify-capture`: how one captured Nector request is signed, and the settings that follow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from app.authoring.capture import Capture, read_capture
from app.cli.commands import Answer
from app.errors import RelayError
from app.files import read_bytes
from app.settings import read_environment
from app.sources import SOURCE
from app.sources.base import Verified
from app.sources.body import list_schemes
from app.sources.nector import HMAC_HEADER, SECRET_HEADER


def verify_capture(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The request: raw HTTP, or JSON with headers and body.")],
    secret_env: Annotated[
        str, typer.Option("--secret-env", help="The environment variable that holds Nector's webhook secret.")
    ] = "RELAY_NECTOR_SECRETS",  # noqa: S107 - a variable's name
) -> Answer:
    """Try every likely recipe on one captured request of Nector's. Exit 0 if its HMAC is explained, else 1."""
    value = read_environment().get(secret_env, "")
    secrets = [secret.strip() for secret in value.split(",") if secret.strip()]
    if not secrets:
        cure = "put Nector's webhook secret into it, or name another with --secret-env"
        raise RelayError(f"{secret_env} is not set: {cure}")
    try:
        capture = read_capture(read_bytes(file, 1_048_576))
    except OSError as error:
        raise RelayError(f"{file}: cannot be read ({error.strerror})") from None
    if isinstance(capture, str):
        raise RelayError(f"{file}: {capture}")
    secret, hmac = _judge_secret(capture.headers, secrets, secret_env), _judge_hmac(capture, secrets)
    told = {"secret": secret, "hmac": hmac.told, "explained": hmac.explained, "settings": hmac.settings}
    settings = [f"{name}={value}" for name, value in hmac.settings.items()]
    lines = [secret, hmac.told, *settings, *([hmac.more] if hmac.more else [])]
    return Answer(told, lambda: print("\n".join(lines)), 0 if hmac.explained else 1)


class Judged(NamedTuple):
    """The HMAC of a capture came to this; `settings` are to be written, and `more` is to be said after them."""

    told: str
    settings: Mapping[str, str]
    explained: bool = False
    more: str = ""


def _judge_secret(headers: Mapping[str, str], secrets: list[str], name: str) -> str:
    mistake = SOURCE.find_mistake(headers, secrets)
    if mistake is None:
        return f"{SECRET_HEADER}: holds (the hex SHA-256 of the secret)"
    if SECRET_HEADER not in headers:
        return f"{SECRET_HEADER}: is not there, so the relay would answer 401: set the Webhook Secret at Nector"
    return f"{SECRET_HEADER}: does not fit, so the relay would answer 401: is {name} the one set at Nector?"


def _judge_hmac(capture: Capture, secrets: list[str]) -> Judged:
    if HMAC_HEADER not in capture.headers:
        return Judged(f"{HMAC_HEADER}: is not there; write", {"RELAY_NECTOR_HMAC": "off"})
    for assumed, body in capture.bodies.items():
        found = SOURCE.verify(capture.headers, body, secrets, thorough=True)
        if isinstance(found, Verified):
            told = "" if assumed == "as it is" else f" (the body taken {assumed})"
            settings = {"RELAY_NECTOR_HMAC": "enforce", "RELAY_NECTOR_HMAC_SCHEME": found.recipe}
            return Judged(f"{HMAC_HEADER}: {found.recipe} holds{told}; write", settings, explained=True)
    tried = len(list_schemes()) * len(capture.bodies)
    return Judged(
        f"{HMAC_HEADER}: none of {tried} recipes holds. If the capture has the body's very bytes, keep",
        {"RELAY_NECTOR_HMAC": "log"},
        more="and ask Nector for key, encoding and content; the secret's hash goes on refusing strangers.",
    )
