"""`nector-relay sandbox`: the fake providers; `demo`: one signed example event for every route, to the sandbox.

Relay and sandbox of a demo are processes of their own, the outbox is on disk; events and receipts come over HTTP,
signed.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx2
from rich.console import Console
from typer import Option

from app.authoring.preview import preview_message
from app.cli import AsJson, ConfigFile, print_json
from app.cli.client import OpsClient
from app.cli.files import STARTER
from app.cli.report import print_report
from app.cli.sources import make_event, read_config, read_yaml
from app.cli.tables import open_console, print_table
from app.cli.trial import bring_forward, choose_example, encode_body, post_once, watch_delivery
from app.clock import new_uuid7, read_clock
from app.errors import ConfigError, RelayError
from app.mapping import cut_lines, format_problem
from app.mapping.rules import Config, Route
from app.mapping.template import Templates, print_message
from app.mapping.template_entries import parse_templates
from app.model.value import dataclass
from app.relay.reload import read_text
from app.sandbox.app import FollowedTemplates, run_until_told, serve_sandbox
from app.sandbox.demo import LOOK_EVERY_S, give_number, make_environment, read_shown, refuse_real_providers, run_both
from app.sandbox.vendor import SandboxSettings
from app.settings import read_environment, read_settings
from app.sources import SOURCE

LONGEST_S, SHORTEST_S = 20.0, 0.5  # for all events together; and for each, however late it is
EX_TERMINATED = 143
FIRST_NUMBER = 9_800_000_000  # 98000 00000 to 99: example numbers
ENDED = {"dead", "expired", "suppressed", "shadow", "held"}  # nothing more comes of these in the time of a demo


def sandbox(
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on.", min=0, max=65535)] = 9100,
    relay_url: Annotated[str, Option(help="Where receipts go; empty: none are sent.")] = "http://127.0.0.1:8000",
    templates: Annotated[Path | None, Option(help="The approved texts (else templates.yaml beside the YAML).")] = None,
    fault: Annotated[
        list[str] | None, Option(help="A fault from the start, e.g. gallabox=500 or bitespeed=hang.")
    ] = None,
) -> int:
    """Run a fake Gallabox and BiteSpeed that check every field and print each message as the customer would see it.

    Point the relay at it with GALLABOX_BASE_URL=http://127.0.0.1:9100 and BITESPEED_BASE_URL=http://127.0.0.1:9100/bitespeed.
    GET /sandbox/messages lists what arrived, PUT /sandbox/faults changes the faults.
    """
    environment = read_environment()
    path = templates or read_settings(environment).config.parent / "templates.yaml"
    show = partial(print, flush=True)  # whoever reads it
    texts = FollowedTemplates(path, read_templates, show)
    settings = SandboxSettings.expect(environment, relay_url=relay_url or None, faults=",".join(fault or []))
    show(f"the sandbox knows {len(texts)} templates; receipts go to {relay_url or 'nowhere'}")

    def tell(bound: int) -> None:
        show(f"sandbox listening on http://{host}:{bound}")

    run_until_told(serve_sandbox(settings, texts, host, port, show=show, on_bound=tell))
    return 0


def read_templates(path: Path) -> Templates:
    """Return the approved texts; raises ConfigError with every problem of the file."""
    parsed = parse_templates(read_text(path, "; name another with --templates"))
    if errors := [format_problem(str(path), problem) for problem in parsed.problems]:
        raise ConfigError(f"{path} cannot be used:\n" + cut_lines(errors))
    return parsed.templates


def demo(config: ConfigFile = None, as_json: AsJson = False) -> int:
    """Post one signed example event for every route and show each WhatsApp message as its customer would see it.

    Exit 0 only if every one was accepted and delivered.
    """
    signal.signal(signal.SIGTERM, _end)
    console = open_console()
    console.quiet = as_json
    with tempfile.TemporaryDirectory(prefix="nector-relay-demo-") as folder:
        environment = make_environment(read_environment(), Path(folder), config, find_example())
        rules, templates = read_config(config, environment)
        refuse_real_providers(rules, environment["GALLABOX_BASE_URL"])
        events = [_make_event(route, number, rules, templates) for number, route in enumerate(rules.routes)]
        beside = read_yaml(config, environment).sources.templates_name
        relay = OpsClient(environment["RELAY_URL"], environment["RELAY_ADMIN_TOKEN"])
        with run_both(Path(folder), environment, beside):
            at = f"sandbox on {environment['GALLABOX_BASE_URL']} · relay on {relay.url}"
            console.print(f"{at} · outbox in {folder}\n")
            ends_at = time.monotonic() + LONGEST_S
            shown = [_show(console, relay, event, environment, ends_at) for event in events]
            report = relay.get("/report")
    if as_json:
        print_json({"messages": shown, "report": report})
    else:
        print_report(console, report)
        _print_summary(console, shown, events)
    return 0 if shown and all(one["right"] for one in shown) else 1


def _end(_number: int, _frame: object) -> None:
    """End as SIGTERM asks, with the programs and the folder: nothing stays behind."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(EX_TERMINATED)


