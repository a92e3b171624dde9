"""Requests put to the application by hand, to see how much of a body it asks for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CHUNK = 64 * 1024


@dataclass
class Stranger:
    """One request; `asked` counts the bytes that the application took, `parts` is what it may have."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Iterable[bytes] | AsyncIterator[bytes] = ()
    query: str = ""
    client: tuple[str, int] | None = ("192.0.2.1", 1)
    asked: int = 0
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def ask(self, app: Any) -> int:
        """Return the status."""
        parts = self.parts if isinstance(self.parts, AsyncIterator) else _pass_on(self.parts)

        async def receive() -> dict[str, Any]:
            async for part in parts:
                self.asked += len(part)
                return {"type": "http.request", "body": part, "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.answer = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message.get("body", b"")

        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        scope = {
            "type": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http",
            "server": ("relay.example", 80), "root_path": "", "client": self.client, "method": self.method,
            "path": self.path, "raw_path": self.path.encode(), "query_string": self.query.encode(), "headers": headers,
        }  # fmt: skip
        await app(scope, receive, send)
        return self.status

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


async def _pass_on(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def fill(length: int) -> Iterable[bytes]:
    """Yield blanks, which are how JSON may begin, in pieces as a server hands them on."""
    for _ in range(length // CHUNK):
        yield b" " * CHUNK
    yield b" " * (length % CHUNK)


def find_app(relay: Any) -> Any:
    """Return the ASGI application of a running relay."""
    return relay.client._transport.app
