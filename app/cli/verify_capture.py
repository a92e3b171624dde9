"""`nector-relay verify-capture`: how one captured Nector request is signed, and the settings that follow."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

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


# -- one request, in the forms that tunnels, request bins and proxies save it in ---------------------

_BODY_KEYS = ("body", "content", "rawBody", "raw_body", "raw")


@dataclass(frozen=True, slots=True)
class Capture:
    """A request's headers (names in lower case) and body. `bodies`: the bytes it may have had, by what was assumed."""

    headers: Mapping[str, str]
    bodies: Mapping[str, bytes]


def read_capture(data: bytes) -> Capture | str:
    """Return the request in a file, as it went over the wire or as JSON with headers and body; else why not."""
    text = data.lstrip()
    if text.startswith((b"{", b"[")):
        return _read_json(text)
    head, separator, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not separator:
        return "there is no blank line between the headers and the body"
    headers = _read_lines(head.decode("latin-1").splitlines())
    if not headers:
        return "there are no headers (`name: value`, one a line)"
    raw = data.partition(b"\r\n\r\n")[2] if b"\r\n\r\n" in data else body
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) < len(raw):
        return Capture(headers, {"cut to its Content-Length": raw[: int(length)]})
    return Capture(headers, _guess_ends(raw))


def _read_lines(lines: list[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines if ":" in line and not line.upper().startswith(("POST ", "HTTP/"))]
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip() and " " not in name.strip()}


def _guess_ends(raw: bytes) -> dict[str, bytes]:
    """An editor ends a file with a newline that was never sent: what is left without it is likelier, and tried first.

    Else a recipe over JSON that is written again, which loses that newline, too, would be named in place of raw bytes.
    """
    stripped = raw.rstrip(b"\r\n")
    return {"as it is": raw} if stripped == raw else {"without the last newline": stripped, "as it is": raw}


def _read_json(text: bytes) -> Capture | str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "it looks like JSON and is none"
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    request = found.get("request", found) if isinstance(found, dict) else None
    if not isinstance(request, dict) or "headers" not in request:
        return "the JSON holds no `headers` (and `body`) of one request"
    headers = _read_headers(request["headers"])
    body = next((request[key] for key in _BODY_KEYS if request.get(key) not in (None, "")), None)
    if isinstance(body, str):
        return Capture(headers, _decode_text(body, encoded=request.get("isBase64Encoded") is True))
    if body is None:
        return "the JSON holds no `body`"
    # Read and written again by whoever saved it: the very bytes are lost, and only likely ones can be tried.
    compact = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    spaced = json.dumps(body, ensure_ascii=False).encode()
    return Capture(headers, {"written again without blanks": compact, "written again with blanks": spaced})


def _decode_text(body: str, *, encoded: bool) -> dict[str, bytes]:
    if encoded:
        try:
            return {"decoded from base64": base64.b64decode(body, validate=True)}
        except (binascii.Error, ValueError):
            return {"as it is": body.encode("utf-8", "replace")}
    return _guess_ends(body.encode("utf-8", "replace"))


def _read_headers(given: Any) -> dict[str, str]:
    """Read {name: value}, {name: [value]}, [[name, value]] or [{name, value}]."""
    rows = given.items() if isinstance(given, dict) else given if isinstance(given, list) else []
    pairs = [(row.get("name"), row.get("value")) if isinstance(row, dict) else row for row in rows]
    named = [pair for pair in pairs if isinstance(pair, tuple | list) and len(pair) == 2]  # noqa: PLR2004 - name and value
    return {
        str(name).lower(): str(value[0]) if isinstance(value, list) and value else str(value) for name, value in named
    }
