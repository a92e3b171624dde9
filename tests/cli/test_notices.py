"""Notices of a relay that really runs, at a receiver that verifies each as Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.delivery.pace import OUTAGE_FAILURES
from app.relay.notify import SILENT_MS

KEY = b"k" * 24
WAIT_S = 60.0
TOLERANCE_S = 300  # what the libraries of https://www.standardwebhooks.com/ allow


def verify(headers: Any, body: bytes, key: bytes = KEY) -> bool:
    """Tell whether a message is signed; written from the specification alone."""
    if abs(time.time() - int(headers["webhook-timestamp"])) > TOLERANCE_S:
        return False
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split(" ")


@pytest.fixture
def received() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """A receiver's URL, and what it has verified; one that fails is told as `unsigned`."""
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert not verify(self.headers, body, b"another key")  # the control
            told.put(json.loads(body) if verify(self.headers, body) else {"type": "unsigned"})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", told
    server.shutdown()
    server.server_close()


@pytest.mark.long
def test_a_relay_that_runs_tells_of_holds_lanes_and_a_silent_source_signed(
    folder: Path,
    received: tuple[str, queue.Queue[dict[str, Any]]],
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    post_event: Callable[..., httpx2.Response],
) -> None:
    url, told = received
    given = {**serving_environment, "RELAY_DATABASE_URL": f"sqlite:///{folder}/relay.db"}
    access = {"authorization": f"Bearer {given['RELAY_ADMIN_TOKEN']}"}

    def change(method: str, at: str, scope: str) -> None:
        answer = httpx2.request(method, f"{at}/holds/{scope}", headers=access, trust_env=False, timeout=20)
        assert answer.is_success, answer.text

    with start_serving(folder, given) as (first, at):  # what stands at the start is known already
        change("PUT", at, "route:tier-changed")
        first.stop()
    secret = "whsec_" + base64.b64encode(KEY).decode()
    notifying = {**given, "RELAY_NOTIFY_URL": url, "RELAY_NOTIFY_SECRET": secret}
    with start_serving(folder, notifying) as (relay, at):
        # One that is set before the first look is known, too: so another follows.
        for scope in ("route:coins-earned", "route:review-thanks", "provider:bitespeed"):
            change("PUT", at, scope)
            try:
                notice = told.get(timeout=WAIT_S / 4)
                break
            except queue.Empty:
                continue
        assert (notice["type"], notice["data"]["reason"]) == ("hold.set", "by_hand")
        change("DELETE", at, "route:tier-changed")
        assert read(told, "hold.ended")["data"]["scope"] == "route:tier-changed"
        for number in range(OUTAGE_FAILURES + 1):
            payload = {
                "user_name": "Riya",
                "user_mobile": f"98000000{number:02}",
                "amount": "5",
                "expire": "2099-12-31",
            }
            assert post_event(at, "coinexpirynotify_create", payload).status_code == 202
        assert read(told, "lane.down")["data"]["provider"] == "gallabox"
        with sqlite3.connect(folder / "relay.db", timeout=20) as database:
            database.execute("UPDATE events SET received_at = received_at - ?", (SILENT_MS + 1,))
        database.close()
        assert read(told, "source.silent")["data"]["source"] == "nector"
        assert "9800000" not in relay.out.replace("98000 00000", "")


def read(told: queue.Queue[dict[str, Any]], type_: str) -> dict[str, Any]:
    """Return the next notice of this type; none is unsigned."""
    while (notice := told.get(timeout=WAIT_S))["type"] != type_:
        assert notice["type"] != "unsigned"
    return notice
