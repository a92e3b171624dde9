"""A collector on a real socket that takes OTLP/HTTP, decodes it, and can be as bad as collectors are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    name: str
    kind: int
    trace_id: str
    id: str
    parent_id: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What arrived at `url`. `mood`: ok, busy (503), refuse (400 with a page), garbage (no HTTP), hang."""

    url: str = ""
    mood: str = "ok"
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def spans(self, name: str | None = None) -> list[Seen]:
        return [span for body in list(self.bodies) for span in read_spans(body) if name in (None, span.name)]

    def wait_for(self, name: str, count: int = 1, seconds: float = 40) -> list[Seen]:
        """Return the spans of a name, once there are so many, in the order of their arrival."""
        ends_at = time.monotonic() + seconds
        while len(found := self.spans(name)) < count:
            assert time.monotonic() < ends_at, (name, count, [span.name for span in self.spans()])
            time.sleep(0.01)
        return found


def read_spans(body: bytes) -> Iterator[Seen]:
    for part in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = read_attributes(part.resource.attributes)
        for span in (span for scope in part.scope_spans for span in scope.spans):
            assert not span.events  # an exception's event would hold its text
            yield Seen(
                span.name,
                span.kind,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.status.code == 2,
                read_attributes(span.attributes),
                resource,
            )


def read_attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}


class Handler(BaseHTTPRequestHandler):
    """Answers one export."""

    collector: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        match self.collector.mood:
            case "ok":
                assert self.path == "/v1/traces"
                self.collector.bodies.append(body)
                self.collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                self._answer(200, b"")
            case "busy":
                self._answer(503, b"")
            case "refuse":
                self._answer(400, b"<html>9800000079 canary</html>")
            case "garbage":
                self.wfile.write(b"\x00\xff 9800000079 canary\r\n\r\n" * 100)
                self.close_connection = True
            case "hang":
                self.collector.released.wait(30)
                self.close_connection = True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        pass


@contextmanager
def run_collector() -> Iterator[Collector]:
    found = Collector()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"collector": found}))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
