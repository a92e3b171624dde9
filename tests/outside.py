"""The relay from outside: its process, its HTTP, its file, and a provider that answers as it is told.

What is recorded here has to outlast a rebuild of the inside, so nothing in this file knows a name of it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import httpx2

ROOT = Path(__file__).parent.parent
SECRET, TOKEN, RECEIPT_SECRET = "outside-secret", "outside-token", "outside-receipts"
START_S = 40.0  # two cores, shared with other tests
LONGEST_START_S = 300.0  # a large file, too

ACCEPT, HANG, RESET = "accept", "hang", "reset"
Answer: TypeAlias = str | tuple[int, Any]
"""ACCEPT, HANG (until the provider ends), RESET, `wait 0.5`, or a status with its body (JSON, or bytes as they are)."""


# -- the provider -----------------------------------------------------------------------------------


@dataclass
class FakeProvider:
    """Takes messages for Gallabox and BiteSpeed; each template's next answer stands in `script`, else it accepts."""

    script: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> dict[str, list[bytes]]:
        """Return the requests' bodies by the delivery's id."""
        found: dict[str, list[bytes]] = {}
        for _, _, body in list(self.requests):
            found.setdefault(read_ids(body)[0], []).append(body)
        return found


def read_ids(body: bytes) -> tuple[str, str]:
    """Return a message's delivery id and its template."""
    parsed = json.loads(body)
    if "whatsapp" in parsed:
        return parsed["localMessageId"], parsed["whatsapp"]["template"]["templateName"]
    return parsed["deliveryId"], parsed["templateId"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: FakeProvider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        provider = self.provider
        headers = {name.lower(): value for name, value in self.headers.items()}
        provider.requests.append((self.path, headers, body))
        delivery_id, template = read_ids(body)
        waiting = provider.script.get(template)
        answer = waiting.pop(0) if waiting else ACCEPT
        if isinstance(answer, str) and answer.startswith("wait "):
            time.sleep(float(answer[5:]))
            answer = ACCEPT
        if answer == HANG:
            provider.ended.wait()
        if answer in (HANG, RESET):  # others cannot be hashed
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if answer == ACCEPT:
            id_ = f"m-{delivery_id}"
            answer = 202, {"id": id_, "status": "ACCEPTED", "success": True, "data": {"id": id_}}
        assert isinstance(answer, tuple), f"no answer: {answer}"
        status, told = answer
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(int(status))
        self.send_header("content-length", str(len(content)))
        self.send_header("content-type", "application/json")
        if isinstance(told, dict) and "retry_after" in told:
            self.send_header("retry-after", str(told["retry_after"]))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a relay that was killed goes away without a word
            super().handle_error(*arguments)


@contextmanager
def run_provider(script: Mapping[str, Sequence[Answer]] | None = None) -> Iterator[FakeProvider]:
    provider = FakeProvider({name: list(answers) for name, answers in (script or {}).items()})
    handler = type("Handler", (_Handler,), {"provider": provider})
    with _Server(("127.0.0.1", 0), handler) as server:
        provider.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            provider.ended.set()
            server.shutdown()
            thread.join()


# -- the relay --------------------------------------------------------------------------------------


def describe_account(name: str, url: str, **keys: Any) -> str:
    """Return a Gallabox account for the YAML."""
    more = "".join(f", {key}: {json.dumps(value)}" for key, value in keys.items())
    return (
        f"  {name}: {{type: gallabox, base_url: {json.dumps(url)}, channel_id: channel, api_key: '${{KEY}}', "
        f"api_secret: '${{KEY}}', webhook_secret: '${{RECEIPT_SECRET}}'{more}}}\n"
    )


def build_environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return all that a relay in `folder` reads, besides its relay.yaml there."""
    return {
        "RELAY_CONFIG": "relay.yaml",
        "RELAY_DATABASE_URL": f"sqlite:///{folder / 'relay.db'}",
        "RELAY_NECTOR_SECRETS": SECRET,
        "RELAY_ADMIN_TOKEN": TOKEN,
        "KEY": "outside-key",
        "RECEIPT_SECRET": RECEIPT_SECRET,
        **settings,
    }


def sign_event(topic: str, source_id: str | None = None) -> dict[str, str]:
    """Return the headers of a webhook of Nector."""
    headers = {
        "content-type": "application/json",
        "x-nector-topic": topic,
        "x-nector-webhook-secret": hashlib.sha256(SECRET.encode()).hexdigest(),
    }
    return headers if source_id is None else {**headers, "x-nector-delivery-id": source_id}


def sign_receipt(body: bytes, name: str = "Message.WA.Status.Received") -> dict[str, str]:
    """Return the headers of a webhook of Gallabox."""
    signature = base64.b64encode(hmac.digest(RECEIPT_SECRET.encode(), body, "sha256")).decode()
    return {"content-type": "application/json", "x-event-name": name, "x-gallabox-signature": signature}


@dataclass(frozen=True)
class Running:
    """A relay's process, and how to speak to it."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str
    client: httpx2.Client

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.client.request(method, self.url + path, **options)

    def post(self, topic: str, payload: Any, source_id: str | None = None) -> list[str]:
        """Post an event; return its deliveries' ids."""
        answer = self._ask(
            "POST", "/webhooks/nector", content=json.dumps(payload), headers=sign_event(topic, source_id)
        )
        assert answer.status_code in {200, 202}, answer.text
        return [str(row["id"]) for row in answer.json()["deliveries"]]

    def report(self, account: str, body: Mapping[str, Any], name: str = "Message.WA.Status.Received") -> None:
        content = json.dumps(body).encode()
        answer = self._ask("POST", f"/webhooks/{account}", content=content, headers=sign_receipt(content, name))
        assert answer.status_code == 200, answer.text

    def ops(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the ops API; return its JSON, or its text."""
        answer = self._ask(method, path, json=body, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.is_success, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def wait_for(self, delivery_id: str, *values: str, seconds: float = 40, key: str = "state") -> dict[str, Any]:
        """Return the delivery once its `key` is one of these."""
        ends_at = time.monotonic() + seconds
        while (delivery := dict(self.ops("GET", f"/deliveries/{delivery_id}")))[key] not in values:
            assert time.monotonic() < ends_at, f"not {values}: {delivery}"
            time.sleep(0.2)
        return delivery

    def cli(self, *arguments: str) -> str:
        """Return what a command prints."""
        with mock.patch.dict(os.environ, {"RELAY_URL": self.url, "RELAY_ADMIN_TOKEN": TOKEN}):
            return run_cli(*arguments)

    def backup(self, path: Path) -> None:
        """Copy the outbox while the relay runs."""
        with mock.patch.dict(os.environ, build_environment(self.folder)):
            run_cli("backup", str(path))

    def change(self, statement: str, *values: Any) -> None:
        """Let time pass: change the file behind the relay's back."""
        with closing(sqlite3.connect(self.folder / "relay.db", timeout=10)) as db, db:
            db.execute(statement, values)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(START_S)


def run_cli(*arguments: str) -> str:
    """Run a command in this process; return what it printed."""
    from app.__main__ import main  # noqa: PLC0415  # a script that only needs the rest does without

    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["nector-relay", *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main()
    return printed.getvalue()


def start_relay(folder: Path, log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Start `serve` on a free port in a folder that holds a relay.yaml."""
    return start_program(folder, log, "serve", "--host", "127.0.0.1", "--port", "0", **settings)


def start_program(folder: Path, log: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    """Start a command in a folder, with nothing of the environment but what is set here."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), **build_environment(folder), **settings},
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def run_relay(folder: Path, **settings: str) -> Iterator[Running]:
    """Run `serve` until the block ends; yield it once it listens."""
    log = folder / f"log-{time.monotonic_ns()}"
    process = start_relay(folder, log, **settings)
    try:
        ends_at = time.monotonic() + LONGEST_START_S
        while not (found := re.search(r'"relay\.listening".*"port": ?(\d+)', log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends_at, log.read_text()
            time.sleep(0.02)
        with httpx2.Client(timeout=30, trust_env=False) as client:
            yield Running(process, folder, f"http://127.0.0.1:{found[1]}", client)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_rows(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds in the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query, values).fetchall()


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 40) -> None:
    """Return once it is so."""
    ends_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_at, what
        time.sleep(0.02)
