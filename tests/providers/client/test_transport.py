"""What our transport promises to the client: when the first byte leaves, and what each break is called."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import respx

from app.model.delivery import Outcome, Reason, Retryable, Uncertain
from app.model.message import Message
from app.providers.base import Provider
from app.providers.client import ProviderClient
from app.providers.exchange import Answer, Connection
from app.providers.transport import TURNS, WRITING, Deadlines, SocketTransport, _end

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TIMED_OUT = Uncertain(Reason.TIMED_OUT)
LOST = Uncertain(Reason.CONNECTION_LOST)
NOT_SENT = Retryable(Reason.CONNECT_FAILED)


@dataclass
class Far:
    """The other end: what it was sent, byte for byte, and how many connections it has open."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    read: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def serving(
    raw: bytes | None = OK, *, tls: ssl.SSLContext | None = None, close: bool = False, wait: bool = False
) -> AsyncIterator[Far]:
    """Answer every request with `raw` (None: never), then close; `wait` first for `go_on`."""
    far = Far()

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far.connections += 1
        far.open_now += 1
        far.writers.append(writer)
        try:
            while head := await read_request(far, reader):
                far.heads.append(head)
                if wait:
                    await far.go_on.wait()
                writer.write(raw if raw is not None else b"")
                if close:
                    break
        except OSError:
            pass  # the client broke off: a test's business, not ours
        finally:
            far.open_now -= 1
            writer.close()

    listener = await asyncio.start_server(serve_connection, "127.0.0.1", 0, ssl=tls)
    far.url = f"http{'s' if tls else ''}://localhost:{listener.sockets[0].getsockname()[1]}/"
    yield far
    listener.close()
    for writer in far.writers:
        writer.transport.abort()
    await until(lambda: far.open_now == 0)


async def read_request(far: Far, reader: asyncio.StreamReader) -> bytes:
    """Return one request's head, b"" at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = await reader.readline()
        far.read += len(part)
        if not part:
            return b""
        head += part
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(sum(lengths))
    return head


async def until(holds: Callable[[], bool]) -> None:
    """Wait till the other end has seen it, too."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


