"""How the client sends: in time, as built, side by side, and nothing of one answer in the next request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol

import httpx2
import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Uncertain
from app.model.message import Message
from app.providers.base import Provider, Request
from app.providers.client import ProviderClient
from tests.providers.client.whole import Whole


class Server(Protocol):
    """conftest.Server: what arrived at the provider's end."""

    port: int
    connections: int
    requests: list[bytes]
    sent: int
    arrived: asyncio.Event


Serve = Callable[[str], Awaitable[Server]]
OpenClient = Callable[..., ProviderClient]
Account = Callable[..., Provider]
Bare = Callable[[Outcome], Outcome]

ACCEPTED = Accepted("g-1")
TIMED_OUT = Uncertain(Reason.TIMED_OUT)
NOT_SENT = Retryable(Reason.CONNECT_FAILED)


async def test_no_byte_leaves_after_the_deadline(
    without_detail: Bare, serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("taken")
    client = open_client()
    sent = await client.send(account(server.port), message, "d-1", write_within_ms=0)
    assert (without_detail(sent.outcome), sent.tries) == (Retryable(Reason.DEADLINE_PASSED), 1)
    assert (server.connections, server.requests) == (1, [])
    # known-bad control: the same with time left does arrive
    assert (await client.send(account(server.port), message, "d-1", write_within_ms=10_000)).outcome == ACCEPTED


async def test_connections_are_kept_and_cookies_are_not(
    serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("taken, with a cookie")
    client = open_client()
    for _ in range(3):
        assert (await client.send(account(server.port), message, "d-1")).outcome == ACCEPTED
    assert (server.connections, len(server.requests)) == (1, 3)
    assert not [request for request in server.requests if b"cookie" in request.lower()]


async def test_connection_closed_while_idle_is_replaced(
    serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("taken, then closed")
    client = open_client()
    for _ in range(3):
        assert (await client.send(account(server.port), message, "d-1")).outcome == ACCEPTED
    assert len(server.requests) == 3


async def test_request_goes_out_as_built_and_asks_for_a_plain_answer(
    closed_port: int,
    serve: Serve,
    open_client: OpenClient,
    account: Callable[[int], Provider],
    message: Message,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    server = await serve("taken")
    assert (await open_client().send(account(server.port), message, "d-1")).outcome == ACCEPTED
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /devapi/messages/whatsapp HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("nector-relay/")
    assert headers["apikey"] == "key-canary-1"
    assert body == account(server.port).build_request(message, "d-1").body
    assert json.loads(body)["localMessageId"] == "d-1"


async def test_sends_run_side_by_side(
    serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("taken")
    client = open_client(timeout_ms=5_000)
    sends = [client.send(account(server.port), message, f"d-{number}") for number in range(40)]
    assert {sent.outcome for sent in await asyncio.gather(*sends)} == {ACCEPTED}
    assert server.connections <= 4
    assert len({json.loads(raw.partition(b"\r\n\r\n")[2])["localMessageId"] for raw in server.requests}) == 40


async def test_cancelling_a_send_ends_it(
    serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("accept and hang")
    task = asyncio.create_task(open_client(timeout_ms=10_000).send(account(server.port), message, "d-1"))
    await server.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_client_has_its_own_sleep_and_chance_where_none_is_given(
    without_detail: Bare, closed_port: int, account: Callable[[int], Provider], message: Message
) -> None:
    client = ProviderClient(timeout_ms=20, concurrency=1)
    sent = await client.send(account(closed_port), message, "d-1")
    await client.close()
    assert without_detail(sent.outcome) == NOT_SENT


async def test_a_list_may_be_longer_than_an_answer(serve: Serve, open_client: OpenClient) -> None:
    server = await serve("long list")
    request = Request("GET", f"http://127.0.0.1:{server.port}/", {}, b"")
    client = open_client()
    got = await client.fetch(request, max_bytes=200_000)
    assert got is not None
    assert (got.status, got.body) == (200, b"[" + b" " * 100_000 + b"]")
    cut = await client.fetch(request)
    assert cut is not None
    assert cut.body == b""


async def test_a_list_that_cannot_be_had_is_none(closed_port: int, open_client: OpenClient) -> None:
    assert await open_client().fetch(Request("GET", f"http://127.0.0.1:{closed_port}/", {}, b"")) is None


class Spans:
    """A tracer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @contextmanager
    def open_span(self, name: str, attributes: Mapping[str, Any], *, kind: str) -> Iterator[Spans]:
        self.told += [name, kind, dict(attributes)]
        yield self

    def note(self, attributes: Mapping[str, Any]) -> None:
        self.told.append(dict(attributes))

    def fail(self, kind: str) -> None:
        self.told.append(kind)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("taken", [{"http.response.status_code": 202}]),
        ("503", [{"http.response.status_code": 503}, "unavailable"]),
        ("close without an answer", ["connection_lost"]),
    ],
)
async def test_a_try_is_told_to_a_tracer_without_the_path(
    serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message, answer: str, told: Any
) -> None:
    server, spans = await serve(answer), Spans()
    await open_client(tracer=spans, name="gallabox").send(account(server.port), message, "d-1")
    asked = {"http.request.method": "POST", "server.address": "127.0.0.1", "relay.try": 1}
    assert spans.told == ["POST gallabox", "client", asked, *told]


async def test_a_url_that_nobody_can_read_is_told_to_a_tracer_without_a_host(
    open_client: OpenClient, message: Message
) -> None:
    spans = Spans()
    broken: Any = SimpleNamespace(build_request=lambda *_: Request("POST", "http://[::1", {}, b"{}"))
    await open_client(tracer=spans).send(broken, message, "d-1", tries=1)
    assert spans.told[2]["server.address"] == ""
    assert spans.told[3:] == ["connect_failed"]


@pytest.mark.parametrize(
    ("method", "expected", "requests"),
    [("build_request", Rejected(Reason.REQUEST_UNBUILT), 0), ("read_response", Uncertain(Reason.ANSWER_UNREADABLE), 1)],
)
async def test_a_bug_in_a_provider_is_the_end_of_one_message_and_tells_no_value(
    without_detail: Bare,
    serve: Serve,
    open_client: OpenClient,
    account: Callable[[int], Provider],
    message: Message,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    expected: Outcome,
    requests: int,
) -> None:
    server = await serve("taken")
    client, provider = open_client(), account(server.port)

    def fail(_self: Provider, *_given: object) -> None:
        raise LookupError(message.recipient)

    with monkeypatch.context() as patched:
        patched.setattr(type(provider), method, fail)
        sent = await client.send(provider, message, "d-1")
    assert (without_detail(sent.outcome), len(server.requests)) == (expected, requests)
    assert not isinstance(sent.outcome, Accepted)
    assert sent.outcome.detail.startswith("LookupError at test_sending.py:")
    assert (await client.send(provider, message, "d-2")).outcome == ACCEPTED  # the next one goes out


async def test_the_keys_of_the_first_few_answers_are_kept_and_none_of_their_values(
    build_account: Callable[..., Provider], message: Message
) -> None:
    body = b'{"data": {"ref": "Riya", "98000": 1}, "id": "m-1"}'
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(202, content=body))
    client = ProviderClient(timeout_ms=10_000, concurrency=1, transport=Whole(transport))
    shown = [list((await client.send(build_account("http"), message, "d-1")).keys) for _ in range(5)]
    await client.close()
    assert shown == [["data", "data.ref", "id"]] * 3 + [[]] * 2


async def test_a_provider_can_read_every_header_of_an_answer(open_client: OpenClient, message: Message) -> None:
    seen: list[Any] = []

    def read(response: Any) -> Accepted:
        seen.append((dict(response.headers), len(response.headers)))
        return ACCEPTED

    transport = httpx2.MockTransport(lambda _request: httpx2.Response(202, headers={"X-Id": "1"}))
    asking = Request("POST", "http://127.0.0.1/", {}, b"{}")
    provider: Any = SimpleNamespace(build_request=lambda *_: asking, read_response=read)
    await open_client(transport=transport).send(provider, message, "d-1")
    assert seen == [({"x-id": "1"}, 1)]
