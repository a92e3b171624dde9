"""`nector-relay demo`: one signed example event for every route, through the real relay, to the sandbox.

Nothing is faked but the two vendors: the relay is a process of its own, with its outbox on disk; the events
come over HTTP, signed; the receipts come back over HTTP, signed.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.demo_events import make_events, sign_event
from app.cli.demo_relay import DemoEvent, DemoRelay, Journey, start_relay
from app.cli.mapping.sources import read_config
from app.cli.ops.report import print_report
from app.cli.sandbox import make_settings
from app.cli.tables import open_console, print_table
from app.errors import ConfigError
from app.mapping.rules import Config
from app.mapping.template import Templates
from app.sandbox.serving import serve_sandbox
from app.settings import read_environment

LONGEST_S, SHORTEST_S = 20.0, 0.5  # for all events together; and for each, however late it is
EX_TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Shown:
    """One route's event with what became of it."""

    event: DemoEvent
    journey: Journey
    text: str  # as the sandbox says the customer sees it; "" if it never arrived

    @property
    def right(self) -> bool:
        """Tell whether the message was accepted, reached the handset, and says what it should."""
        return (
            self.journey.state == "accepted"
            and self.journey.receipt in {"delivered", "read"}
            and self.text == self.event.expected_text
        )


def demo(
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> int:
    """Post one signed example event for every route and show each WhatsApp message as its customer would see it.

    Exit 0 only if every one was accepted and delivered.
    """
    console = open_console()
    with tempfile.TemporaryDirectory(prefix="nector-relay-demo-") as folder:
        relay = DemoRelay.plan(Path(folder), config)
        rules, templates = read_config(config, {**read_environment(), **relay.environment})
        refuse_real_providers(rules, relay.sandbox_url)
        events = make_events(rules, templates)
        try:
            shown = asyncio.run(_run(console, events, templates, relay))
        except asyncio.CancelledError:
            return EX_TERMINATED
    _print_summary(console, shown)
    return 0 if shown and all(one.right for one in shown) else 1


def refuse_real_providers(rules: Config, sandbox_url: str) -> None:
    """Raise ConfigError where a provider would not be the sandbox: a demo must reach no customer."""
    for name, settings in rules.providers.items():
        if not str(getattr(settings, "base_url", "")).startswith(sandbox_url):
            raise ConfigError(
                f"provider {name} would not send to the sandbox: give it a base_url from ${{GALLABOX_BASE_URL}} "
                "or ${BITESPEED_BASE_URL}, which the demo points there"
            )


async def _run(console: Console, events: list[DemoEvent], templates: Templates, relay: DemoRelay) -> list[Shown]:
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that nothing stays behind
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sandbox = asyncio.create_task(
        serve_sandbox(
            make_settings(relay.environment, relay_url=relay.url),
            templates,
            port=relay.sandbox_port,
            show=lambda _: None,
            on_bound=bound.set_result,
        )
    )
    try:
        await asyncio.wait((sandbox, asyncio.ensure_future(bound)), return_when=asyncio.FIRST_COMPLETED)
        if sandbox.done():
            sandbox.result()
        async with start_relay(relay) as running:
            console.print(f"sandbox on {relay.sandbox_url} · relay on {relay.url} · outbox in {relay.log.parent}\n")
            ends_at = time.monotonic() + LONGEST_S
            shown = [await _show(console, running, event, ends_at) for event in events]
            print_report(console, await running.read_report())
            console.print()
            return shown
    finally:
        sandbox.cancel()
        await asyncio.gather(sandbox, return_exceptions=True)


async def _show(console: Console, relay: DemoRelay, event: DemoEvent, ends_at: float) -> Shown:
    """Post one event, follow its delivery to the handset, print what the customer sees."""
    journey = await relay.send(event, sign_event(event, relay.secret), max(ends_at - time.monotonic(), SHORTEST_S))
    text = await relay.read_text(journey)
    console.print(f"{event.route} · {event.topic} → {event.provider}", style="bold")
    console.print(text or "(nothing arrived)", markup=False)
    console.print(f"{journey.describe()}\n", style="green" if journey.state == "accepted" else "red")
    return Shown(event, journey, text)


def _print_summary(console: Console, shown: list[Shown]) -> None:
    rows = [
        (
            one.event.route,
            one.event.provider,
            one.journey.state,
            one.journey.receipt or "-",
            *(f"{ms} ms" if ms is not None else "-" for ms in one.journey.timings()),
            "right" if one.right else "wrong",
        )
        for one in shown
    ]
    titles = ("route", "provider", "state", "receipt", "202 after", "accepted after", "delivered after", "check")
    print_table(console, titles, rows)
    wrong = sum(not one.right for one in shown)
    verdict = f"{len(shown) - wrong} of {len(shown)} messages accepted and delivered"
    console.print(f"\n{verdict}", style="bold red" if wrong else "bold green")
    for one in shown:
        if one.text and one.text != one.event.expected_text:
            print(
                f"{one.event.route}: the message differs from its preview:\n{one.event.expected_text}", file=sys.stderr
            )
