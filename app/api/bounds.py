"""Bounds on what a stranger may take of the relay: connections and their time, bytes of bodies, and failures."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response
from starlette.types import Message, Receive, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api import Refused, problem, unavailable
from app.observe.logs import Log
from app.values.address import Network

if TYPE_CHECKING:
    from app.api.connections import Connection

SAY_EVERY_S = 60.0
# How far the request of a connection has come. Plain numbers: an Enum costs microseconds an event.
HEAD, BODY, WHOLE, IDLE, ENDING = range(5)
"""WHOLE is being answered; after IDLE another may follow; in ENDING the client may still read what was answered."""
# More than a person with a wrong secret in a dashboard needs, and nothing to somebody who guesses.
BURST = 300
REFILL_MS = 1_000
MOST_ADDRESSES = 4_096
BUDGET = 32 * 1024 * 1024
CLOSE = {"Connection": "close"}  # what follows of the body is nobody's
_DETAILS: Mapping[int, str] = {
    400: "this is no request of HTTP/1.0 or HTTP/1.1",
    408: "the request did not come in time",
    414: "the URL is longer than 8 KiB",
    431: "more than 100 headers, or more than 16 KiB of them",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """These limits bound how many connections there are, and how long each may take."""

    connections: int
    unfinished_per_address: int
    head_s: float = 5.0
    body_s: float = 10.0
    blocked_s: float = 30.0  # within which a client must read some of its answer
    ending_s: float = 2.0
    idle_s: float = 80.0  # uvicorn closes it sooner


class Gate:
    """Every open connection, and those among them, oldest first, that have no whole request to be answered.

    `note` is told why a connection was ended. Nothing is limited per address for peers in the `trusted` networks.
    """

    def __init__(self, limits: Limits, log: Log, note: Callable[[str], None], trusted: Iterable[Network] = ()) -> None:
        self.stopping = False
        self._limits, self._log, self._note, self._trusted = limits, log, note, tuple(trusted)
        self._within_s = (limits.head_s, limits.body_s, limits.blocked_s, limits.idle_s, limits.ending_s)  # by phase
        self._open: set[Connection] = set()
        self._unfinished: dict[str, dict[Connection, None]] = {"": {}}  # all of them, and those of each address
        self._ended: Counter[str] = Counter()
        self._say_at = 0.0

    def admit(self, connection: Connection, host: str) -> None:
        """Take a new connection in; the oldest unfinished one goes if there are too many, in all or of its address."""
        if host and not any(ip_address(host) in network for network in self._trusted):
            connection.queues = ("", host)
        self._open.add(connection)
        self.put_last(connection)
        if len(self._open) > self._limits.connections:
            self._shed("", "full")
        if len(self._unfinished.get(host, ())) > self._limits.unfinished_per_address and connection.queues[1:]:
            self._shed(host, "address")

    def is_crowded(self) -> bool:
        """Tell whether more than a quarter of the places are taken."""
        return len(self._open) * 4 > self._limits.connections

    def put_last(self, connection: Connection) -> None:
        """Note that a connection begins to wait for a request."""
        for queue in connection.queues:
            waiting = self._unfinished.setdefault(queue, {})
            waiting.pop(connection, None)
            waiting[connection] = None

    def finish(self, connection: Connection) -> None:
        """Note that its request is whole: until it has been answered, nobody ends it."""
        if connection in self._unfinished[""]:
            for queue in connection.queues:
                del self._unfinished[queue][connection]
                if queue and not self._unfinished[queue]:
                    del self._unfinished[queue]

    def leave(self, connection: Connection) -> None:
        """Forget a connection. May be called again."""
        self._open.discard(connection)
        self.finish(connection)

    def count(self, reason: str) -> None:
        """Count a connection that is ended before its time."""
        self._ended[reason] += 1
        self._note(reason)

    def sweep(self, now: float) -> None:
        """End what has taken too long; say, now and then, what was ended. Called once a second."""
        for connection in [one for one in self._unfinished[""] if now - one.since > self._within_s[one.waits_in()]]:
            connection.expire()
        if self._ended and now >= self._say_at:
            self._log.warning("connections.ended", **self._ended)
            self._ended.clear()
            self._say_at = now + SAY_EVERY_S

    def stop(self) -> None:
        """Answer each request that has not come whole: the process is about to end."""
        self.stopping = True
        for connection in [one for one in self._unfinished[""] if one.phase == BODY]:
            connection.refuse(503, "late")

    def _shed(self, queue: str, reason: str) -> None:
        self.count(reason)
        connection = next(iter(self._unfinished[queue]))
        self.leave(connection)
        connection.abort()


class FailureLimit:
    """Each address may fail `BURST` times at once, and then once a second. The oldest of too many is forgotten."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()  # how many are left, and when they were

    def count(self, address: str, now: int) -> bool:
        """Count one failure; tell whether it was one too many."""
        left, at = self._left.pop(address, (BURST, now))
        left = min(left + max(now - at, 0) / REFILL_MS, BURST)
        if len(self._left) >= MOST_ADDRESSES:
            self._left.popitem(last=False)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        return left < 1


