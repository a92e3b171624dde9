"""`nector-relay post`: what Nector would send, seen by whoever gets it."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.cli import trial

SECRET = "posted-secret"
BODY = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "1250"}


class Listener:
    """Answers with these statuses, one after the other, and keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.requests = list(statuses), list[tuple[str, dict[str, str], bytes]]()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.requests.append((self.path, headers, body))
                answer = b'{"status": "accepted"}'
                self.send_response(listener.statuses.pop(0))
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Listener]]:
    opened: list[Listener] = []

    def open_one(*statuses: int) -> Listener:
        opened.append(Listener(*statuses))
        opened[-1].thread.start()
        return opened[-1]

    monkeypatch.setenv("RELAY_NECTOR_SECRETS", f"{SECRET},older")
    monkeypatch.setattr(trial, "FIRST_DELAY_S", 0.0)
    yield open_one
    for one in opened:
        one.server.shutdown()
        one.thread.join()
        one.server.server_close()


def test_an_event_is_signed_as_nector_signs(
    run: Callable[..., Any], folder: Path, listen: Callable[..., Listener]
) -> None:
    (folder / "event.json").write_text(json.dumps(BODY))
    there = listen(202)
    done = run("post", "event.json", "--topic", "walletreward_create", "--url", there.url, "--id", "by-hand-1")
    assert (done.code, done.err) == (0, "")
    ((path, headers, body),) = there.requests
    assert (path, json.loads(body)) == ("/webhooks/nector", BODY)
    assert {name: headers[name] for name in headers if name.startswith("x-") and "timestamp" not in name} == {
        "x-source": "unix",
        "x-nector-topic": "walletreward_create",
        "x-nector-delivery-id": "by-hand-1",
        "x-nector-webhook-secret-algo": "sha256",
        "x-nector-webhook-secret": hashlib.sha256(SECRET.encode()).hexdigest(),
        "x-nector-webhook-hmac-algo": "sha256",
        "x-nector-webhook-hmac": hmac.new(SECRET.encode(), body, "sha256").hexdigest(),
    }
    assert headers["x-nector-timestamp"].isdigit()
    assert headers["content-type"] == "application/json"


def test_a_route_posts_its_first_example_with_dates_that_still_count(
    run: Callable[..., Any], listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = listen(202)
    monkeypatch.setenv("RELAY_URL", there.url)
    assert run("post", "coupon-ready").code == 0
    ((_, headers, body),) = there.requests
    assert headers["x-nector-topic"] == "coupon_create"
    assert json.loads(body)["expire"][:10] > datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize(
    ("statuses", "more", "code", "tries"),
    [
        ((503, 500, 202), (), 0, 3),
        ((200,), (), 0, 1),
        ((401,) * 6, (), 1, 6),
        ((503, 202), ("--retries", "0"), 1, 1),
    ],
)
def test_what_is_not_taken_is_tried_again_under_the_same_id(
    run: Callable[..., Any],
    listen: Callable[..., Listener],
    statuses: tuple[int, ...],
    more: tuple[str, ...],
    code: int,
    tries: int,
) -> None:
    there = listen(*statuses)
    done = run("post", "coins-earned", "--url", f"{there.url}/", "--json", *more)
    assert done.code == code
    told = json.loads(done.out)
    assert [each["status"] for each in told["attempts"]] == list(statuses[:tries])
    assert {headers["x-nector-delivery-id"] for _, headers, _ in there.requests} == {told["delivery_id"]}
    assert len(done.err.splitlines()) == tries - 1
    assert told["answer"] == {"status": "accepted"}


def test_a_whole_url_is_taken_as_it_is(run: Callable[..., Any], listen: Callable[..., Listener]) -> None:
    there = listen(202)
    assert run("post", "coins-earned", "--url", f"{there.url}/hooks/relay").code == 0
    assert there.requests[0][0] == "/hooks/relay"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "there is no route nothing, nor a file; routes: coins-earned, "),
        (("event.json",), "event.json holds a body without its topic: add --topic"),
        (("missing.json", "--topic", "a"), "missing.json: cannot be read"),
        (("coins-earned", "--url", "nonsense"), "--url must be a URL such as"),
    ],
)
def test_what_cannot_be_posted_is_told(
    run: Callable[..., Any], folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    (folder / "event.json").write_text(json.dumps(BODY))
    done = run("post", *arguments)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_where_nothing_listens_nothing_answers(run: Callable[..., Any], listen: Callable[..., Listener]) -> None:
    listen()
    done = run("post", "coins-earned", "--url", "http://127.0.0.1:9", "--retries", "0")
    assert done.code == 1
    assert "no answer after" in done.out