def find_example() -> Path:
    """Return the YAML of this folder, or, where it has none, the one that the package brings."""
    usual = Path("config/relay.yaml")
    return usual if usual.is_file() else STARTER / "relay.yaml"


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """One webhook to post, and the text its customer should see."""

    route: str
    provider: str
    topic: str
    delivery_id: str
    body: bytes
    expected_text: str


def _make_event(route: Route, number: int, config: Config, templates: Templates) -> DemoEvent:
    """Return the event for a route; raises ConfigError for one without an example that sends."""
    now = read_clock()
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    # WhatsApp takes one message per recipient every 6 s: a number of its own for each route keeps the demo short.
    payload = give_number(bring_forward(choose_example(route), today), str(FIRST_NUMBER + number % 100))
    shown = preview_message(route, make_event(route.topic, payload, now), config.store, templates, "demo").filled
    text = "" if shown is None else print_message(shown)
    return DemoEvent(route.name, route.provider, route.topic, new_uuid7(now), encode_body(payload), text)


def _show(
    console: Console, relay: OpsClient, event: DemoEvent, environment: Mapping[str, str], ends_at: float
) -> dict[str, Any]:
    """Post one event, follow its delivery to the handset, print what the customer sees; return what came of it."""
    posted_at, secret = time.time(), environment["RELAY_NECTOR_SECRETS"]
    answer = post_once(f"{relay.url}/webhooks/{SOURCE.name}", event.body, (event.topic, event.delivery_id, secret))
    if answer.status != httpx2.codes.ACCEPTED:
        raise RelayError(f"{event.route}: the relay answered {answer.status}: {answer.answer}")
    ids = [row["id"] for row in json.loads(answer.answer)["deliveries"] if row["route"] == event.route]
    until = max(ends_at, time.monotonic() + SHORTEST_S)
    delivery = watch_delivery(relay, ids[0], until, _has_ended, LOOK_EVERY_S) if ids else {}
    reached: dict[str, int] = {}
    for step in delivery.get("timeline", ()):
        ms = round((datetime.fromisoformat(step["at"]).timestamp() - posted_at) * 1000)
        reached.setdefault(step["value"], max(ms, 0))
    text = read_shown(environment["GALLABOX_BASE_URL"], delivery)
    state, receipt = delivery.get("state", "unrouted"), delivery.get("receipt")
    told = {
        "route": event.route,
        "topic": event.topic,
        "provider": event.provider,
        "state": state,
        "reason": delivery["reason"] if delivery else "its example does not hit the route",
        "receipt": receipt,
        "answered_ms": answer.ms,
        "accepted_ms": reached.get("accepted"),
        "delivered_ms": reached.get("delivered", reached.get("read")),
        "text": text,
        "right": state == "accepted" and receipt in {"delivered", "read"} and text == event.expected_text,
    }
    console.print(f"{event.route} · {event.topic} → {event.provider}", style="bold")
    console.print(text or "(nothing arrived)", markup=False)
    came = f"{told['accepted_ms']} ms · {receipt or 'no receipt'} after {told['delivered_ms']} ms"
    how = f"accepted after {came}" if state == "accepted" else f"{state}: {told['reason'] or 'not yet accepted'}"
    console.print(f"{how}\n", style="green" if state == "accepted" else "red")
    return told


def _has_ended(delivery: Mapping[str, Any]) -> bool:
    """Tell whether the handset has it, or nothing more comes of it."""
    return delivery["receipt"] in {"read", "failed"} or delivery["state"] in ENDED


def _print_summary(console: Console, shown: Sequence[Mapping[str, Any]], events: Sequence[DemoEvent]) -> None:
    columns = {
        "route": "route", "provider": "provider", "state": "state", "receipt": "receipt", "202 after": "answered_ms",
        "accepted after": "accepted_ms", "delivered after": "delivered_ms",
    }  # fmt: skip
    rows = [
        [f"{one[name]} ms" if isinstance(one[name], int) else one[name] or "-" for name in columns.values()]
        + ["right" if one["right"] else "wrong"]
        for one in shown
    ]
    console.print()
    print_table(console, (*columns, "check"), rows)
    wrong = sum(not one["right"] for one in shown)
    verdict = f"{len(shown) - wrong} of {len(shown)} messages accepted and delivered"
    console.print(f"\n{verdict}", style="bold red" if wrong else "bold green")
    for one, event in zip(shown, events, strict=True):
        if one["text"] and one["text"] != event.expected_text:
            told = f"{event.route}: the message differs from its preview:\n{event.expected_text}"
            print(told, file=sys.stderr)
