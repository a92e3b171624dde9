"""One exchange on one connection: the bytes of a request, and what is read of its answer."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httptools
import httpx2

_MAX_HEAD = 65_536  # bytes of an answer's header lines
PORTS = {"http": 80, "https": 443}
_OWN_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_BODILESS = frozenset({"GET", "HEAD"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Answer(httpx2.Response):
    """A whole answer. `lines` are its headers; it becomes httpx2's when somebody asks for more than that: few do."""

    def __init__(self, status: int, lines: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code, self.lines, self.body = status, lines, body

    def __getattr__(self, name: str) -> Any:
        """Return what is not there yet."""
        if "stream" in self.__dict__:
            raise AttributeError(name)
        super().__init__(self.status_code, headers=self.lines, stream=httpx2.ByteStream(self.body))
        return getattr(self, name)


class Connection(asyncio.Protocol):
    """One connection: it writes a request and reads what is answered, one exchange at a time."""

    transport: Any  # asyncio.Transport, but for what start_tls is said to return

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reusable = self.whole = True  # what comes when an answer is whole was not asked for
        self._parser = httptools.HttpResponseParser(self)
        # What a sloppy server has taken must not count as perhaps taken.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_data_after_close=True)

    def ask(self, data: bytes, longest: int, *, has_body: bool = True) -> asyncio.Future[bytes]:
        """Write a request and return what becomes the body of its answer.

        Of one longer than `longest` it is a beginning that is longer, too.
        """
        self.lines: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._come = self._length = self.status = 0
        self.whole = False
        self._longest, self._has_body = longest, has_body
        self._waiter: asyncio.Future[bytes] = self._loop.create_future()
        self.transport.write(data)
        return self._waiter

    def _tell(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(b"".join(self._parts))

    def _break(self, error: httpx2.TransportError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        self.reusable = False
        if not self._waiter.done():
            self._waiter.set_exception(error)

    # -- what asyncio calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what has come; what nobody asked for ends the connection."""
        if self.whole:
            self.reusable = False
            self.transport.abort()
            return
        self._come += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # nothing else is spoken here
            self.reusable = False
        except httptools.HttpParserError as error:
            self.reusable = False
            if not self.whole:
                self._break(httpx2.RemoteProtocolError(str(error)), error)
        if self.whole or self._length > self._longest:
            self._tell()
        elif not self.status and self._come > 2 * _MAX_HEAD:
            self._break(httpx2.RemoteProtocolError("the headers are too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer that ends with its connection, or that it broke off."""
        self.reusable = False
        if self.whole:
            return
        if exc is None and self.status and _FRAMING.isdisjoint(name.lower() for name, _ in self.lines):
            self.whole = True
            self._tell()
        else:
            lost = httpx2.RemoteProtocolError("closed before the answer was whole")
            self._break(lost if exc is None else httpx2.ReadError(str(exc)), exc)

    # -- what the parser calls ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self.whole:
            raise ValueError("a second answer, to nothing that was asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line."""
        self.lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status."""
        if self._come > _MAX_HEAD and sum(len(name) + len(value) for name, value in self.lines) > _MAX_HEAD:
            raise ValueError("the headers are too long")
        status = self._parser.get_status_code()
        if status < 200 and status != 101:  # noqa: PLR2004  # an interim answer; the one that counts is to come
            self.lines = []
            return
        self.status = status
        if not self._has_body:
            self.whole, self.reusable = True, False  # the parser would wait for one

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(part)
        self._length += len(part)

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        if self.status:
            self.whole = True
            self.reusable &= self._parser.should_keep_alive()


def write_head(request: httpx2.Request, proxy: httpx2.URL | None) -> bytes:
    """Return a request's head but for its end; raises httpx2.UnsupportedProtocol and LocalProtocolError."""
    url = request.url
    if url.scheme not in PORTS or not url.host:
        raise httpx2.UnsupportedProtocol("a URL begins with http:// or https:// and a host")
    by_proxy = proxy is not None and url.scheme == "http"
    target = b"http://%s%s" % (url.netloc, url.raw_path) if by_proxy else url.raw_path
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), target), b"host: " + url.netloc]
    lines += [b"%s: %s" % each for each in request.headers.raw if each[0].lower() not in _OWN_HEADERS]
    if by_proxy and proxy is not None:
        lines += prove(proxy)
    head = b"\r\n".join(lines)
    if head.count(b"\r") != len(lines) - 1 or head.count(b"\n") != len(lines) - 1 or b"\0" in head:
        raise httpx2.LocalProtocolError("a header would be two")
    return head


def frame(head: bytes, method: str, body: bytes) -> bytes:
    """Return a request as it travels."""
    if body or method not in _BODILESS:
        return b"%s\r\ncontent-length: %d\r\n\r\n%s" % (head, len(body), body)
    return head + b"\r\n\r\n"


def prove(proxy: httpx2.URL) -> list[bytes]:
    """Return the header by which a proxy knows us, if it asks for one."""
    given = f"{proxy.username}:{proxy.password}".encode()
    return [b"proxy-authorization: Basic " + base64.b64encode(given)] if proxy.username else []