@asynccontextmanager
async def calling(concurrency: int = 4, trust: ssl.SSLContext | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    transport = SocketTransport(concurrency=concurrency, keepalive_s=5, trust=trust)
    async with httpx2.AsyncClient(transport=transport, timeout=10, trust_env=False) as client:
        yield client


async def post(client: httpx2.AsyncClient, url: str, trace: Any = None, **options: Any) -> httpx2.Response:
    extensions = {} if trace is None else {"trace": trace}
    if (timeout := options.pop("timeout", None)) is not None:
        extensions["timeout"] = httpx2.Timeout(10, **timeout).as_dict()
    return await client.post(url, content=b"{}", extensions=extensions, **options)


async def test_writing_is_said_before_the_first_byte_on_a_new_and_on_a_used_connection() -> None:
    said: list[tuple[str, int, int]] = []
    async with serving() as far, calling() as client:

        async def watch(event: str, _info: Mapping[str, Any]) -> None:
            await until(lambda: far.connections == 1)
            for _ in range(20):  # time for a byte to come, if one had left
                await asyncio.sleep(0)
            said.append((event, far.connections, far.read - before))

        for _ in range(2):
            before = far.read
            assert (await post(client, far.url, watch)).text == "ok"
            assert far.read > before
        assert (far.connections, len(far.heads)) == (1, 2)
    assert said == [(WRITING, 1, 0), (WRITING, 1, 0)]


async def test_writing_is_not_said_where_connecting_fails(closed_port: int) -> None:
    said = []

    async def watch(event: str, _info: Mapping[str, Any]) -> None:
        said.append(event)

    async with calling() as client:
        with pytest.raises(httpx2.ConnectError):
            await post(client, f"http://127.0.0.1:{closed_port}/", watch)
    assert said == []


@pytest.mark.parametrize("used_before", [False, True], ids=["new", "used"])
async def test_what_the_trace_raises_ends_the_request_unsent_and_closes_the_connection(*, used_before: bool) -> None:
    class TooLateError(Exception):
        pass

    async def refuse(_event: str, _info: Mapping[str, Any]) -> None:
        raise TooLateError

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        # a place for one alone: what is not given back would block the request that follows
        async with serving() as far, calling(concurrency=1) as client:
            if used_before:
                await post(client, far.url)
            before = far.read
            with pytest.raises(TooLateError):
                await post(client, far.url, refuse)
            await until(lambda: far.connections == 1 and far.open_now == 0)
            assert far.read == before
            assert (await post(client, far.url)).text == "ok"
            assert far.connections == 2
        gc.collect()


@pytest.mark.parametrize(
    ("raw", "close", "limits", "kind"),
    [
        pytest.param(None, False, {"read": 0.05}, httpx2.ReadTimeout, id="silence"),
        pytest.param(b"", True, {}, httpx2.RemoteProtocolError, id="closed without an answer"),
        pytest.param(OK[:12], True, {}, httpx2.RemoteProtocolError, id="closed in the head"),
        pytest.param(OK[:-1], True, {}, httpx2.RemoteProtocolError, id="closed in the body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            True,
            {},
            httpx2.RemoteProtocolError,
            id="closed between chunks",
        ),
        pytest.param(b"220 smtp.example\r\n\r\n", False, {}, httpx2.RemoteProtocolError, id="not HTTP"),
        pytest.param(
            OK.replace(b"\r\n\r\n", b"\r\nx-long: " + b"x" * 65_600 + b"\r\n\r\n"),
            False,
            {},
            httpx2.RemoteProtocolError,
            id="a header line over 64 KiB",
        ),
    ],
)
async def test_a_broken_answer_is_called_by_its_name(
    raw: bytes | None, *, close: bool, limits: dict[str, float], kind: type[Exception]
) -> None:
    async with serving(raw, close=close) as far, calling() as client:
        with pytest.raises(httpx2.TransportError) as caught:
            await post(client, far.url, timeout=limits)
        assert type(caught.value) is kind
        assert isinstance(caught.value.request, httpx2.Request)
        assert len(far.heads) == 1


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n\r\nok", close=True) as far, calling() as client:
        for _ in range(2):
            assert (await post(client, far.url)).text == "ok"
        assert far.connections == 2


async def test_a_connection_that_was_switched_to_another_protocol_is_not_used_again() -> None:
    switched = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nx speaks"
    async with serving(switched) as far, calling() as client:
        for _ in range(2):
            answer = await post(client, far.url)
            assert (answer.status_code, answer.content) == (101, b"")
        assert far.connections == 2


OTHER = OK.replace(b"200 OK", b"500 No").replace(b"ok", b"no")


@pytest.mark.parametrize("more", [OTHER, b"no answer", b"H"], ids=["another answer", "no answer", "one letter"])
async def test_what_follows_an_answer_is_taken_neither_for_it_nor_for_the_next(more: bytes) -> None:
    async with serving(OK + more) as far, calling() as client:
        for _ in range(2):
            answer = await post(client, far.url)
            assert (answer.status_code, answer.text) == (200, "ok")
        assert far.connections == 2


async def test_control_whoever_reads_on_takes_the_second_answer_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Connection, "on_message_begin")
    async with serving(OK + OTHER) as far, calling() as client:
        assert (await post(client, far.url)).status_code == 500


async def test_a_connection_on_which_something_comes_unasked_is_closed() -> None:
    async with serving() as far, calling() as client:
        await post(client, far.url)
        far.writers[0].write(OTHER)
        await until(lambda: far.open_now == 0)
        assert (await post(client, far.url)).text == "ok"
        assert far.connections == 2


