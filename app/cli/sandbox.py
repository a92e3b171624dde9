"""`nector-relay sandbox`: the fake providers, for trials, tests and staging."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from app.errors import ConfigError
from app.files import stamp_file
from app.mapping.problems import cut_lines, format_problem
from app.mapping.template import Template, Templates
from app.mapping.template_entries import parse_templates
from app.relay.reload import read_text
from app.sandbox.app import serve_sandbox
from app.sandbox.vendor import SandboxSettings
from app.settings import read_environment, read_settings

print_flushed = partial(print, flush=True)


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 9100,
    relay_url: Annotated[str, typer.Option(help="Where receipts go; empty: none are sent.")] = "http://127.0.0.1:8000",
    templates: Annotated[
        Path | None, typer.Option(help="The approved texts (else templates.yaml beside the YAML).")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="A fault from the start, e.g. gallabox=500 or bitespeed=hang.")
    ] = None,
) -> int:
    """Run a fake Gallabox and BiteSpeed that check every field and print each message as the customer would see it.

    Point the relay at it with GALLABOX_BASE_URL=http://127.0.0.1:9100 and BITESPEED_BASE_URL=http://127.0.0.1:9100/bitespeed.
    GET /sandbox/messages lists what arrived, PUT /sandbox/faults changes the faults.
    """
    environment = read_environment()
    path = templates or read_settings(environment).config.parent / "templates.yaml"
    texts = FollowedTemplates(path, print_flushed)
    settings = make_settings(environment, relay_url=relay_url or None, faults=",".join(fault or []))
    print_flushed(f"the sandbox knows {len(texts)} templates; receipts go to {relay_url or 'nowhere'}")

    def show_port(bound: int) -> None:
        print_flushed(f"sandbox listening on http://{host}:{bound}")

    serving = serve_sandbox(settings, texts, host, port, show=print_flushed, on_bound=show_port)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_serve_until_told(serving))
    return 0


async def _serve_until_told(serving: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM."""
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    for told in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(told, task.cancel)
    await task


class FollowedTemplates(Mapping[tuple[str, str], Template]):
    """The approved texts of a file, read again when it has changed; one that cannot be used changes nothing."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._path, self._show = path, show
        self._texts, self._seen = read_templates(path), stamp_file(path)

    def _read(self) -> Templates:
        if (stamp := stamp_file(self._path)) != self._seen:
            self._seen = stamp
            try:
                self._texts = read_templates(self._path)
                self._show(f"read {self._path} again: {len(self._texts)} templates")
            except ConfigError as error:
                self._show(f"{error}\nthe texts of before stay in use")
        return self._texts

    def __getitem__(self, key: tuple[str, str]) -> Template:
        return self._read()[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def read_templates(path: Path) -> Templates:
    """Return the approved texts; raises ConfigError with every problem of the file."""
    parsed = parse_templates(read_text(path, "; name another with --templates"))
    if errors := [format_problem(str(path), problem) for problem in parsed.problems]:
        raise ConfigError(f"{path} cannot be used:\n" + cut_lines(errors))
    return parsed.templates


def make_settings(environment: Mapping[str, str], *, relay_url: str | None, faults: str = "") -> SandboxSettings:
    """Return settings that expect the very credentials which the relay in this environment sends."""
    names = [one.name for one in fields(SandboxSettings) if one.name.startswith(("gallabox_", "bitespeed_"))]
    given: Any = {name: environment[name.upper()] for name in names if name.upper() in environment}
    return SandboxSettings(relay_url=relay_url, faults=faults, **given)
