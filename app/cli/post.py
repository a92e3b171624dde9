"""`nector-relay post`: an event as Nector would post it, signed, and again if it is not taken."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import typer

from app.cli.commands import Answer
from app.cli.sources import read_config, read_event
from app.cli.tables import show_waiting
from app.clock import new_uuid7, read_clock
from app.errors import ConfigError, RelayError
from app.mapping.rules import Route
from app.settings import read_environment, read_settings
from app.sources import SOURCE
from app.sources.nector import write_headers

TIMEOUT_S, RETRIES = 10.0, 5  # Nector's own; its delays are known to grow, and no more
FIRST_DELAY_S = 1.0
_DATE = re.compile(r"^(\d{4})(-\d\d-\d\d.*)$")


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: `status` is 0 where nothing answered, `answer` what was said then, or why nothing was."""

    status: int
    answer: str
    ms: int

    @property
    def taken(self) -> bool:
        """Tell whether Nector would be content."""
        return httpx2.codes.is_success(self.status)


def post(
    event: Annotated[
        str,
        typer.Argument(
            metavar="ROUTE|EVENT.json", help="A route, of which the first example is posted; or a file, or -."
        ),
    ],
    url: Annotated[
        str | None, typer.Option(help="Which relay, or the whole URL of its webhook (else RELAY_URL).")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The x-nector-topic of a file that holds a body alone.")] = None,
    delivery_id: Annotated[str | None, typer.Option("--id", help="The x-nector-delivery-id; else a new one.")] = None,
    retries: Annotated[int, typer.Option(help="How often to try again.", min=0, max=RETRIES)] = RETRIES,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> Answer:
    """Post an example event as Nector would: signed with the first of RELAY_NECTOR_SECRETS, and tried again.

    A relay takes it for a real one. Exit 0 if the answer is 2xx, else 1.
    """
    environment = read_environment()
    place = _find_webhook(url or environment.get("RELAY_URL") or "http://127.0.0.1:8000")
    secret = next(iter(read_settings(environment).secrets), "")
    named, body = _read_event(event, topic, config)
    id_ = delivery_id or new_uuid7(read_clock())
    tried = _post(place, body, (named, id_, secret), retries)
    last, attempts = tried[-1], [{"status": each.status or None, "ms": each.ms} for each in tried]
    told = {"url": place, "topic": named, "delivery_id": id_, "attempts": attempts, "answer": _read_answer(last.answer)}
    text = f"{named} {id_} → {place}\n{last.status or 'no answer'} after {last.ms} ms: {last.answer}"
    return Answer(told, lambda: print(text), 0 if last.taken else 1)


def _find_webhook(url: str) -> str:
    """Return where events go; raises RelayError for what is no URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise RelayError(f"--url must be a URL such as http://127.0.0.1:8000, and is {url}")
    return url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/webhooks/{SOURCE.name}"


def _read_event(event: str, topic: str | None, config: Path | None) -> tuple[str, bytes]:
    """Return the topic and the body of a file, or of a route's first example, its dates brought forward."""
    if event == "-" or event.endswith(".json") or Path(event).is_file():
        read = read_event(event, topic, read_clock())
        return read.topic, encode_body(read.payload)
    rules, _ = read_config(config)
    route = next((one for one in rules.routes if one.name == event), None)
    if route is None:
        raise RelayError(
            f"there is no route {event}, nor a file; routes: {', '.join(one.name for one in rules.routes)}"
        )
    return topic or route.topic, encode_body(bring_forward(choose_example(route), datetime.now(UTC).date()))


def choose_example(route: Route) -> dict[str, Any]:
    """Return a route's first example that sends; raises ConfigError where it has none."""
    example = next((one for one in route.examples if one.hits and one.dead is None), None)
    if example is None:
        raise ConfigError(f"route {route.name} has no example that sends: add one under its `examples:`")
    return example.event


def bring_forward(value: Any, today: date) -> Any:
    """Return the example with its past dates moved to their next return: what has expired is rightly not sent."""
    match value:
        case dict():
            return {key: bring_forward(item, today) for key, item in value.items()}
        case list():
            return [bring_forward(item, today) for item in value]
        case str() if (found := _DATE.match(value)) and value[:10] <= today.isoformat():
            this_year = f"{today.year}{found[2]}".replace("-02-29", "-02-28")
            return this_year if this_year[:10] > today.isoformat() else f"{today.year + 1}{this_year[4:]}"
        case _:
            return value


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """Return a webhook's body."""
    return json.dumps(payload, ensure_ascii=False, default=str).encode()


def _post(place: str, body: bytes, signed_by: tuple[str, str, str], retries: int) -> list[Tried]:
    """Return every attempt, the last one last; the others are told while they go on."""
    tried: list[Tried] = []
    for number in range(retries + 1):
        if tried:
            delay_s = FIRST_DELAY_S * 2 ** (number - 1)
            said = tried[-1].status or tried[-1].answer
            print(f"{said}; again in {delay_s:g} s ({number} of {retries})", file=sys.stderr, flush=True)
            time.sleep(delay_s)
        tried.append(post_once(place, body, signed_by))
        if tried[-1].taken:
            break
    return tried


def post_once(place: str, body: bytes, signed_by: tuple[str, str, str]) -> Tried:
    """Return what became of one attempt. `signed_by`: topic, delivery id and secret."""
    topic, id_, secret = signed_by
    headers = write_headers(topic, id_, body, secret, read_clock())
    began = time.perf_counter()
    try:
        with show_waiting(f"waiting for {place}"):
            answer = httpx2.post(place, content=body, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        status, text = answer.status_code, answer.text
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        status, text = 0, f"{type(error).__name__}: is a relay running there?"
    return Tried(status, text, round((time.perf_counter() - began) * 1000))


def _read_answer(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
