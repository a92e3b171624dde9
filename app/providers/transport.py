"""httpx2's API over sockets of our own: the same objects, at a thirtieth of the processor time.

httpx2's own transport spends 850 µs of a request in its pool and parser (docs/decisions). This one has what a request
to a provider needs and nothing else: no redirect, cookie, decompression or retry. What must not get lost is the
difference between *never left* and *perhaps arrived*: the `trace` extension is told just before the first byte leaves.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.staggered import staggered_race
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

import httpx2

from app.providers.exchange import PORTS, Answer, Connection, frame, prove, write_head

WRITING = "http11.send_request_headers.started"
"""httpcore's name for "the first byte leaves now"; what the extension raises then ends the request before it does."""
_MAX_BODY = 4 * 1024 * 1024  # where the extension `longest` asks for no other
TURNS = 20  # of the loop: an answer is read in a few, whatever else lies there
_TICK_S = 0.001  # of the loop's clock
_NEXT_ADDRESS_S = 0.25  # https://www.rfc-editor.org/rfc/rfc8305#section-5


class Repeated(httpx2.Request):
    """A request that differs from the first of its kind in the body only.

    What is the same is made once: httpx2's objects, which copy and normalise what they are given, and the bytes of the
    head. That takes a tenth of a `Request` and of writing it.
    """

    def __init__(self, first: httpx2.Request, body: bytes, extensions: dict[str, Any]) -> None:
        self.method, self.url, self.headers = first.method, first.url, first.headers
        self.extensions = extensions
        self.stream = httpx2.ByteStream(body)
        self.first, self.body = first, body


