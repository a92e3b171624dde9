"""httpx's API over aiohttp's sockets: the same client, at a sixth of the processor time.

httpx2's own transport spends 850 µs of a request in its pool and parser, aiohttp 150 (docs/decisions). What
must not get lost on the way is the difference between *never left* and *perhaps arrived*: aiohttp says when it
has a connection, and from then on a byte may have left.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2
from aiohttp.tracing import Trace
from yarl import URL

Watch = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""httpcore's trace extension: called with an event's name and its details."""
_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
"""The one of the request that is under way; aiohttp's own trace configuration costs 15 µs a request."""

WRITING = "http11.send_request_headers.started"
# aiohttp writes these itself.
_OWN_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
# Of one line of an answer: beyond aiohttp's 8190, which one long cookie or policy passes.
_MAX_HEADER_BYTES = 65_536
_SKIPPED = ("User-Agent", "Content-Type", "Accept", "Accept-Encoding")

# The first that fits; https://docs.aiohttp.org/en/stable/client_reference.html#hierarchy-of-exceptions
_ANSWER_ERRORS = aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError
_TRANSLATIONS: tuple[tuple[Any, type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (_ANSWER_ERRORS, httpx2.RemoteProtocolError),
    (aiohttp.ClientError | OSError, httpx2.ReadError),
    (ValueError, httpx2.LocalProtocolError),  # aiohttp refuses to put our request into bytes
)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Carries httpx2's requests; opens its connections in the loop of the first one.

    No redirect, cookie, decompression or retry of its own, and no proxy but `proxy`. Calls the request's `trace`
    extension with httpcore's name for "the first byte leaves now"; what that raises ends the request before it does.
    """

    def __init__(
        self, *, concurrency: int, keepalive_s: float, trust: ssl.SSLContext | None, proxy: str | None = None
    ) -> None:
        self._proxy = proxy
        ssl_ = True if trust is None else trust
        self._pool: dict[str, Any] = {"limit": concurrency, "keepalive_timeout": keepalive_s, "ssl": ssl_}
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2.AsyncBaseTransport; raises httpx2.TransportError."""
        limits = request.extensions.get("timeout", {})
        _WATCH.set(request.extensions.get("trace"))
        # A server may just have closed an idle connection. After two turns of the loop that has been seen, and
        # the request is not lost in the dark on it.
        for _ in range(2):
            await asyncio.sleep(0)
        try:
            answer = await self._open_session().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[
                    (name.decode(), value.decode())
                    for name, value in request.headers.raw
                    if name.lower() not in _OWN_HEADERS
                ],
                data=await request.aread(),
                allow_redirects=False,
                proxy=self._proxy,
                skip_auto_headers=_SKIPPED,
                timeout=_bound_time(limits.get("pool"), limits.get("connect"), limits.get("read")),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translate(error, request) from error
        return httpx2.Response(answer.status, headers=list(answer.raw_headers), stream=_Body(answer, request))

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(**self._pool),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_field_size=_MAX_HEADER_BYTES,
                trust_env=False,
            )
        return self._session


@lru_cache(maxsize=8)
def _bound_time(connect_s: float | None, sock_connect_s: float | None, read_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=connect_s, sock_connect=sock_connect_s, sock_read=read_s)


class _Connector(aiohttp.TCPConnector):
    """Says when a request has its connection, new or used before, and closes it where that ends the request.

    A trace configuration of aiohttp's would lose the connection, still open, where it raises.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's signature
    ) -> aiohttp.connector.Connection:
        """See aiohttp.BaseConnector."""
        connection = await super().connect(req, traces, timeout)
        watch = _WATCH.get()
        try:
            if watch is not None:
                await watch(WRITING, {})
        except BaseException:
            connection.close()
            raise
        return connection


class _Body(httpx2.AsyncByteStream):
    """An answer's body as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._answer.content.iter_any():
                yield part
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(error, self._request) from error

    async def aclose(self) -> None:
        """Give the connection back."""
        # One whose answer was read to its end goes to the pool, any other is closed.
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


def _translate(error: Exception, request: httpx2.Request) -> httpx2.TransportError:
    kind = next(theirs for ours, theirs in _TRANSLATIONS if isinstance(error, ours))
    return kind(str(error), request=request)
