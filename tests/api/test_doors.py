"""A request that has come whole is answered past ASGI, and as it would be by way of it, byte for byte."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from uvicorn.server import ServerState

from app.api.connections import Connection
from app.api.guard import Door
from app.api.strangers import Gate
from app.cli.serve import build_server_config
from tests.api.test_webhooks import headers
from tests.security.edge import GENEROUS
from tests.security.fuzzing import Wire

EVENT = json.dumps({"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}).encode()
PATH = "/webhooks/nector"


class Line:
    """A connection to a relay's application, without a socket."""

    def __init__(self, relay: Any) -> None:
        assert isinstance(relay.client, httpx2.AsyncClient)
        app, shared = relay.client._transport.app, relay.relay.shared  # type: ignore[attr-defined]
        gate = Gate(GENEROUS, shared.log, lambda _reason: None)
        config = build_server_config(app, shared.settings, gate)
        config.load()
        self.state, self.wire = ServerState(), Wire(("198.51.100.7", 4_000))
        self.state.default_headers = [(b"date", b"today")]
        self.connection = Connection(gate, config=config, server_state=self.state, app_state={})
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    async def say(self, *packets: bytes) -> bytes:
        """Return what is answered to these packets, once nothing is being answered any more."""
        for packet in packets:
            self.connection.data_received(packet)
            await asyncio.sleep(0)
        while self.state.tasks:
            await asyncio.wait(self.state.tasks)
        return bytes(self.wire.heard)


def write_head(body: bytes, path: str = PATH, **changes: str | None) -> bytes:
    given = {**headers(**changes), "content-length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode()


async def hear(relay: Any, *packets: bytes) -> tuple[bytes, bool]:
    """Return what a new connection is answered, and whether it is closed then."""
    line = Line(relay)
    heard = await line.say(*packets)
    return re.sub(rb'"state": "[a-z]+"', b"", heard), line.wire.closed  # which goes on meanwhile


@pytest.fixture
def by_asgi(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of those whom a door was asked to answer as an ASGI application."""
    asked: list[str] = []
    answer = Door.__call__

    async def note(self: Door, scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await answer(self, scope, receive, send)

    monkeypatch.setattr(Door, "__call__", note)
    return asked


@pytest.mark.parametrize(
    ("path", "changes", "body", "status"),
    [
        pytest.param(PATH, {}, EVENT, 200, id="an event, sent again"),
        pytest.param(PATH, {"x_nector_topic": "lead_update"}, EVENT, 200, id="an event without a route"),
        pytest.param(PATH, {"connection": "close"}, EVENT, 200, id="the last of its connection"),
        pytest.param(PATH, {"x_nector_webhook_secret": "no"}, EVENT, 401, id="another secret"),
        pytest.param(PATH, {"content_type": "text/plain"}, EVENT, 415, id="another media type"),
        pytest.param(PATH, {"x_nector_topic": None}, EVENT, 422, id="no topic"),
        pytest.param(PATH, {}, b"{", 400, id="no JSON"),
        pytest.param(PATH, {}, b"", 400, id="no body"),
        pytest.param("/webhooks/nobody", {}, b"{}", 404, id="a provider that is none"),
        pytest.param("/webhooks/gallabox?x=1", {"x_gallabox_signature": "bm8="}, b"{}", 401, id="a receipt unsigned"),
    ],
)
async def test_a_whole_request_is_answered_as_one_in_parts_is(
    relay: Any, by_asgi: list[str], path: str, changes: dict[str, str | None], body: bytes, status: int
) -> None:
    head = write_head(body, path, **changes)
    if status == 200:
        await hear(relay, head + body)
    by_asgi.clear()
    whole, is_closed = await hear(relay, head + body)
    by_close = int("connection" in changes)  # no door is asked for what ends its connection
    assert len(by_asgi) == by_close
    assert await hear(relay, head[:20], head[20:], body[:5], body[5:]) == (whole, is_closed)
    assert len(by_asgi) == by_close + bool(body)  # the control
    assert whole.startswith(b"HTTP/1.1 %d " % status)
    assert is_closed is (b"connection: close" in whole)


async def test_requests_in_one_packet_are_answered_in_their_order(relay: Any) -> None:
    one, two = (write_head(EVENT, x_nector_delivery_id=id_) + EVENT for id_ in ("d-1", "d-2"))
    line = Line(relay)
    heard = await line.say(one + two + one)
    ids = [json.loads(body)["event_id"] for body in re.findall(rb"\{.*\}", heard)]
    assert (heard.count(b"HTTP/1.1 202"), heard.count(b"HTTP/1.1 200")) == (2, 1)
    assert (ids[0], len(set(ids)), line.wire.closed) == (ids[2], 2, False)


async def test_a_fault_of_ours_is_answered_logged_and_the_end_of_its_connection(
    relay: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr("app.relay.intake.plan_deliveries", fail)
    heard, is_closed = await hear(relay, write_head(EVENT) + EVENT)
    assert heard.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in heard
    assert b"canary" not in heard
    assert is_closed
    assert [record.message for record in caplog.records if record.name == "uvicorn.error"] == [
        "Exception in ASGI application\n"
    ]


def hold(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have every door wait for the event before it says what it would."""
    going = asyncio.Event()
    answer = Door.answer

    async def wait(self: Door, *given: Any) -> Any:
        answered = await answer(self, *given)
        await going.wait()
        return answered

    monkeypatch.setattr(Door, "answer", wait)
    return going


async def start(relay: Any) -> Line:
    line = Line(relay)
    line.connection.data_received(write_head(EVENT) + EVENT)
    for _ in range(3):
        await asyncio.sleep(0)
    return line


async def test_whoever_is_gone_is_not_answered(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    going = hold(monkeypatch)
    line = await start(relay)
    line.wire.close()
    await asyncio.sleep(0)
    going.set()
    assert await line.say() == b""


async def test_the_answer_of_a_relay_that_stops_is_the_last(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    going = hold(monkeypatch)
    line = await start(relay)
    line.connection.shutdown()
    assert not line.wire.closed
    going.set()
    assert b"\r\nconnection: close\r\n" in await line.say()
    assert line.wire.closed


async def test_a_client_that_reads_slowly_is_waited_for(relay: Any) -> None:
    line = Line(relay)
    line.connection.pause_writing()
    line.connection.data_received(write_head(EVENT) + EVENT)
    _, waiting = await asyncio.wait(line.state.tasks, timeout=0.5)
    assert waiting
    assert not line.wire.heard
    line.connection.resume_writing()
    assert (await line.say()).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("change", [lambda head: head.replace(b"/nector", b"/%6eector"), lambda head: head])
async def test_an_unusual_url_takes_the_usual_way(
    relay: Any, by_asgi: list[str], change: Callable[[bytes], bytes]
) -> None:
    head = change(write_head(EVENT))
    heard, _ = await hear(relay, head + EVENT)
    assert heard.startswith(b"HTTP/1.1 202 ")
    assert len(by_asgi) == int(b"%" in head)


async def test_what_a_relay_that_stops_has_half_of_is_refused(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a crowd nobody is asked to answer what has hardly begun."""
    monkeypatch.setattr(Gate, "is_crowded", lambda _: True)
    line = Line(relay)
    line.connection.data_received(write_head(EVENT) + EVENT[:5])
    line.connection.shutdown()
    assert (await line.say()).startswith(b"HTTP/1.1 503 ")
