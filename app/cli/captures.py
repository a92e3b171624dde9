"""`nector-relay verify-capture`: how a captured request is signed; `examples`: the events that the relay has seen."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from typer import Argument, Option

from app.authoring.examples import write_example, write_recorded
from app.cli import Answer, ConfigFile, write_file
from app.cli.client import open_client
from app.cli.preview import choose_routes
from app.cli.sources import find_recordings, read_config, read_yaml
from app.cli.tables import count_nouns, open_console, print_table
from app.clock import read_clock
from app.errors import RelayError
from app.files import read_bytes
from app.model.value import dataclass
from app.settings import read_environment
from app.sources import SOURCE
from app.sources.base import Verified, list_schemes
from app.sources.nector import HMAC_HEADER, SECRET_HEADER
from app.values.text import list_paths


def verify_capture(
    file: Annotated[Path, Argument(metavar="FILE", help="The request: raw HTTP, or JSON with headers and body.")],
    secret_env: Annotated[
        str, Option("--secret-env", help="The environment variable that holds Nector's webhook secret.")
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


def examples(
    action: Annotated[
        Literal["list", "capture", "pull"],
        Argument(help="list: the topics. capture TOPIC: an entry for examples:. pull: all, for `check`."),
    ],
    topic: Annotated[str | None, Argument(help="With capture: Nector's topic.")] = None,
    route: Annotated[str | None, Option(help="With capture: for this route; else for every one of the topic.")] = None,
    nth: Annotated[
        int, Option(min=1, help="With capture: which of the recorded ones; 1 is the newest, 2 the one before.")
    ] = 1,
    config: ConfigFile = None,
) -> Answer:
    """Show the events that the relay has recorded, with invented names, numbers and codes."""
    if action == "capture" and topic is None:
        raise RelayError("say which topic: `nector-relay examples capture TOPIC`; `examples list` shows them")
    if action != "capture" and (topic is not None or route is not None):
        raise RelayError(f"`examples {action}` takes neither a topic nor --route")
    query = {"topic": SOURCE.canonical_topic(topic)} if topic is not None else {}
    recorded: list[dict[str, Any]] = open_client().get("/examples", query)["examples"]
    if action == "list":
        return _list(recorded)
    if action == "pull":
        return _pull(recorded, config)
    return _capture(SOURCE.canonical_topic(topic or ""), recorded, route, nth, config)


def _list(recorded: Sequence[dict[str, Any]]) -> Answer:
    told = []
    for name, events in _group(recorded).items():
        properties = sorted({path for row in events for path in list_paths(row["event"])})
        told.append({"topic": name, "events": len(events), "newest": events[0]["at"], "properties": properties})
    return Answer({"topics": told}, lambda: _show_topics(told))


def _group(recorded: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for row in recorded:
        topics.setdefault(row["topic"], []).append(row)
    return topics


def _show_topics(topics: Sequence[Mapping[str, Any]]) -> None:
    if not topics:
        print("nothing recorded yet: no event has come")
        return
    rows = [[row["topic"], str(row["events"]), row["newest"], ", ".join(row["properties"])] for row in topics]
    print_table(open_console(), ("topic", "events", "newest", "properties"), rows)


def _capture(topic: str, recorded: Sequence[dict[str, Any]], name: str | None, nth: int, path: Path | None) -> Answer:
    if not recorded:
        raise RelayError(f"no event of {topic} is recorded; `nector-relay examples list` shows what is")
    if nth > len(recorded):
        raise RelayError(f"only {count_nouns(len(recorded), 'event')} of {topic} recorded: --nth 1 is the newest")
    rules, _ = read_config(path)
    event, at = (recorded[nth - 1][key] for key in ("event", "at"))
    entries = {
        route.name: write_example(route, event, rules, read_clock()) for route in choose_routes(rules, name, topic)
    }
    head = f"# of {at}, with invented values; under `examples:` of route"
    text = "".join(f"{head} {route_name}:\n{entry}" for route_name, entry in entries.items())
    told = {"topic": topic, "at": at, "event": event, "examples": entries}
    return Answer(told, lambda: print(text, end=""))


def _pull(recorded: Sequence[dict[str, Any]], config: Path | None) -> Answer:
    """Write the events beside the YAML, where `check` holds every expression against them."""
    by_topic = {name: [row["event"] for row in rows] for name, rows in _group(recorded).items()}
    path = find_recordings(read_yaml(config).sources)
    write_file(path, write_recorded(by_topic))
    text = f"{path}: {count_nouns(len(recorded), 'event')} of {count_nouns(len(by_topic), 'topic')}"
    return Answer({"file": str(path), "events": len(recorded), "topics": len(by_topic)}, lambda: print(text))
