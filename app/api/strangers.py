"""Strangers may take so many connections, send so much and fail so often; why one is refused, and what helps."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api import problem, unavailable
from app.errors import Mistake
from app.model.value import dataclass
from app.observe.logs import Log
from app.sources import SOURCE
from app.values.address import Network

if TYPE_CHECKING:
    from app.api.connections import Connection

WEBHOOK, RECEIPT, OPS = "webhook", "receipt", "ops"
PATH = f"/webhooks/{SOURCE.name}"
RECEIPTS = "/webhooks/"
SAY_EVERY_S = 60.0
# How far the request of a connection has come. Plain numbers: an Enum costs microseconds an event.
HEAD, BODY, WHOLE, IDLE, ENDING = range(5)
"""WHOLE is being answered; after IDLE another may follow; in ENDING the client may still read what was answered."""
# More than a person with a wrong secret in a dashboard needs, and nothing to somebody who guesses.
BURST = 300
REFILL_MS = 1_000
MOST_ADDRESSES = 4_096
BUDGET = 32 * 1024 * 1024
_OUR_WORDS = frozenset({"webhook", "webhooks", SOURCE.name})
CLOSE = {"Connection": "close"}  # what follows of the body is nobody's
_DETAILS: Mapping[int, str] = {
    400: "this is no request of HTTP/1.0 or HTTP/1.1",
    408: "the request did not come in time",
    414: "the URL is longer than 8 KiB",
    431: "more than 100 headers, or more than 16 KiB of them",
}


class Stray(StrEnum):
    """A request to a webhook, or to what looks like one, reaches nobody for one of these reasons."""

    PATH = "path"
    METHOD = "method"
    MEDIA_TYPE = "media_type"
    CHALLENGE = "challenge"
    TOO_LONG = "too_long"
    BUSY = "busy"
    ADDRESS = "address"


CURES: Mapping[tuple[str, Mistake | Stray], str] = {
    **{(WEBHOOK, mistake): cure for mistake, cure in SOURCE.cures.items()},
    (OPS, Mistake.MISSING): "send Authorization: Bearer and the value of RELAY_ADMIN_TOKEN",
    (OPS, Mistake.OTHER): "the token is not the RELAY_ADMIN_TOKEN that the relay was started with",
    (RECEIPT, Mistake.MISSING): "no signature or token: set it up at the provider, let proxies pass it on",
    (RECEIPT, Mistake.MALFORMED): "the signature is not written as the YAML says (webhook_signature)",
    (RECEIPT, Mistake.OTHER): "another secret or token: compare the YAML's with the provider's dashboard",
    (RECEIPT, Mistake.UNSET): "the YAML has no webhook_secret or webhook_token for it, so nothing can be believed",
    (WEBHOOK, Stray.PATH): f"the path is {PATH}, all small: mend the URL in {SOURCE.title}'s dashboard",
    (RECEIPT, Stray.PATH): "the path is /webhooks/NAME, with a name under providers: in the YAML",
    (WEBHOOK, Stray.METHOD): "an event comes by POST",
    (WEBHOOK, Stray.ADDRESS): "not in RELAY_NECTOR_ADDRESSES: add it there, or its proxy to RELAY_TRUSTED_PROXIES",
    (RECEIPT, Stray.METHOD): "a receipt comes by POST",
    (RECEIPT, Stray.CHALLENGE): "hub.verify_token is not the account's verify_token in the YAML, or none is there",
    (WEBHOOK, Stray.MEDIA_TYPE): "an event is sent as content-type application/json, uncompressed",
    (WEBHOOK, Stray.TOO_LONG): "an event has at most 64 KiB: look what sends so much",
    (RECEIPT, Stray.TOO_LONG): "a receipt has at most 4 MiB: let the provider send fewer at once",
    **dict.fromkeys(((kind, Stray.BUSY) for kind in (WEBHOOK, RECEIPT)), "much came at once; the sender tries again"),
}
"""What can be wrong on which kind of path, and what helps."""


@dataclass(frozen=True, slots=True)
class Limits:
    """These limits bound how many connections there are, and how long each may take."""

    connections: int
    unfinished_per_address: int
    head_s: float = 5.0
    body_s: float = 10.0
    blocked_s: float = 30.0  # within which a client must read some of its answer
    ending_s: float = 2.0
    idle_s: float = 75.0  # what is idle is no failure, and not counted


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


class Pass(NamedTuple):
    """A body of this kind is read up to `longest` bytes, and may bring all that are open up to `most`."""

    kind: str
    longest: int
    most: int = BUDGET


PASSES = {
    WEBHOOK: Pass(WEBHOOK, 64 * 1024),
    OPS: Pass(OPS, 1024 * 1024),
    # Signed over the body: a stranger can have it read, and must leave room for those who showed a secret.
    RECEIPT: Pass(RECEIPT, 4 * 1024 * 1024, BUDGET // 2),
}


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


def mask_path(path: str) -> str:
    """Return a path of which only our own words are told: a stranger may put anything into it, a name or a token."""
    parts = (part if part.lower() in _OUR_WORDS else "*" * len(part) for part in path[:60].split("/"))
    return "/".join(parts)
