"""`nector-relay post`: an event as Nector would post it, signed; `send-test`: one real message to a number of ours."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
from typer import Argument, Option

from app.authoring.preview import TEST_VALID_MS, TestOrder, make_test_message
from app.cli import Answer, ConfigFile
from app.cli.client import OpsClient, open_client
from app.cli.deliveries import print_story
from app.cli.sources import read_config, read_event
from app.cli.tables import show_waiting
from app.clock import new_uuid7, read_clock
from app.errors import ConfigError, NoRelayError, Refusal, RelayError
from app.mapping.provider import ProviderSettings
from app.mapping.rules import Route
from app.model.delivery import Accepted, Outcome
from app.model.message import Message
from app.model.value import dataclass
from app.observe.attempts import describe_outcome
from app.providers import build_provider
from app.providers import open_client as open_sender
from app.settings import read_environment, read_settings
from app.sources import SOURCE
from app.sources.nector import write_headers
from app.values.instant import parse_duration

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
        Argument(metavar="ROUTE|EVENT.json", help="A route, of which the first example is posted; or a file, or -."),
    ],
    url: Annotated[str | None, Option(help="Which relay, or the whole URL of its webhook (else RELAY_URL).")] = None,
    topic: Annotated[str | None, Option(help="The x-nector-topic of a file that holds a body alone.")] = None,
    delivery_id: Annotated[str | None, Option("--id", help="The x-nector-delivery-id; else a new one.")] = None,
    retries: Annotated[int, Option(help="How often to try again.", min=0, max=RETRIES)] = RETRIES,
    config: ConfigFile = None,
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
    routes = {route.name: route for route in read_config(config)[0].routes}
    if event not in routes:
        raise RelayError(f"there is no route {event}, nor a file; routes: {', '.join(routes)}")
    route = routes[event]
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


_POLL_S = 0.2
_OPEN = frozenset({"pending", "sending"})
_ARRIVED = frozenset({"delivered", "read", "failed"})


def send_test(
    route: Annotated[str, Argument(help="A route of the YAML.")],
    to: Annotated[str, Option(metavar="NUMBER", help="One of RELAY_TEST_NUMBERS; nobody else gets it.")],
    example: Annotated[int | None, Option(help="Which of the route's examples; else the first that sends.")] = None,
    wait: Annotated[str, Option(help="How long to wait for the receipt: 30s, 2m.")] = "30s",
    config: Annotated[Path | None, Option(help="The YAML file, where no relay runs (else RELAY_CONFIG).")] = None,
) -> Answer:
    """Send one test message through the running relay, or straight to the provider where none runs.

    A relay that runs also waits for the receipt and shows the timeline. Exit 0 if the message was accepted, else 1.
    """
    try:
        wait_s = parse_duration(wait) / 1000
    except ValueError as error:
        raise RelayError(f"--wait {error}") from None
    order = TestOrder.model_construct(route=route, to=to, example=example)  # the relay says what is wrong with it
    try:
        client = open_client()
        queued = client.send("POST", "/send-test", order.model_dump(exclude_none=True))
        with show_waiting(f"{queued['id']} is queued: waiting for its receipt"):
            delivery = watch_delivery(client, queued["id"], time.monotonic() + wait_s, _has_ended, _POLL_S)
    except NoRelayError as error:
        return _send_straight(order, config, error)

    def show() -> None:
        print_story(delivery)
        print(_sum_up(delivery, wait))

    return Answer(delivery, show, 0 if delivery["state"] == "accepted" and delivery["receipt"] != "failed" else 1)


def _has_ended(delivery: Mapping[str, Any]) -> bool:
    """Tell whether a delivery has its receipt, or came to another end."""
    may_have_arrived = delivery["state"] in {"accepted", "unknown"}
    return delivery["receipt"] in _ARRIVED if may_have_arrived else delivery["state"] not in _OPEN


def watch_delivery(
    client: OpsClient, id_: str, until: float, has_ended: Callable[[Mapping[str, Any]], bool], every_s: float
) -> dict[str, Any]:
    """Return the delivery once it has ended, or the time is over."""
    while True:
        delivery = client.get(f"/deliveries/{id_}")
        if has_ended(delivery) or time.monotonic() >= until:
            return delivery
        time.sleep(every_s)


def _sum_up(delivery: Mapping[str, Any], wait: str) -> str:
    state, receipt, reason = delivery["state"], delivery["receipt"], delivery["reason"]
    if state == "accepted" and receipt in _ARRIVED:
        return f"accepted by {delivery['provider']}, and then {receipt}" + (f" ({reason})" if reason else "")
    if state == "accepted":
        return f"accepted by {delivery['provider']}; no receipt within {wait}: are its webhooks set up?"
    return f"not accepted: {state}" + (f" ({reason})" if reason else "")


# -- where no relay runs --------------------------------------------------------------------------


def _send_straight(order: TestOrder, path: Path | None, why: NoRelayError) -> Answer:
    """Send from here: whoever writes a route may have no relay yet. There is no outbox, so no receipt either."""
    environment = read_environment()
    rules, _ = read_config(path, environment)
    now = read_clock()
    test = make_test_message(rules, order, read_settings(environment).test_numbers, new_uuid7(now), now)
    if isinstance(test, Refusal):
        raise RelayError(test.detail)
    provider = rules.providers[test.route.provider]
    outcome = asyncio.run(_ask(provider, test.message, new_uuid7(now)))
    word, reason, detail = describe_outcome(outcome)
    id_ = outcome.provider_message_id if isinstance(outcome, Accepted) else None
    told = {"outcome": word, "reason": reason or None, "detail": detail or None, "provider": test.route.provider}
    how = f"sent straight to {test.route.provider}, without an outbox, so no receipt is waited for:"
    text = f"{why}\n{how}\n{word}" + (f" ({reason}: {detail})" if reason else "")
    return Answer(told | {"provider_message_id": id_}, lambda: print(text), 0 if isinstance(outcome, Accepted) else 1)


async def _ask(settings: ProviderSettings, message: Message, delivery_id: str) -> Outcome:
    sender = await open_sender(settings, way=read_settings(read_environment()).way)
    try:
        sent = await sender.send(build_provider(settings), message, delivery_id, write_within_ms=TEST_VALID_MS, tries=1)
        return sent.outcome
    finally:
        await sender.close()