async def test_an_answer_with_a_header_line_of_60_kb_is_read() -> None:
    async with (
        serving(OK.replace(b"\r\n\r\n", b"\r\nx-long: " + b"x" * 60_000 + b"\r\n\r\n")) as far,
        calling() as client,
    ):
        assert len((await post(client, far.url)).headers["x-long"]) == 60_000


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(111, "x"), httpx2.ConnectError),
        (ssl.SSLError("x"), httpx2.ConnectError),
        (socket.gaierror(-2, "x"), httpx2.ConnectError),
        (UnicodeError("x"), httpx2.ConnectError),  # a name that IDNA cannot write
        (TimeoutError(110, "x"), httpx2.ConnectTimeout),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_error_of_connecting_has_a_name_of_httpxs(
    error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_host: str, _port: int) -> None:
        raise error

    monkeypatch.setattr("app.providers.transport._open_socket", fail)
    async with calling() as client:
        with pytest.raises(httpx2.TransportError) as caught:
            await post(client, "http://127.0.0.1/")
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Return every socket that the transport makes, but for those of the other end."""
    made: list[socket.socket] = []

    class Watched(socket.socket):
        def __init__(self, *how: Any, **more: Any) -> None:
            super().__init__(*how, **more)
            made.append(self)

    monkeypatch.setattr("app.providers.transport.socket", SimpleNamespace(**{**vars(socket), "socket": Watched}))
    return made


@pytest.mark.parametrize("turns", range(14))
async def test_whoever_gives_up_connecting_at_any_moment_leaves_no_socket_open(
    turns: int, made: list[socket.socket]
) -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as listener:  # which never accepts, and the kernel connects all the same
        async with calling() as client:
            sending = asyncio.create_task(post(client, f"http://127.0.0.1:{listener.getsockname()[1]}/"))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    for _ in range(3):
        await asyncio.sleep(0)
    assert [each.fileno() for each in made if each.fileno() != -1] == []


async def test_a_socket_that_is_won_just_as_its_wait_is_given_up_is_closed(
    made: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def win_and_give_up(tries: Sequence[Callable[[], Awaitable[Any]]], _delay: float) -> None:
        await tries[0]()
        raise asyncio.CancelledError

    monkeypatch.setattr("app.providers.transport.staggered_race", win_and_give_up)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with calling() as client:
            with pytest.raises(asyncio.CancelledError):
                await post(client, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert [each.fileno() for each in made] == [-1]


@pytest.mark.parametrize("has_come", [True, False])
async def test_when_the_time_runs_out_an_answer_that_lies_in_the_socket_counts(*, has_come: bool) -> None:
    loop = asyncio.get_running_loop()
    coming: asyncio.Future[bytes] = loop.create_future()
    _end(coming)
    if has_come:
        loop.call_soon(coming.set_result, OK)  # what reads it is behind the timer
    else:
        with pytest.raises(httpx2.ReadTimeout):
            await coming
    for _ in range(TURNS + 1):
        await asyncio.sleep(0)
    assert not has_come or coming.result() == OK


async def test_a_reset_is_a_read_error() -> None:
    async with serving(b"", wait=True) as far, calling() as client:
        sending = asyncio.create_task(post(client, far.url))
        await until(lambda: len(far.heads) == 1)
        far.writers[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.writers[0].transport.abort()
        far.go_on.set()
        with pytest.raises(httpx2.ReadError):
            await sending


async def test_a_handshake_that_hangs_is_a_connect_timeout() -> None:
    async with serving(None) as far, calling() as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await post(client, far.url.replace("http:", "https:"), timeout={"connect": 0.05})
        assert far.heads == []


@pytest.mark.parametrize("headers", [{"x-bad": "a\nb: c"}, {"x-bad": "a\rb"}], ids=["line feed", "return"])
async def test_a_header_that_would_be_two_is_not_written(headers: dict[str, str]) -> None:
    async with serving() as far, calling() as client:
        with pytest.raises(httpx2.LocalProtocolError):
            await post(client, far.url, headers=headers)
        await until(lambda: far.open_now == 0)
        assert far.read == 0


async def test_every_header_goes_out_exactly_once() -> None:
    given = {"content-type": "application/vnd.test+json", "authorization": "Bearer x", "user-agent": "relay"}
    async with serving() as far, calling() as client:
        await post(client, far.url, headers=given)
    (head,) = far.heads
    first, *lines = head.decode().split("\r\n")[:-2]
    headers = [tuple(line.split(": ", 1)) for line in lines]
    names = sorted(name.lower() for name, *_ in headers)
    assert first == "POST / HTTP/1.1"
    assert names == sorted({*given, "host", "content-length", "accept", "accept-encoding"})
    assert {name.lower(): value for name, value in headers}.items() >= {**given, "content-length": "2"}.items()


async def test_no_cookie_is_kept_no_redirect_followed_and_no_proxy_asked(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\nset-cookie: a=1; path=/\r\ncontent-length: 0\r\n\r\n"
    transport = SocketTransport(concurrency=1, keepalive_s=5, trust=None)
    async with serving(moved) as far:
        for _ in range(2):  # without a client of httpx's, whose own care would hide ours
            request = httpx2.Request("POST", far.url, content=b"{}")
            answer = await transport.handle_async_request(request)
            assert (answer.status_code, await answer.aread()) == (307, b"")
        await transport.aclose()
        assert [head.split(b" ")[1] for head in far.heads] == [b"/", b"/"]
        assert not [head for head in far.heads if b"cookie" in head.lower()]


async def test_a_packed_answer_is_handed_on_as_it_came() -> None:
    packed = gzip.compress(b"ok")
    raw = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode() + packed
    async with serving(raw) as far, calling() as client:
        extensions: dict[str, Any] = {"timeout": {}}
        async with client.stream("POST", far.url, content=b"{}", extensions=extensions) as answer:
            assert b"".join([part async for part in answer.aiter_raw()]) == packed


async def lose_idle_connection(client: httpx2.AsyncClient, far: Far) -> httpx2.Response:
    """Post where the other end has closed, and this end's loop has not yet had a turn to see it."""
    await post(client, far.url)
    (writer,) = far.writers
    writer.transport.abort()
    await asyncio.sleep(0)  # the abort itself takes one turn
    return await post(client, far.url)


