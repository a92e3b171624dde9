"""`nector-relay send-test`: one real message to a number of ours, watched until its receipt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from app.cli.deliveries import print_story
from app.cli.ops_client import OpsClient, open_client
from app.core.durations import parse_duration
from app.errors import RelayError

_POLL_S = 0.2
_OPEN = frozenset({"pending", "sending"})
_ARRIVED = frozenset({"delivered", "read", "failed"})


def send_test(
    route: Annotated[str, typer.Argument(help="A route of the YAML that the relay runs with.")],
    to: Annotated[str, typer.Option(metavar="NUMBER", help="One of RELAY_TEST_NUMBERS; nobody else gets it.")],
    example: Annotated[
        int | None, typer.Option(help="Which of the route's examples; else the first that sends.")
    ] = None,
    wait: Annotated[str, typer.Option(help="How long to wait for the receipt: 30s, 2m.")] = "30s",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Send one test message through the running relay and show its timeline. Exit 0 if it was accepted, else 1."""
    try:
        wait_s = parse_duration(wait) / 1000
    except ValueError as error:
        raise RelayError(f"--wait {error}") from None
    client = open_client()
    order = {"route": route, "to": to, **({"example": example} if example is not None else {})}
    queued = client.send("POST", "/send-test", order)
    delivery = _watch(client, str(queued["id"]), time.monotonic() + wait_s, time.monotonic, time.sleep)
    if as_json:
        print(json.dumps(delivery, ensure_ascii=False, indent=2))
    else:
        print_story(delivery)
        print(_sum_up(delivery, wait))
    return 0 if delivery["state"] == "accepted" and delivery["receipt"] != "failed" else 1


def _watch(
    client: OpsClient, id_: str, until: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Mapping[str, Any]:
    """Return the delivery once its receipt is there, or it came to another end, or the time is over."""
    while True:
        delivery = client.get(f"/deliveries/{id_}")
        under_way = delivery["state"] in _OPEN or (
            delivery["state"] in {"accepted", "unknown"} and delivery["receipt"] not in _ARRIVED
        )
        if not under_way or clock() >= until:
            return delivery
        sleep(_POLL_S)


def _sum_up(delivery: Mapping[str, Any], wait: str) -> str:
    state, receipt, reason = delivery["state"], delivery["receipt"], delivery["reason"]
    if state == "accepted" and receipt in _ARRIVED:
        return f"accepted by {delivery['provider']}, and then {receipt}" + (f" ({reason})" if reason else "")
    if state == "accepted":
        return f"accepted by {delivery['provider']}; no receipt within {wait}: are its webhooks set up?"
    return f"not accepted: {state}" + (f" ({reason})" if reason else "")
