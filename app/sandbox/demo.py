"""In a demo a relay and the sandbox run as processes of their own, and nothing is faked but the two vendors."""

from __future__ import annotations

import copy
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from app.errors import ConfigError, OpsError, RelayError
from app.mapping.rules import Config
from app.sources.nector import NUMBER_PATHS

START_S, STOP_S, LOOK_EVERY_S = 60.0, 10.0, 0.02
_INVENTED = (
    "RELAY_NECTOR_SECRETS", "RELAY_ADMIN_TOKEN", "GALLABOX_API_KEY", "GALLABOX_API_SECRET", "GALLABOX_CHANNEL_ID",
    "GALLABOX_ACCOUNT_ID", "GALLABOX_WEBHOOK_SECRET", "BITESPEED_CHANNEL_ID", "BITESPEED_USER_ID",
    "BITESPEED_WEBHOOK_TOKEN",
)  # fmt: skip


def make_environment(given: Mapping[str, str], folder: Path, config: Path | None, example: Path) -> dict[str, str]:
    """Return the environment of both programs: free ports, invented credentials, and what the YAML reads beside."""
    relay_url, sandbox_url = (f"http://127.0.0.1:{port}" for port in _find_free_ports(2))
    return {
        **given,
        **{name: "" for name in given if name.startswith("RELAY_")},  # else a program reads them in .env again
        **{name: secrets.token_hex(16) for name in _INVENTED},
        "RELAY_CONFIG": str(config or given.get("RELAY_CONFIG") or example),
        "RELAY_CONFIG_YAML": "" if config else given.get("RELAY_CONFIG_YAML", ""),
        "RELAY_DATABASE_URL": f"sqlite:///{folder}/relay.db",
        "RELAY_URL": relay_url,
        "GALLABOX_BASE_URL": sandbox_url,
        "BITESPEED_BASE_URL": f"{sandbox_url}/bitespeed",
    }


def _find_free_ports(count: int) -> list[int]:
    """Return free loopback ports, all held open while the next is found so that they differ."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def refuse_real_providers(rules: Config, sandbox_url: str) -> None:
    """Raise ConfigError where a provider would not be the sandbox: a demo must reach no customer."""
    for name, settings in rules.providers.items():
        if not str(getattr(settings, "base_url", "")).startswith(sandbox_url):
            raise ConfigError(
                f"provider {name} would not send to the sandbox: give it a base_url from ${{GALLABOX_BASE_URL}} "
                "or ${BITESPEED_BASE_URL}, which the demo points there"
            )


def give_number(payload: dict[str, Any], number: str) -> dict[str, Any]:
    """Return the payload with this mobile wherever it has one."""
    changed = copy.deepcopy(payload)
    for *parents, last in NUMBER_PATHS:
        place: Any = changed
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place:
            place[last] = number
    return changed


@contextmanager
def run_both(folder: Path, environment: Mapping[str, str], templates: str) -> Iterator[None]:
    """Run sandbox and relay until the block ends; raises RelayError with the last words of one that fails."""
    relay_url, sandbox_url = environment["RELAY_URL"], environment["GALLABOX_BASE_URL"]
    commands = {
        f"{sandbox_url}/sandbox/messages": ("sandbox", "--relay-url", relay_url, "--templates", templates),
        f"{relay_url}/readyz": ("serve", "--host", "127.0.0.1"),
    }
    programs: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for url, (name, *options) in commands.items():
            port = url.split(":")[2].split("/")[0]
            with (folder / f"{name}.log").open("wb") as log:
                programs[url] = subprocess.Popen(  # noqa: S603  # our own program
                    [sys.executable, "-m", "app", name, "--port", port, *options],
                    env=environment, stdout=log, stderr=log,
                )  # fmt: skip
        for url, program in programs.items():
            _wait_until_ready(url, program, folder / f"{commands[url][0]}.log")
        yield
    except (OpsError, httpx2.TransportError) as error:
        kind, words = type(error).__name__, _read_last_words(folder / "serve.log")
        raise RelayError(f"the relay stopped answering ({kind}):\n{words}") from None
    finally:
        _stop(list(programs.values()))


def _wait_until_ready(url: str, program: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START_S and program.poll() is None:
        try:
            if httpx2.get(url, trust_env=False).is_success:
                return
        except httpx2.TransportError:
            pass
        time.sleep(LOOK_EVERY_S)
    raise RelayError(f"{log.stem} did not start:\n{_read_last_words(log)}")


def _read_last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])


def _stop(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    for program in programs:
        program.terminate()
    for program in programs:
        try:
            program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def read_shown(sandbox_url: str, delivery: Mapping[str, Any]) -> str:
    """Return the message as the sandbox says its customer sees it, "" if it never arrived."""
    page = httpx2.get(f"{sandbox_url}/sandbox/messages", trust_env=False).json()
    # BiteSpeed is not told our id (nobody knows a field for it): there the id it answered with leads back.
    keys = {delivery.get("id"), delivery.get("provider_message_id")} - {None}
    return next((str(one["text"]) for one in page["messages"] if keys & {one["delivery_id"], one["id"]}), "")
