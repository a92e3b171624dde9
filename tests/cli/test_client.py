"""What the commands say when the relay they talk to is not there, or will not have them."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.cli.client import OpsClient

COMMANDS = [
    ("deliveries",),
    ("deliveries", "--json"),
    ("explain", "a"),
    ("retry", "a"),
    ("holds",),
    ("hold", "route:a"),
    ("release", "route:a"),
]


@contextmanager
def answer_with(status: int, body: bytes) -> Iterator[str]:
    """Serve one answer to everything; yield the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def nowhere(folder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """RELAY_URL is a port on which nobody listens."""
    del folder
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RELAY_URL", url)
        monkeypatch.setenv("RELAY_ADMIN_TOKEN", "test-token")
        yield url


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_no_relay_runs_it_is_said_in_one_line(
    run: Callable[..., Any], nowhere: str, command: tuple[str, ...]
) -> None:
    done = run(*command)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"nector-relay: no relay answers at {nowhere} (ConnectError): start one with `nector-relay serve`, "
        "or set RELAY_URL to where it is\n"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_token_is_said(
    run: Callable[..., Any], shop: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RELAY_ADMIN_TOKEN", "canary-token")
    done = run(*command)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"nector-relay: the relay at {shop.url} refused the token")
    assert "canary" not in done.err


@pytest.mark.parametrize(
    ("token", "said"), [("", "RELAY_ADMIN_TOKEN is not set"), (" ", "is not set"), ("clé", "no HTTP header can carry")]
)
def test_a_token_that_is_none_is_said(
    run: Callable[..., Any], nowhere: str, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    del nowhere
    monkeypatch.setenv("RELAY_ADMIN_TOKEN", token)
    done = run("holds")
    assert done.code == 1
    assert said in done.err
    assert "clé" not in done.err


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://127.0.0.1", "//x", "http://"])
def test_a_url_that_is_none_is_said(
    run: Callable[..., Any], nowhere: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    del nowhere
    monkeypatch.setenv("RELAY_URL", url)
    assert run("holds").err == f"nector-relay: RELAY_URL must be a URL such as http://127.0.0.1:8000, and is {url}\n"


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999", "http://a b"])
def test_a_url_that_leads_nowhere_is_said(
    run: Callable[..., Any], nowhere: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    del nowhere
    monkeypatch.setenv("RELAY_URL", url)
    done = run("holds")
    assert done.code == 1
    assert done.err.startswith(f"nector-relay: no relay answers at {url} (")


def test_an_empty_url_is_the_default(run: Callable[..., Any], nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del nowhere
    asked: list[str] = []

    def note(self: OpsClient, *_: Any) -> Any:
        asked.append(self.url)
        return {"holds": []}

    monkeypatch.setattr(OpsClient, "get", note)
    monkeypatch.setenv("RELAY_URL", "")
    assert run("holds", "--json").code == 0
    assert asked == ["http://127.0.0.1:8000"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>a login page</html>", "is not a relay: set RELAY_URL to where it is"),
        (200, b"[]", "is not a relay"),
        (404, b"nothing here", "answered 404: no detail"),
        (404, b'{"detail": "not found"}', "has no ops API: start it with RELAY_ADMIN_TOKEN set, and with an outbox"),
        (503, b'{"detail": "the outbox cannot commit"}', "answered 503: the outbox cannot commit"),
        (302, b"", "answered 302: no detail"),
        (500, b"[]", "answered 500: no detail"),
    ],
)
def test_an_answer_that_is_none_of_a_relay_is_said(
    run: Callable[..., Any], nowhere: str, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    del nowhere
    with answer_with(status, body) as url:
        monkeypatch.setenv("RELAY_URL", url)
        done = run("holds")
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_the_token_is_not_in_its_repr() -> None:
    assert "canary" not in repr(OpsClient("http://127.0.0.1", "canary"))
