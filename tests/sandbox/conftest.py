from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from app.mapping.template import Template, TemplateButton, Templates
from app.sandbox.app import serve_sandbox
from app.sandbox.vendor import SandboxSettings

TEMPLATES: Templates = {
    (template.provider, template.id): template
    for template in (
        Template("gallabox", "coins_earned", "Hi {{name}}, {{coins}} coins.", ("name", "coins"), footer="Reply STOP"),
        Template(
            "gallabox",
            "banner",
            "Hi {{1}}",
            ("1",),
            header_kind="image",
            buttons=(
                TemplateButton("reply", "Stop"),
                TemplateButton("url", "Redeem", "https://acme.example/r/{{1}}"),
                TemplateButton("phone", "Call", "+919800000099"),
            ),
        ),
        Template("gallabox", "titled", "Hello", header_kind="text", header_text="For {{1}}"),
        Template("gallabox", "paused_one", "Hello", status="paused"),
        Template("gallabox", "new_one", "Hello", status="pending"),
        Template(
            "bitespeed",
            "tpl_4711",
            "{{1}}, your code is {{2}}",
            ("1", "2"),
            header_kind="document",
            buttons=(
                TemplateButton("phone", "Call", "+919800000099"),
                TemplateButton("url", "Use", "https://a.example/{{1}}"),
            ),
        ),
        Template("bitespeed", "tpl_1", "Hi {{1}}", ("1",)),
    )
}


@dataclass
class RunningSandbox:
    """A sandbox on a real port, and a client of it."""

    client: httpx2.Client
    port: int
    shown: list[str] = field(default_factory=list)

    def put_faults(self, **faults: Any) -> None:
        assert self.client.put("/sandbox/faults", json=faults).status_code == 200

    def clear(self) -> None:
        self.client.delete("/sandbox/faults")
        self.client.delete("/sandbox/messages")
        self.shown.clear()

    def count(self, kind: str) -> dict[str, int]:
        counts: dict[str, int] = self.client.get("/sandbox/counts").json()[kind]
        return counts

    def list_messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.client.get("/sandbox/messages").json()["messages"]
        return messages


@contextmanager
def run_sandbox(settings: SandboxSettings) -> Iterator[RunningSandbox]:
    bound: list[int] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    shown: list[str] = []

    def note_port(port: int) -> None:
        bound.append(port)
        ready.set()

    task = loop.create_task(
        serve_sandbox(settings, TEMPLATES, port=0, show=shown.append, on_bound=note_port), name="sandbox"
    )
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    assert ready.wait(40)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{bound[0]}", timeout=5, trust_env=False) as client:
            yield RunningSandbox(client, bound[0], shown)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[RunningSandbox]:
    settings = SandboxSettings(
        gallabox_channel_id="channel-1",
        gallabox_account_id="account-1",
        gallabox_api_key="key-1",
        gallabox_api_secret="secret-1",
        bitespeed_channel_id="channel-2",
        bitespeed_user_id="user-2",
        hang_ms=150,
    )
    with run_sandbox(settings) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: RunningSandbox) -> Iterator[RunningSandbox]:
    shared_sandbox.clear()
    yield shared_sandbox
    shared_sandbox.clear()


@pytest.fixture
def start_sandbox() -> Callable[..., Any]:
    def start(**settings: Any) -> Any:
        return run_sandbox(SandboxSettings(**settings))

    return start


@dataclass
class Post:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A stand-in for the relay: notes what is posted; answers with `answers` in turn, then 200. 0: no answer."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, number: int) -> list[Post]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.posts) >= number, 10), f"{len(self.posts)} of {number} posts"
            return list(self.posts)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    noted = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            with noted.changed:
                noted.posts.append(Post(parts.path, parse_qs(parts.query), headers, body))
                status = noted.answers.pop(0) if noted.answers else 200
                noted.changed.notify_all()
            if status:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    noted.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield noted
    server.shutdown()
    thread.join()
    server.server_close()
