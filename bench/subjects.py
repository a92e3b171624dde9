"""What is measured: this relay and the naive one, each started as its user would, and the fake provider."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.events import RECEIPT_SECRET, SECRET
from bench.processes import Cores, Started, free_port, run_process

BENCH = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent  # .venv/bin


@dataclass(frozen=True, slots=True)
class Subject:
    """A relay under test; `command` gets the port. `prepare` lays into its folder what is there at its start."""

    name: str
    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] = lambda _folder: None


RELAY = Subject("relay", lambda port: [str(BIN / "nector-relay"), "serve", "--host", "127.0.0.1", "--port", str(port)])
NAIVE = Subject("naive", lambda port: [str(BIN / "uvicorn"), "--app-dir", str(BENCH), "--port", str(port), "naive:app"])
SUBJECTS = (NAIVE, RELAY)


@contextlib.contextmanager
def run_subject(
    subject: Subject, provider_url: str, folder: Path, cores: Cores, *, tls: bool = False
) -> Iterator[Started]:
    """Run a relay in `folder`, where its outbox is."""
    port = free_port()
    subject.prepare(folder)
    environment = {**_build_environment(provider_url, folder, tls=tls), **subject.environment}
    with run_process(subject.command(port), port, cores.subject, folder, environment) as started:
        yield started


def _build_environment(provider_url: str, folder: Path, *, tls: bool) -> Mapping[str, str]:
    """Return only what is written here: a developer's own settings must not change the figures."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "GALLABOX_BASE_URL": provider_url,
        "GALLABOX_API_KEY": "bench",
        "GALLABOX_API_SECRET": "bench",
        "GALLABOX_WEBHOOK_SECRET": RECEIPT_SECRET,
        "RELAY_CONFIG": str(BENCH / "relay.yaml"),
        "RELAY_NECTOR_SECRETS": SECRET,
        "RELAY_DATABASE_URL": f"sqlite:///{folder / 'relay.db'}",
        # Each subject is told by its own name whom to trust.
        **(
            dict.fromkeys(("RELAY_CA_FILE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), _certificate(folder))
            if tls
            else {}
        ),
    }


def _certificate(folder: Path) -> str:
    return str(folder / "provider.pem")


def _make_certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "provider.key"), "-out"]
    subprocess.run([*command.split(), *files, _certificate(folder)], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class FakeProvider:
    """The running fake Gallabox, asked over HTTP."""

    port: int
    tls_port: int = 0  # 0: none
    pid: int = 0

    @property
    def url(self) -> str:
        """Where messages are sent."""
        return f"https://localhost:{self.tls_port}" if self.tls_port else f"http://127.0.0.1:{self.port}"

    def count(self) -> dict[str, Any]:
        """Return its figures (see fake_provider.py)."""
        return self._ask("GET", "/count")

    def arrivals(self) -> dict[str, float]:
        """Return when the first message to each recipient came."""
        return dict(self._ask("GET", "/arrivals")["arrivals"])

    def list_messages(self) -> list[str]:
        """Return our ids of the messages that it took."""
        return list(self._ask("GET", "/messages")["messages"])

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@contextlib.contextmanager
def run_provider(
    folder: Path, cores: Cores, *, delay_ms: int = 0, mode: str = "accept", tls: bool = False
) -> Iterator[FakeProvider]:
    """Run the fake provider beside the load generator, on their core; with `tls` on a second port, too."""
    port, tls_port = free_port(), free_port()
    if tls:
        _make_certificate(folder)
    command = [sys.executable, "-m", "bench.fake_provider", "--port", str(port)]
    command += ["--delay-ms", str(delay_ms), "--mode", mode, *(["--tls-port", str(tls_port)] if tls else [])]
    environment = {"PYTHONPATH": str(BENCH.parent)}
    with run_process(command, port, cores.peers, folder, environment, health="/count") as started:
        yield FakeProvider(started.port, tls_port if tls else 0, started.process.pid)
