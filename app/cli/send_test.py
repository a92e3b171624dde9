"""`nector-relay send-test`: one real message to a number of ours, watched until its receipt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import OpsClient, open_client
from app.cli.commands import Answer
from app.cli.deliveries import print_story
from app.cli.sources import read_config
from app.cli.tables import show_waiting
from app.clock import new_uuid7, read_clock
from app.errors import NoRelayError, Refusal, RelayError
from app.mapping.provider import ProviderSettings
from app.model.delivery import Accepted, Outcome
from app.model.message import Message
from app.observe.attempts import describe_outcome
from app.providers import build_provider
from app.providers import open_client as open_sender
from app.relay.trial import VALID_MS, TestOrder, make_test_message
from app.settings import read_environment, read_settings
from app.values.instant import parse_duration

_POLL_S = 0.2
_OPEN = frozenset({"pending", "sending"})
_ARRIVED = frozenset({"delivered", "read", "failed"})


def send_test(
    route: Annotated[str, typer.Argument(help="A route of the YAML.")],
    to: Annotated[str, typer.Option(metavar="NUMBER", help="One of RELAY_TEST_NUMBERS; nobody else gets it.")],
    example: Annotated[
        int | None, typer.Option(help="Which of the route's examples; else the first that sends.")
    ] = None,
    wait: Annotated[str, typer.Option(help="How long to wait for the receipt: 30s, 2m.")] = "30s",
    config: Annotated[Path | None, typer.Option(help="The YAML file, where no relay runs (else RELAY_CONFIG).")] = None,
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
        delivery = _send_through_relay(order, wait_s)
    except NoRelayError as error:
        return _send_straight(order, config, error)

    def show() -> None:
        print_story(delivery)
        print(_sum_up(delivery, wait))

    return Answer(delivery, show, 0 if delivery["state"] == "accepted" and delivery["receipt"] != "failed" else 1)


def _send_through_relay(order: TestOrder, wait_s: float) -> Mapping[str, Any]:
    client = open_client()
    queued = client.send("POST", "/send-test", order.model_dump(exclude_none=True))
    with show_waiting(f"{queued['id']} is queued: waiting for its receipt"):
        return _watch(client, str(queued["id"]), time.monotonic() + wait_s)


def _watch(client: OpsClient, id_: str, until: float) -> Mapping[str, Any]:
    """Return the delivery once its receipt is there, or it came to another end, or the time is over."""
    while True:
        delivery = client.get(f"/deliveries/{id_}")
        under_way = delivery["state"] in _OPEN or (
            delivery["state"] in {"accepted", "unknown"} and delivery["receipt"] not in _ARRIVED
        )
        if not under_way or time.monotonic() >= until:
            return delivery
        time.sleep(_POLL_S)


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
        sent = await sender.send(build_provider(settings), message, delivery_id, write_within_ms=VALID_MS, tries=1)
        return sent.outcome
    finally:
        await sender.close()
