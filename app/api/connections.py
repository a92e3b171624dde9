"""A connection: what a client may send before it has said anything that the relay believes.

uvicorn's protocol parses and answers; this one stops reading what is too much, too slow or too old.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

import httptools
from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api import show_failure
from app.api.guard import Door
from app.api.strangers import BODY, ENDING, HEAD, IDLE, WHOLE, Gate, render_answer, render_refusal

MOST_HEADERS = 100
LONGEST_HEADERS = 16_384
LONGEST_URL = 8_192
HEAD_SPARE = 64  # what stands around the headers in a head: the method, the version, the empty line
FRAMING_SHARE = 8  # how many bytes of chunk sizes and extensions may come for each byte of a body
SMALL_PART = 4_096  # of a body: not worth to wake anybody for, before the body ends
LONGEST_DROPPED = 1_048_576  # of a body that nobody wants: a client may read its answer only when all is sent


class _Refused(Exception):
    """The parser has to stop, with this status: what comes is not wanted."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol within the limits of a gate, and the transport that uvicorn closes."""

    def __init__(self, gate: Gate, **given: Any) -> None:
        super().__init__(**given)
        self.queues: tuple[str, ...] = ("",)  # of the gate
        self._gate = gate
        self._unread = sys.maxsize  # bytes of an answer when it was last looked at
        self._keep_alive = False  # after the answer, if the request is whole by then
        self._early: bytes | None = None  # what has come of a body while nobody has been asked to answer its request
        self._find_door: Callable[[str], Door | None] = getattr(self.app, "find_door", lambda _path: None)
        self._answering: RequestResponseCycle | None = None
        self._head: bytes | None = None  # of its answer, until what follows it; None before
        self._deaf = False  # nothing is parsed any more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """Wait for the head of a request."""
        super().connection_made(transport)
        self._real = transport
        self.transport = cast("asyncio.Transport", self)  # so that uvicorn closes as we do
        self._begin_head()
        self._gate.admit(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what holds on to this connection."""
        self._gate.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, in pieces, so that too much is noticed before it is taken."""
        if self._deaf:
            self._drop(len(data))
            return
        if was_idle := self.phase == IDLE:
            self._begin_head()
        try:
            for start in range(0, len(data), LONGEST_HEADERS):
                piece = data[start : start + LONGEST_HEADERS]  # the same object, where it is the whole
                self._spare -= len(piece)
                self.parser.feed_data(piece)
                if self._spare < 0 and self.phase != WHOLE:
                    self.refuse(431 if self.phase == HEAD else 400, "refused")
                    return
            # In a crowd only once enough of the body has come to be worth the work.
            if self._early is not None and (self.expect_100_continue or not self._gate.is_crowded()):
                self._start()
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # nothing else is spoken here, and what follows is not read
        except httptools.HttpParserError as error:
            why = error.__context__  # what one of our own callbacks raised
            self.refuse(why.args[0] if isinstance(why, _Refused) else 503 if why else 400, "refused")
        except Exception:  # noqa: BLE001  # of `_start`, where the parser does not stand between
            self.refuse(503, "refused")
        if was_idle and self.phase in {HEAD, BODY}:
            self._gate.put_last(self)

    def on_message_begin(self) -> None:
        """Begin anew, also where the answer to the request before is still open."""
        super().on_message_begin()
        if self.phase == WHOLE:
            self._begin_head()

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        super().on_url(url)
        self._spare += len(url)
        if len(self.url) > LONGEST_URL:
            raise _Refused(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is none: it is counted and dropped."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Look at the headers. Whoever is to answer is asked when all that has come with them is parsed."""
        if self.parser.get_http_version() not in {"1.1", "1.0"}:
            raise _Refused(400)
        self._count_headers(self.headers)
        self.expect_100_continue = dict(self.headers).get(b"expect", b"").lower() == b"100-continue"
        self.headers = []  # those of the trailer
        self.phase, self.since, self._early = BODY, self.loop.time(), b""
        self._spare += self._size

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; whoever reads it is not woken for every byte."""
        self._spare += len(body) * FRAMING_SHARE
        if self._early is not None:
            self._early += body
            if len(self._early) >= SMALL_PART:
                self._start()
        elif len(self.cycle.body) + len(body) < SMALL_PART:
            self.cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        if self.headers:
            self._count_headers(self.headers)
        self.phase = WHOLE
        self._gate.finish(self)
        if self._early is not None:
            if self._answer_whole(self._early):
                return
            self._start()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def write(self, data: bytes) -> None:
        """Write; the head of an answer with what follows it, for each packet costs a tenth of what an event does."""
        if self._head is None and self._answering is not None and self._answering.response_started:
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._real.write(data)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that has begun to come already."""
        self._finish_answer()
        if self.pipeline:
            super().on_response_complete()
        else:  # as there, but for a timer a request, which takes 3 µs: the gate ends what is idle
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        if self.is_closing() or (self.phase == WHOLE and not self.cycle.response_complete):
            return
        self._wait_in(IDLE if self.phase == WHOLE else self.phase)

    def pause_writing(self) -> None:
        """Give a client that does not read its answer a deadline, too."""
        super().pause_writing()
        self._wait_in(self.phase)

    def resume_writing(self) -> None:
        """Note that it reads."""
        super().resume_writing()
        if self.phase == WHOLE:
            self._gate.finish(self)

    def shutdown(self) -> None:
        """End after the open answer, or now if there is none."""
        self._keep_alive = False
        if self._early is not None:
            self.refuse(503, "late")
            return
        if self.phase == ENDING:
            self._real.close()
        super().shutdown()

    def abort(self) -> None:
        """End without an answer."""
        self._real.abort()

    def waits_in(self) -> int:
        """Return what it waits for: before it can be idle, its client has to read the answer."""
        unread = self.phase == IDLE and self._real.get_write_buffer_size()
        return WHOLE if unread else self.phase

    def expire(self) -> None:
        """End because it took too long; whoever has sent a part of a request is told."""
        if self.waits_in() == IDLE:
            self._real.close()
            return
        begun = self.phase == BODY or (self.phase == HEAD and self._spare < LONGEST_HEADERS + HEAD_SPARE)
        unread = self._real.get_write_buffer_size()
        if self._deaf:
            self.abort()
        elif begun:
            self.refuse(408, "late")
        elif 0 < unread < self._unread:  # it reads, if slowly
            self._unread, self.since = unread, self.loop.time()
        else:
            self._gate.count("late")
            self.abort()

    def refuse(self, status: int, reason: str) -> None:
        """Read no further; answer, unless that of another request of this connection is open."""
        self._gate.count(reason)
        self._deaf, self._spare = True, LONGEST_DROPPED
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.phase == HEAD or self._early is not None:  # it answers the request before
                cycle.keep_alive = False
                return
            if cycle.response_started or self.pipeline:
                return  # until it expires
            cycle.disconnected = True
            cycle.message_event.set()
        self._real.write(render_refusal(status))
        self.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start to answer."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _start(self) -> None:
        """Have the application answer the request. Its answer ends the connection, unless the body is whole by then."""
        super().on_headers_complete()
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self._early:
            super().on_body(self._early)
        self._early = None

    def _answer_whole(self, body: bytes) -> bool:
        """Have a door answer, past all of ASGI; False where there is none, or anything about the request is unusual."""
        cycle, parser = self.cycle, self.parser
        path, _, query = self.url.partition(b"?")
        if parser.get_method() != b"POST" or b"%" in path or b"#" in self.url or not path.isascii():
            return False
        door = self._find_door(path.decode())
        is_busy = cycle is not None and not cycle.response_complete
        if door is None or is_busy or self.expect_100_continue or parser.should_upgrade():
            return False
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        self.scope.update({"method": "POST", "path": path.decode(), "raw_path": path, "query_string": query})
        self._early = None
        self.cycle = _Whole(self, self.scope, body)
        self.tasks.add(self.loop.create_task(self.cycle.run_asgi(door)))
        return True

    def _finish_answer(self) -> None:
        if self._head:  # nothing follows it
            self._real.write(self._head)
        self._head = self._answering = None

    def _count_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._names += len(headers)
        self._size += sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)
        if self._names > MOST_HEADERS or self._size > LONGEST_HEADERS:
            raise _Refused(431)

    def _begin_head(self) -> None:
        self.phase, self.since = HEAD, self.loop.time()
        self._names, self._size, self._spare = 0, 0, LONGEST_HEADERS + HEAD_SPARE

    def _wait_in(self, phase: int) -> None:
        self.phase, self.since, self._unread = phase, self.loop.time(), sys.maxsize
        self._gate.put_last(self)

    def _drop(self, length: int) -> None:
        self._spare -= length
        if self._spare < 0:
            self.flow.pause_reading()
            if self.phase == ENDING:
                self.abort()

    def is_closing(self) -> bool:
        """Tell whether nothing more is to be written."""
        return self.phase == ENDING or self._real.is_closing()

    def close(self) -> None:
        """Close; before a client that still sends, in two steps: a reset might overtake the answer (RFC 9112, 9.6)."""
        if self not in self.connections:
            return  # it is lost
        self._finish_answer()
        if self._real.is_closing() or self._gate.stopping or not (self._deaf or self.phase == BODY):
            self._wait_in(WHOLE)  # for the client to read
            self._real.close()
            return
        self._deaf, self._spare = True, LONGEST_DROPPED
        self._wait_in(ENDING)
        self._real.write_eof()
        self.flow.resume_reading()


class _Whole(RequestResponseCycle):
    """A request that came whole, on the way to the answer of a door, which is written at once.

    uvicorn's own cycle, with ASGI's messages and what makes them of a request, takes a third of an event's time.
    """

    disconnected = response_started = response_complete = False
    keep_alive = True
    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, connection: Connection, scope: Any, body: bytes) -> None:
        self._scope, self._connection, self._body = scope, connection, body

    async def run_asgi(self, door: Door) -> None:  # type: ignore[override]  # uvicorn's own wants an ASGI application
        """Answer."""
        connection = self._connection
        try:
            try:
                answer = await door.answer(self._scope, self._body)
            except BaseException as error:  # as in uvicorn's own, whose words these are
                connection.logger.log(logging.ERROR, "Exception in ASGI application\n", exc_info=error)
                self.keep_alive = False
                answer = await show_failure(None, error)
            if connection.flow.write_paused and not self.disconnected:
                await connection.flow.drain()
            if not self.disconnected:
                self._write(answer)
        finally:  # and by no callback, which each would be one more for the loop
            connection.tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _write(self, answer: Response) -> None:
        connection = self._connection
        headers = [*connection.server_state.default_headers, *answer.raw_headers]
        if (b"connection", b"close") in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        connection.write(render_answer(answer, headers))
        self.response_started = self.response_complete = True
        if not self.keep_alive:
            connection.close()
        connection.on_response_complete()