class Pass(NamedTuple):
    """A body of this kind is read up to `longest` bytes, and may bring all that are open up to `most`."""

    kind: str
    longest: int
    most: int = BUDGET


@dataclass(slots=True)
class Budget:
    """The budget counts the bytes of bodies that all open requests hold."""

    held: int = 0


class CountedBody:
    """Counts the body of a request: no more is taken once it, or all open ones together, have grown too long."""

    __slots__ = ("_allowed", "_budget", "_length", "refused")

    def __init__(self, allowed: Pass, budget: Budget) -> None:
        self._allowed = allowed
        self._budget = budget
        self._length = 0
        self.refused = ""

    def take(self, part: bytes) -> Response | None:
        """Count a part; return the answer to one that is too much."""
        self._length += len(part)
        self._budget.held += len(part)
        if self._length > self._allowed.longest:
            return self._refuse_length()
        if self._budget.held > self._allowed.most:
            self.refused = "busy"
            return unavailable("too much is being read at once; send it again", headers=CLOSE)
        return None

    def count(self, receive: Receive, scope: Scope) -> Receive:
        """Return a `receive` that raises Refused where a part is too much, or is said to become it."""
        read = scope.get("relay.headers") or scope.get("relay.proof", (None,))[0]
        declared = (find_header(scope, b"content-length") if read is None else read.get("content-length")) or "0"
        digits = declared if declared.isascii() and declared.isdigit() else "0"
        is_too_long = int(digits[:12]) > self._allowed.longest

        async def receive_counted() -> Message:
            if is_too_long:
                raise Refused(self._refuse_length())
            message = await receive()
            if (part := message.get("body")) and (refused := self.take(part)) is not None:
                raise Refused(refused)
            return message

        return receive_counted

    def release(self) -> None:
        """Give back what was held: the request has ended."""
        self._budget.held -= self._length
        self._length = 0

    def _refuse_length(self) -> Response:
        self.refused = "too_long"
        return problem(413, f"the body is longer than {self._allowed.longest // 1024} KiB", CLOSE)


def render_answer(answer: Response, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return an answer as it travels."""
    lines = b"".join([b"%s: %s\r\n" % header for header in headers])
    return b"%s%s\r\n%s" % (STATUS_LINE[answer.status_code], lines, answer.body)


@lru_cache
def render_refusal(status: int) -> bytes:
    """Return the answer to whoever went beyond a bound, after which nothing more is read."""
    passing = "the relay is stopping, or has too little memory; send it again"
    answer = problem(status, _DETAILS[status]) if status in _DETAILS else unavailable(passing)
    return render_answer(answer, [*answer.raw_headers, (b"connection", b"close")])


def list_header(scope: Scope, name: bytes) -> list[str]:
    """Return every value of one header, in their order."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def find_header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of one header."""
    return next(iter(list_header(scope, name)), None)