class SocketTransport(httpx2.AsyncBaseTransport):
    """Carries httpx2's requests, at most `concurrency` at a time; an idle connection is kept for `keepalive_s`.

    `trust`: whom TLS trusts; None is the system's. `proxy`: the URL of one that stands in between; no other is asked.
    The timeout `read` bounds a request as a whole, from its beginning to the last byte of its answer.
    """

    def __init__(
        self, *, concurrency: int, keepalive_s: float, trust: ssl.SSLContext | None, proxy: str | None = None
    ) -> None:
        self._places = concurrency
        self._waiting: deque[asyncio.Future[None]] = deque()  # for a place, which whoever leaves hands on
        self._keepalive_s = keepalive_s
        self._trust = trust
        self._proxy = None if proxy is None else httpx2.URL(proxy)
        self._open: set[Connection] = set()
        self._idle: defaultdict[bytes, list[Connection]] = defaultdict(list)  # by origin
        self._late, self._stale = Deadlines(_end), Deadlines(self._drop)  # of answers, and of what is idle
        self._loop: asyncio.AbstractEventLoop | None = None  # to ask which one it is takes a system call
        self._last: tuple[httpx2.Request | None, bytes, bytes] = (None, b"", b"")  # of a `Repeated`: origin and head

    async def handle_async_request(self, request: httpx2.Request) -> Answer:
        """Return the whole answer, see httpx2.AsyncBaseTransport; raises httpx2.TransportError."""
        extensions = request.extensions
        limits = extensions.get("timeout", {})
        read_s = limits.get("read")
        loop = self._loop = self._loop or asyncio.get_running_loop()
        until = None if read_s is None else loop.time() + read_s
        try:
            origin, data = self._write(request)
            await _pass_turns(loop)
            if self._places:
                self._places -= 1
            else:
                await self._wait_for_place(limits.get("pool"))
            try:
                connection = self._take_idle(origin) or await self._connect(request.url, limits.get("connect"))
                coming = None
                try:
                    if (watch := extensions.get("trace")) and (watched := watch(WRITING, {})):
                        await watched
                    longest = extensions.get("longest", _MAX_BODY)
                    coming = connection.ask(data, longest, has_body=request.method != "HEAD")
                    if until is not None:
                        self._late.add(coming, until)
                    body = await coming
                except BaseException:
                    self._drop(connection)
                    raise
                finally:
                    self._late.remove(coming)
                self._give_back(connection, origin, loop.time())
                return Answer(connection.status, connection.lines, body)
            finally:
                self._leave_place()
        except httpx2.TransportError as error:
            error.request = request
            raise

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self._open:
            connection.transport.abort()
        self._open.clear()
        await asyncio.sleep(0)  # the loop closes them in its next turn

    def _write(self, request: httpx2.Request) -> tuple[bytes, bytes]:
        """Return a request's origin, and the request as it travels; raises as `write_head` does."""
        if not isinstance(request, Repeated):
            stream = request.stream
            body = b"".join(stream) if isinstance(stream, httpx2.ByteStream) else request.read()
            return _name_origin(request.url), frame(write_head(request, self._proxy), request.method, body)
        if request.first is not self._last[0]:
            self._last = request.first, _name_origin(request.url), write_head(request, self._proxy)
        _, origin, head = self._last
        return origin, frame(head, request.method, request.body)

    async def _wait_for_place(self, within_s: float | None) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(within_s):
                await place
        except BaseException as error:
            if not place.cancelled():  # it was handed over in this very moment
                self._leave_place()
            if isinstance(error, TimeoutError):
                raise httpx2.PoolTimeout("no connection was free in time") from None
            raise

    def _leave_place(self) -> None:
        while self._waiting:
            if not (place := self._waiting.popleft()).done():
                place.set_result(None)
                return
        self._places += 1

    def _take_idle(self, origin: bytes) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            self._stale.remove(connection)
            if connection.reusable and not connection.transport.is_closing():
                return connection
            self._drop(connection)
        return None

    def _give_back(self, connection: Connection, origin: bytes, now: float) -> None:
        """Keep a connection for the next request if it can carry one."""
        if connection.whole and connection.reusable and not connection.transport.get_write_buffer_size():
            self._stale.add(connection, now + self._keepalive_s)
            self._idle[origin].append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.reusable = False
        connection.transport.abort()

    async def _connect(self, url: httpx2.URL, within_s: float | None) -> Connection:
        try:
            async with asyncio.timeout(within_s):
                connection = await self._dial(url)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time") from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(str(error)) from error
        self._open.add(connection)
        return connection

    async def _dial(self, url: httpx2.URL) -> Connection:
        near, loop = self._proxy or url, asyncio.get_running_loop()
        host, trust = near.raw_host.decode("ascii"), self._find_trust() if near.scheme == "https" else None
        opened = await _open_socket(host, near.port or PORTS[near.scheme])
        name = host if trust else None
        _, connection = await loop.create_connection(Connection, sock=opened, ssl=trust, server_hostname=name)
        return connection if self._proxy is None or url.scheme == "http" else await self._dig(connection, url)

    async def _dig(self, connection: Connection, url: httpx2.URL) -> Connection:
        """Return a connection through the proxy at the end of this one."""
        at = url.netloc if url.port else url.netloc + b":443"
        proof = [] if self._proxy is None else prove(self._proxy)
        head = b"\r\n".join([b"CONNECT %s HTTP/1.1" % at, b"host: " + at, *proof, b"", b""])
        try:
            await connection.ask(head, 0, has_body=False)
            if connection.status != 200:  # noqa: PLR2004  # the status itself is the clearest name
                raise httpx2.ProxyError(f"the proxy answered {connection.status}")  # noqa: TRY301
            inner, name = Connection(), url.raw_host.decode("ascii")
            start = asyncio.get_running_loop().start_tls
            inner.transport = await start(connection.transport, inner, self._find_trust(), server_hostname=name)
        except BaseException:
            connection.transport.abort()
            raise
        return inner

    def _find_trust(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust


class Deadlines:
    """Ends what is still there at its instant of the loop's time. One timer for all: to each its own takes 3 µs."""

    def __init__(self, end: Callable[[Any], object]) -> None:
        self._end = end
        self._until: dict[Any, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, what: object, until: float) -> None:
        """End this then."""
        self._until[what] = until
        if self._timer is None or until < self._timer.when():
            self._look_at(until)

    def remove(self, what: object) -> None:
        """End this no more."""
        self._until.pop(what, None)

    def _look_at(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(until, self._look)

    def _look(self) -> None:
        self._timer, now = None, asyncio.get_running_loop().time() + _TICK_S
        for what in [what for what, until in self._until.items() if until <= now]:
            self.remove(what)
            self._end(what)
        if self._until:
            self._look_at(min(self._until.values()))


def _pass_turns(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return what is done after two turns of the loop.

    A server may just have closed an idle connection. After these that has been seen, and the request is not lost in
    the dark on it. One future, since each `sleep(0)` wakes all that waits for the request, one behind the other.
    """
    turned: asyncio.Future[None] = loop.create_future()
    loop.call_soon(lambda: turned.cancelled() or turned.set_result(None))  # type: ignore[func-returns-value]
    return turned


def _end(coming: asyncio.Future[bytes], turns: int = TURNS) -> None:
    """End what takes too long, but not before the loop has read what lies in the sockets.

    A process that stood still (SIGSTOP, a VM that slept) finds its timers due first, and the answers behind them.
    """
    if turns:
        asyncio.get_running_loop().call_soon(_end, coming, turns - 1)
    elif not coming.done():  # it has come meanwhile
        coming.set_exception(httpx2.ReadTimeout("no answer in time"))


def _name_origin(url: httpx2.URL) -> bytes:
    return url.raw_scheme + url.netloc


async def _open_socket(host: str, port: int) -> socket.socket:
    """Return a socket to the first of a host's addresses that answers; each has a quarter of a second's start."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    families = ([one for one in found if (one[0] == found[0][0]) is first] for first in (True, False))
    won: list[socket.socket] = []
    tries = [partial(_open_one, one, won) for pair in zip_longest(*families) for one in pair if one is not None]
    opened: socket.socket | None = None
    try:
        opened, _, errors = await staggered_race(tries, _NEXT_ADDRESS_S)
    finally:  # who gives up the wait just as a try succeeds never gets its socket
        for one in won:
            if one is not opened:
                one.close()
    if opened is None:
        raise next(error for error in errors if error is not None)
    return opened


async def _open_one(address: Any, won: list[socket.socket]) -> socket.socket:
    opened = socket.socket(*address[:3])
    try:
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, address[4])
    except BaseException:
        opened.close()
        raise
    won.append(opened)
    return opened
