"""Faults on demand: which one the next request of a vendor meets, and the answers that are none."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import ConfigError
from app.model.value import dataclass

FaultName = Literal[
    "latency",  # nothing but the wait
    "status",  # any status; not accepted
    "refuse",  # the vendor's own error; not accepted
    "html",  # a proxy's page in place of the vendor; not accepted
    "reset_before",  # connection reset before the request is read; not accepted
    "reset_after",  # accepted, then the connection is reset
    "hang",  # accepted, never answered
    "half_answer",  # accepted, half of the answer, then the connection is closed
    "drip",  # accepted, the answer comes byte by byte over `drip_ms`
]
VendorName = Literal["gallabox", "bitespeed", "http"]


class Fault(BaseModel, extra="forbid", strict=True, frozen=True):
    """One fault. `times`: only the next N requests, None for all; `probability` in 0..1 of each of them.

    `status` and `body` are those of `status`, `refuse` and `html`; `code` is WhatsApp's, of `refuse`; `retry_after`
    is in seconds. Every fault may wait `latency_ms` first; `drip_ms` comes after accepting.
    """

    fault: FaultName = "latency"
    latency_ms: int = Field(default=0, ge=0, le=600_000)
    drip_ms: int = Field(default=1_000, ge=0, le=600_000)
    status: int | None = Field(default=None, ge=200, le=599)
    body: str | None = None
    code: int = 131026
    retry_after: int | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)
    probability: float = Field(default=1.0, ge=0, le=1)


NO_FAULT = Fault()
FAULTS = TypeAdapter(dict[VendorName, Fault])


@dataclass(slots=True)
class FaultSwitch:
    """The faults in force, with what is left of each `times`; `draw` returns a random number in [0, 1)."""

    faults: dict[VendorName, Fault]
    draw: Callable[[], float]

    def take(self, kind: VendorName) -> Fault:
        """Return the fault that the next request of this vendor meets."""
        fault = self.faults.get(kind)
        if fault is None or self.draw() >= fault.probability:
            return NO_FAULT
        if fault.times == 1:
            del self.faults[kind]
        elif fault.times is not None:
            self.faults[kind] = fault.model_copy(update={"times": fault.times - 1})
        return fault


def parse_faults(text: str) -> Mapping[VendorName, Fault]:
    """Return the faults of `gallabox=503:3,bitespeed=hang`: a status or a fault's name, `:N` for N requests only.

    Raises ConfigError.
    """
    return dict(_parse_fault(part.strip()) for part in text.split(",") if part.strip())


def _parse_fault(part: str) -> tuple[VendorName, Fault]:
    kind, _, rest = part.partition("=")
    name, _, times = rest.partition(":")
    fields: dict[str, Any] = {"fault": "status", "status": int(name)} if name.isdecimal() else {"fault": name}
    if times:
        fields["times"] = int(times) if times.isdecimal() else times
    try:
        ((vendor, fault),) = FAULTS.validate_python({kind: fields}).items()
    except ValidationError:
        known = ", ".join(get_args(FaultName))
        raise ConfigError(
            f'faults: "{part}" is not understood; write gallabox=503 or bitespeed=hang:2 (a status, or one of {known}; '
            ":N for only the next N requests)"
        ) from None
    return vendor, fault


# -- answers that are none: resets, hangs and halves, on a real connection ---------------------------
# A reset needs the transport, which ASGI hides: the protocol below hands it on in the scope's state.

_TRANSPORT = "sandbox_transport"


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection's transport in `scope["state"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """Remember the transport for the requests of this connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class Reset(Response):
    """The connection ends with a TCP reset and no answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as ASGI wants it
        """Reset the connection."""
        transport: asyncio.Transport = scope["state"][_TRANSPORT]
        # SO_LINGER of 0 s makes closing a reset (RST) in place of an orderly end (FIN).
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await _wait_for_end(receive)


class Hang(Response):
    """No answer for `hang_ms` or until the caller gives up; then a reset."""

    def __init__(self, hang_ms: int) -> None:
        super().__init__()
        self._hang_ms = hang_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait."""
        try:
            await asyncio.wait_for(_wait_for_end(receive), self._hang_ms / 1000)
        except TimeoutError:
            await Reset()(scope, receive, send)


class HalfAnswer(JSONResponse):
    """The status, the headers and half of the body; then the connection ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half and close."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"][_TRANSPORT].close()
        await _wait_for_end(receive)


class Drip(JSONResponse):
    """A whole answer, byte by byte: no single read of it takes long."""

    def __init__(self, answer: Mapping[str, Any], status: int, drip_ms: int) -> None:
        super().__init__(answer, status)
        self._pause_s = drip_ms / 1000 / max(len(self.body), 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as ASGI wants it
        """Send slowly, until the caller has gone away."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_wait_for_end(receive))
        for byte in bytes(self.body):
            if (await asyncio.wait([gone], timeout=self._pause_s))[0]:
                return
            await send({"type": "http.response.body", "body": bytes((byte,)), "more_body": True})
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _wait_for_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
