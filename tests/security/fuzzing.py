"""Requests as nobody sends them: bytes of HTTP/1.1 and JSON from a grammar, mutated; put through the protocol itself.

No socket and no disk: a connection gets packets from a wire that remembers what was written, behind it stand the real
parser, limits, guard, endpoints and rendering, and in place of the outbox's commit somebody who says that it is done.
So one costs some 200 µs, and the same seed says the same. Invariant: an answer or a close for each, never a 5xx but
503, nothing at error level, and no memory that grows.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
from uvicorn.server import ServerState

from app.api.connections import Connection
from app.api.strangers import Gate
from app.cli.serve import build_server_config
from app.errors import StoreFull
from app.outbox.values import DeliveryState
from app.relay.intake import Answer
from tests.conftest import SECRET, TOKEN
from tests.security.edge import GENEROUS

T = TypeVar("T")
GENUINE = hashlib.sha256(SECRET.encode()).hexdigest().encode()
WEBHOOK, GALLABOX, BITESPEED = b"/webhooks/nector", b"/webhooks/gallabox", b"/webhooks/bitespeed"
TOPICS = (
    b"walletreward_create",
    b"coupon_create",
    b"lead_update",
    b"coinexpirynotify_create",
    b"review_create",
    b"x y",
)
KEYS = (
    "user_mobile", "user_name", "amount", "customer", "mobile", "country", "expire", "value", "fiat_value", "items",
    "__class__", "__proto__", "", "lead", "coupon", "data", "name", "first_name", "topic", "rating", "\\u0000", "keys",
)  # fmt: skip
TEXTS = (
    '"Riya"', '"9800000001"', '"+91 98000 00002"', '"null"', '""', '"2026-12-31T18:29:59Z"', '"1,250"', '"{{7*7}}"',
    '"\\ud800"', '"\\u0000"', '"\\u202e"', '"%n%s%x"', '"\\r\\nx: y"', '"{0.__class__}"',
    "\"'; DROP TABLE events; --\"",
    '"\\u2028"', '"🎉"', '"' + "x" * 3_000 + '"', '"\x1b[31m"', '"unterminated', '"\\q"',
)  # fmt: skip
SCALARS = (
    "0", "-0", "1250", "1e400", "-1e400", "1e999999999", "00", "01", "1.", ".5", "+1", "0x1", "1" * 40, "0.1", "1E5",
    "NaN", "-Infinity", "Infinity", "true", "false", "null", "nul", "True", "undefined", "//", "1 2",
)  # fmt: skip
METHODS = (b"POST",) * 24 + (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"post", b"", b"P\x00")
PATHS = (
    *(WEBHOOK,) * 60, *(GALLABOX,) * 2, *(BITESPEED,) * 1, WEBHOOK + b"/", b"/", b"//webhooks/nector",
    b"/WEBHOOKS/nector",
    b"/webhooks/nector?x=%00", b"/webhooks/../metrics", b"/%2e%2e/", b"/healthz", b"/webhooks/" + b"n" * 300,
    b"http://other.example/webhooks/nector", b"*", b"/" + b"a" * 9_000, b"/\xff\xfe", b"/nothing#x", b"",
    BITESPEED + b"?token=sandbox-webhook-token", b"/webhooks/gallabox?hub.mode=subscribe&hub.challenge=1",
)  # fmt: skip
OPS = (b"/deliveries?limit=1", b"/deliveries?state=x", b"/holds", b"/deliveries/x", b"/metrics", b"/replay", b"/erase")
VALUES = (
    b"",
    b"\x00",
    b"a\rb",
    b"\xff\xfe",
    b"x" * 9_000,
    b"\xe2\x80\xae",
    b"1\t2",
    b" ",
    b"chunked",
    b"a,b;c=d",
    b'"',
)
NAMES = (
    b"x-a",
    b"X-Nector-Topic",
    b"content-type",
    b"bad name",
    b"",
    b"x\x00",
    b":",
    b"\xffx",
    b"x" * 300,
    b"forwarded",
)
STRANGE = (
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"transfer-encoding: identity\r\n",
    b"content-length: -1\r\n", b"content-length: 1,1\r\n", b"content-length: +5\r\n", b"content-length: 0x5\r\n",
    b"content-length: 99999999999999999999\r\n", b"expect: 100-continue\r\n", b"expect: nothing\r\n", b" folded: 1\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n", b"connection: keep-alive, close\r\n",
    b"content-encoding: gzip\r\n",
    b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n", b"authorization: Basic eDp5\r\n", b"host: a\r\nhost: b\r\n",
    b"no colon\r\n", b"bare: lf\n", b"x-forwarded-for: 1.2.3.4, [::1]:5, nonsense\r\n", b"traceparent: 00-zz-0-1\r\n",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1",) * 30 + (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"http/1.1", b"", b"HTTP/1.1 x")


# -- the grammar -----------------------------------------------------------------------------------


class Fuzzer:
    """Draws requests from a seed. Bodies are drawn from a stock that is made once: to draw each anew costs more."""

    def __init__(self, seed: int, stock: int = 2_000) -> None:
        self._draw = random.Random(seed)  # noqa: S311  # to repeat, not to hide
        self._chance = self._draw.random
        self._bodies = [self._make_body() for _ in range(stock)]

    def _below(self, end: int) -> int:
        return int(self._chance() * end)

    def _pick(self, stock: Sequence[T]) -> T:
        """Return one of them: `choice` would cost as much as all else here."""
        return stock[int(self._chance() * len(stock))]

    def make_request(self) -> Sequence[bytes]:
        """Return one request, rarely two, in the packets in which it comes."""
        whole = self._make_message()
        chance = self._chance()
        if chance < 0.03:
            whole += self._make_message()
        elif chance < 0.10:
            whole = self._mutate(whole)
        if chance > 0.88 and len(whole) > 2:
            at = 1 + self._below(len(whole) - 1)
            return whole[:at], whole[at:]
        return (whole,)

    def _make_message(self) -> bytes:
        body = self._pick(self._bodies)
        if self._chance() < 0.15:
            body = self._mutate(body)
        is_ops = self._chance() < 0.003
        path = self._pick(OPS if is_ops else PATHS)
        lines = [b"%s %s %s\r\n" % (self._pick(METHODS), path, self._pick(VERSIONS)), b"host: relay.example\r\n"]
        lines += self._make_headers(path, body, is_ops=is_ops)
        framing, body = self._frame(body)
        return b"".join((*lines, framing, b"\r\n", body))

    def _make_headers(self, path: bytes, body: bytes, *, is_ops: bool) -> Iterator[bytes]:
        draw = self._draw
        usual = [b"content-type: application/json\r\n"]
        if is_ops:
            usual.append(b"authorization: Bearer %s\r\n" % TOKEN.encode())
        elif path == GALLABOX:
            digest = hmac.digest(b"sandbox-webhook-secret", body, "sha256") if self._chance() < 0.1 else b"x" * 32
            usual += [b"x-gallabox-signature: %s\r\n" % base64.b64encode(digest), b"x-event-name: Message.Sent\r\n"]
        else:
            usual += [
                b"x-nector-topic: %s\r\n" % self._pick(TOPICS),
                b"x-nector-delivery-id: f-%d\r\n" % draw.getrandbits(40),
                b"x-nector-webhook-secret: %s\r\n" % (GENUINE if self._chance() < 0.95 else b"0" * 64),
            ]
        chance = self._chance()
        if chance < 0.12:
            usual.pop(self._below(len(usual)))
        elif chance < 0.22:
            usual.append(b"%s: %s\r\n" % (self._pick(NAMES), self._pick(VALUES)))
        elif chance < 0.32:
            usual.insert(self._below(len(usual) + 1), self._pick(STRANGE))
        elif chance < 0.34:
            usual += [b"x-%d: 1\r\n" % number for number in range(self._pick((50, 95, 96, 120, 400)))]
        yield from usual

    def _frame(self, body: bytes) -> tuple[bytes, bytes]:
        chance = self._chance()
        if chance < 0.75:
            return b"content-length: %d\r\n" % len(body), body
        if chance < 0.90:
            return b"transfer-encoding: chunked\r\n", self._chunk(body)
        if chance < 0.97:
            return b"content-length: %d\r\n" % max(len(body) + self._pick((-3, -1, 1, 7, 70_000)), 0), body
        if chance < 0.98:
            return b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % len(body), self._chunk(body)
        return b"", body

    def _chunk(self, body: bytes) -> bytes:
        step = self._pick((1, 7, 100, 5_000)) if len(body) < 200 else 5_000
        parts = [b"%x%s\r\n%s\r\n" % (len(part), self._pick((b"",) * 9 + (b";x=" + b"y" * 50,)), part)
                 for part in (body[at : at + step] for at in range(0, len(body), step))]  # fmt: skip
        end = self._pick(
            (b"0\r\n\r\n",) * 9 + (b"0\r\nx-nector-topic: t\r\n\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"")
        )
        return b"".join((*parts, end))

    def _make_body(self) -> bytes:
        chance = self._chance()
        if chance < 0.02:
            return b"[" * self._pick((31, 32, 33, 5_000))
        if chance < 0.025:
            return b'{"user_name": "' + b"x" * self._pick((65_000, 65_536, 70_000)) + b'"}'
        text = self._make_object(self._below(4))
        if chance < 0.06:
            return text.encode("utf-16", "surrogatepass")
        head = "\ufeff" if chance < 0.08 else ""
        return (head + text).encode("utf-8", "surrogatepass")

    def _make_object(self, depth: int) -> str:
        pairs = [f'"{self._pick(KEYS)}": {self._make_value(depth)}' for _ in range(1 + self._below(6))]
        if self._chance() < 0.7:
            pairs += ['"user_mobile": "9800000001"', '"user_name": "Riya"', '"amount": "100"']
        return (
            "{" + self._pick((", ",) * 60 + (",,", " ")).join(pairs) + self._pick(("}",) * 60 + ("", ",}", "}}", "} x"))
        )

    def _make_value(self, depth: int) -> str:
        chance = self._chance()
        if depth and chance < 0.25:
            return self._make_object(depth - 1)
        if depth and chance < 0.35:
            return "[" + ", ".join(self._make_value(depth - 1) for _ in range(self._below(4))) + "]"
        return self._pick(TEXTS if chance < 0.75 else SCALARS) if self._chance() < 0.15 else '"Riya"'

    def _mutate(self, whole: bytes) -> bytes:
        """Return it with a byte changed, a piece gone, twice there or from another body."""
        draw = self._draw
        at = self._below(len(whole) + 1)
        end = min(at + self._pick((1, 1, 1, 2, 5, 40)), len(whole))
        match self._below(5):
            case 0:
                return whole[:at] + bytes([draw.getrandbits(8)]) + whole[end:]
            case 1:
                return whole[:at] + whole[end:]
            case 2:
                return whole[:end] + whole[at:]
            case 3:
                return whole[:at]
            case _:
                other = self._pick(self._bodies)
                return whole[:at] + other[self._below(len(other) + 1) :]


# -- the wire --------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A transport without a socket."""

    protocol: asyncio.Protocol

    def __init__(self, peer: tuple[str, int]) -> None:
        super().__init__({"sockname": ("192.0.2.5", 8000), "peername": peer})
        self.heard = bytearray()
        self.closed = False  # for writing
        self._lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.heard += data

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Have nothing to pause."""

    def resume_reading(self) -> None:
        """Have nothing to resume."""


class BrokenRule(AssertionError):
    """A request found what must not be; the text has it, and how to draw it again."""


@dataclass
class Harness:
    """Puts requests through one application, a batch at a time."""

    app: Any
    gate: Gate
    config: uvicorn.Config
    state: ServerState = field(default_factory=ServerState)
    statuses: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0

    async def put(self, batch: Sequence[Sequence[bytes]]) -> None:
        """Have a batch answered; raises BrokenRule."""
        loop = asyncio.get_running_loop()
        wires = []
        for number, packets in enumerate(batch):
            wire = Wire((f"198.51.{number % 250}.7", 4_000))
            connection = wire.protocol = Connection(
                self.gate, config=self.config, server_state=self.state, app_state={}
            )
            connection.connection_made(wire)
            for packet in packets:
                if not wire.closed:
                    connection.data_received(packet)
            wires.append((wire, packets))
        while True:
            await asyncio.sleep(0)
            self.gate.sweep(loop.time() + 1_000)  # time passes: what has not come whole by now never will
            if not self.state.tasks:
                break
            _, waiting = await asyncio.wait(self.state.tasks, timeout=40)
            if waiting:
                raise BrokenRule(f"{len(waiting)} of {len(batch)} requests are never answered")
        for wire, packets in wires:
            self._judge(wire, packets)
            wire.close()
        await asyncio.sleep(0)

    def _judge(self, wire: Wire, packets: Sequence[bytes]) -> None:
        statuses = re.findall(rb"HTTP/1\.1 (\d\d\d) ", wire.heard)
        self.statuses.update(status.decode() for status in statuses)
        if not statuses and not wire.closed:
            raise BrokenRule(f"neither answered nor closed: {show(packets)}")
        if wrong := [status for status in statuses if status >= b"500" and status != b"503"]:
            raise BrokenRule(f"{wrong[0].decode()}: {show(packets)}")
        self.unanswered += not statuses


def show(packets: Sequence[bytes]) -> str:
    return " | ".join(repr(packet if len(packet) < 1_500 else packet[:1_500] + b"...") for packet in packets)


def build_harness(relay: Any, app: Any) -> Harness:
    """Return what puts requests through a running relay's application; its outbox commits no event."""
    shared = relay.relay.shared
    gate = Gate(GENEROUS, shared.log, shared.metrics.connections_ended.inc)
    config = build_server_config(app, shared.settings, gate)
    config.load()
    (route,) = [route for route in app.router.routes if getattr(route, "path", "") == WEBHOOK.decode()]
    count = 0

    async def take(event: Any, deliveries: Sequence[Any]) -> Answer:
        nonlocal count
        count += 1
        if count % 997 == 0:
            raise StoreFull("no space")
        rows = [DeliveryState(each.id, each.route, each.provider, each.state) for each in deliveries]
        return Answer(202, event.id, "accepted" if rows else "unrouted", rows)

    object.__setattr__(route.app, "take", take)
    return Harness(app, gate, config)


async def run_fuzz(
    harness: Harness, seed: int, count: int, note: Callable[[int], None] = lambda _: None, batch: int = 50
) -> None:
    """Put so many requests through; raises BrokenRule with the first that breaks one, and how to draw it again."""
    fuzzer = Fuzzer(seed)
    for begun in range(0, count, batch):
        try:
            await harness.put([fuzzer.make_request() for _ in range(min(batch, count - begun))])
        except BrokenRule as error:
            raise BrokenRule(f"seed {seed}, requests {begun} to {begun + batch}: {error}") from None
        note(begun + batch)