async def test_an_idle_connection_that_was_closed_is_not_used() -> None:
    async with serving() as far, calling() as client:
        assert (await lose_idle_connection(client, far)).text == "ok"
        assert (far.connections, len(far.heads)) == (2, 2)


@pytest.mark.parametrize(("keepalive_s", "connections"), [(5, 1), (0.05, 2)])
async def test_an_idle_connection_is_closed_after_a_while(keepalive_s: float, connections: int) -> None:
    transport = SocketTransport(concurrency=1, keepalive_s=keepalive_s, trust=None)
    async with serving() as far, httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        for _ in range(2):
            await post(client, far.url)
            await asyncio.sleep(0.2)
        assert (far.connections, len(far.heads)) == (connections, 2)


class Timers:
    """A loop's timers, by when they are due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.set: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.set.append(Timer(when, call))
        return self.set[-1]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        while due := [timer for timer in self.set if not timer.cancelled and timer.at <= self.now]:
            due[0].cancelled = True
            due[0].call()


@dataclass
class Timer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    timers = Timers()
    monkeypatch.setattr("app.providers.transport.asyncio.get_running_loop", lambda: timers)
    return timers


def test_what_is_there_at_its_instant_is_ended_and_what_was_taken_back_is_not(timers: Timers) -> None:
    ended: list[object] = []
    deadlines = Deadlines(ended.append)
    for name, at in (("a", 110.0), ("b", 105.0), ("c", 120.0), ("d", 110.0)):
        deadlines.add(name, at)
    deadlines.remove("d")
    deadlines.remove("never added")
    seen = []
    for _ in range(5):
        timers.pass_time(5)
        seen.append("".join(map(str, ended)))
    assert seen == ["b", "ba", "ba", "bac", "bac"]


def test_one_timer_stands_for_all(timers: Timers) -> None:
    ended: list[object] = []
    deadlines = Deadlines(ended.append)
    for number in range(1_000):
        deadlines.add(number, 110 + number / 1_000)
        deadlines.remove(number)
    assert [timer.at for timer in timers.set] == [110]
    timers.pass_time(60)
    assert (ended, len(timers.set)) == ([], 1)  # with nothing to end there is none
    deadlines.add("last", 161)
    timers.pass_time(1)
    assert ended == ["last"]


async def test_an_answer_becomes_httpx2s_once_more_of_it_is_asked_for() -> None:
    answer = Answer(200, [(b"content-type", b"text/plain")], b"taken")
    assert (answer.status_code, answer.body, set(vars(answer))) == (200, b"taken", {"status_code", "lines", "body"})
    assert (await answer.aread(), answer.text, answer.headers["Content-Type"]) == (b"taken", "taken", "text/plain")
    with pytest.raises(AttributeError, match="nothing"):
        _ = answer.nothing


async def pass_none(_loop: asyncio.AbstractEventLoop) -> None:
    """Wait for no turn of the loop."""


async def test_control_without_the_two_turns_of_the_loop_the_request_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as far, calling() as client:
        monkeypatch.setattr("app.providers.transport._pass_turns", pass_none)
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await lose_idle_connection(client, far)
        assert (far.connections, len(far.heads)) == (1, 1)


async def test_one_more_than_the_limit_waits_for_a_place() -> None:
    async with serving(wait=True) as far, calling(concurrency=2) as client:
        posts = [asyncio.create_task(post(client, far.url)) for _ in range(3)]
        await until(lambda: len(far.heads) == 2)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (far.connections, len(far.heads)) == (2, 2)
        far.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
        assert (far.connections, len(far.heads)) == (2, 3)


async def test_waiting_too_long_for_a_place_is_a_timeout_before_sending() -> None:
    async with serving(wait=True) as far, calling(concurrency=1) as client:
        first = asyncio.create_task(post(client, far.url))
        await until(lambda: len(far.heads) == 1)
        with pytest.raises(httpx2.PoolTimeout):
            await post(client, far.url, timeout={"pool": 0.05})
        far.go_on.set()
        await first
        assert len(far.heads) == 1


@pytest.mark.parametrize("handed_over", [False, True], ids=["still waiting", "just handed over"])
async def test_a_place_that_nobody_waits_for_any_more_is_the_next_ones(*, handed_over: bool) -> None:
    transport = SocketTransport(concurrency=0, keepalive_s=1, trust=None)
    waiting = asyncio.create_task(transport._wait_for_place(None))
    await asyncio.sleep(0)
    steps: list[Callable[[], Any]] = [transport._leave_place, waiting.cancel]
    for step in steps if handed_over else reversed(steps):
        step()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert transport._places == 1


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 200_000, id="a head without an end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nZ\r\n", id="too long, and broken"
        ),
    ],
)
async def test_an_answer_that_is_two_kinds_of_wrong_ends_once(raw: bytes) -> None:
    transport = SocketTransport(concurrency=1, keepalive_s=1, trust=None)
    async with serving(raw) as far:
        request = httpx2.Request("POST", far.url, content=b"{}", extensions={"longest": 2})
        with pytest.raises(httpx2.RemoteProtocolError):
            await transport.handle_async_request(request)
        await transport.aclose()


async def test_an_answer_left_half_read_costs_its_connection_and_one_read_to_the_end_does_not() -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 9_000_000
    for raw, connections in ((OK, 1), (long, 2)):
        async with serving(raw) as far, calling(concurrency=1) as client:
            for _ in range(2):
                async with client.stream("POST", far.url, content=b"{}") as answer:
                    await anext(answer.aiter_raw())
            assert far.connections == connections


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that nobody signed but itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return made, key


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_a_connect_error(
    certificate: tuple[Path, Path], build_account: Callable[..., Provider], message: Message
) -> None:
    async with serving(tls=server_context(certificate)) as far:
        for trust in (None, ssl.create_default_context()):
            async with calling(trust=trust) as client:
                with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await post(client, far.url)
        client_of_ours = ProviderClient(timeout_ms=10_000, concurrency=1, draw=lambda: 0.0)
        sent = await client_of_ours.send(build_account("gallabox", base_url=far.url.rstrip("/")), message, "d-1")
        await client_of_ours.close()
        assert sent.outcome == Retryable(
            Reason.CONNECT_FAILED, detail="the provider's TLS certificate cannot be verified"
        )
        assert (sent.tries, far.heads) == (3, [])


async def test_a_certificate_that_is_trusted_is_spoken_to(certificate: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    async with serving(tls=server_context(certificate)) as far, calling(trust=trust) as client:
        assert (await post(client, far.url)).text == "ok"
        with pytest.raises(httpx2.ConnectError):  # the same end under a name that it does not have
            await post(client, far.url.replace("localhost", "127.0.0.1"))
        assert len(far.heads) == 1


async def test_a_transport_that_was_never_used_can_be_closed() -> None:
    await SocketTransport(concurrency=1, keepalive_s=1, trust=None).aclose()


@pytest.mark.parametrize(
    ("error", "outcome", "tries"),
    [
        (httpx2.ConnectError("x"), NOT_SENT, 3),
        (httpx2.ConnectTimeout("x"), NOT_SENT, 3),
        (httpx2.PoolTimeout("x"), NOT_SENT, 3),
        (httpx2.UnsupportedProtocol("x"), NOT_SENT, 3),
        (httpx2.LocalProtocolError("x"), NOT_SENT, 3),
        (httpx2.ReadTimeout("x"), TIMED_OUT, 1),
        (httpx2.WriteTimeout("x"), TIMED_OUT, 1),
        (httpx2.WriteError("x"), LOST, 1),
        (httpx2.ReadError("x"), LOST, 1),
        (httpx2.CloseError("x"), LOST, 1),
        (httpx2.ProxyError("x"), LOST, 1),
        (httpx2.RemoteProtocolError("x"), LOST, 1),
        (httpx2.DecodingError("x"), LOST, 1),
        (httpx2.TooManyRedirects("x"), LOST, 1),
        (RuntimeError("x"), LOST, 1),
        (OSError("x"), LOST, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_what_sockets_cannot_provoke_has_its_outcome_too(
    httpx2_mock: respx.Router,
    without_detail: Callable[[Outcome], Outcome],
    open_client: Callable[..., ProviderClient],
    build_account: Callable[..., Provider],
    message: Message,
    error: Exception,
    outcome: Outcome,
    tries: int,
) -> None:
    route = httpx2_mock.post("https://x.example/devapi/messages/whatsapp").mock(side_effect=error)
    # respx stands in for httpcore's pool and reports no trace: only the kind of error tells
    client = open_client(transport=httpx2.AsyncHTTPTransport(trust_env=False), traced=False)
    sent = await client.send(build_account("gallabox", base_url="https://x.example"), message, "d-1")
    assert (without_detail(sent.outcome), sent.tries, route.call_count) == (outcome, tries, tries)
