"""The sandbox as an ASGI application, and on a port: the vendors' endpoints, the fault switches and the inspection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from app.clock import new_uuid7, read_clock
from app.errors import ConfigError, RelayError
from app.files import stamp_file
from app.mapping.template import Template, Templates, print_message
from app.model.value import dataclass
from app.sandbox.bitespeed import FakeBiteSpeed
from app.sandbox.faults import FAULTS, Drip, Fault, FaultSwitch, HalfAnswer, Hang, OpenProtocol, Reset, parse_faults
from app.sandbox.gallabox import FakeGallabox
from app.sandbox.receipts import Ledger, ReceiptPoster
from app.sandbox.shapes import SHAPES, FakeShape
from app.sandbox.vendor import Order, Refusal, SandboxSettings, Vendor

Endpoint = Callable[[Request], Awaitable[Response]]
_PAGE = "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


def create_sandbox(settings: SandboxSettings, templates: Templates, show: Callable[[str], None]) -> Starlette:
    """Return the application. Each accepted message is passed to `show` as the customer would see it.

    Resets and halves need uvicorn with `OpenProtocol`, as `serve_sandbox` runs it. Raises ConfigError on
    `settings.faults`.
    """
    faults, ledger = FaultSwitch(dict(parse_faults(settings.faults)), random.random), Ledger()
    poster = ReceiptPoster(settings, show)
    orders = _Orders(settings, faults, ledger, poster, show)
    gallabox, bitespeed = FakeGallabox(settings, templates), FakeBiteSpeed(settings, templates)

    async def list_templates(request: Request) -> Response:
        status, answer = gallabox.list_templates(request.headers, request.path_params["account_id"])
        return JSONResponse(answer, status)

    async def send_shape(request: Request) -> Response:
        name = request.url.path.split("/")[1]
        return await orders.take(FakeShape(name, dict(request.query_params), templates), request)

    async def delete_messages(_request: Request) -> Response:
        ledger.clear()
        return Response(status_code=204)

    def show_json(read: Callable[[], Any]) -> Endpoint:
        async def answer(_request: Request) -> Response:
            return JSONResponse(read())

        return answer

    senders: Mapping[str, Endpoint] = {
        "/devapi/messages/whatsapp": partial(orders.take, gallabox),
        "/devapi/accounts/{account_id}/messages/whatsapp": partial(orders.take, gallabox),
        "/": partial(orders.take, bitespeed),
        "/bitespeed": partial(orders.take, bitespeed),
        **{f"/{name}{shape.path}": send_shape for name, shape in SHAPES.items()},
    }
    routes = [
        *(Route(path, send, methods=["POST"]) for path, send in senders.items()),
        Route("/devapi/accounts/{account_id}/whatsappTemplates", list_templates),
        Route("/sandbox/faults", partial(_change_faults, faults), methods=["GET", "PUT", "DELETE"]),
        Route("/sandbox/messages", show_json(lambda: {"messages": ledger.list_messages()})),
        Route("/sandbox/messages", delete_messages, methods=["DELETE"]),
        Route("/sandbox/counts", show_json(lambda: ledger.counts)),
        Route("/healthz", show_json(lambda: {"status": "ok"})),
    ]
    return Starlette(routes=routes, lifespan=poster.run)


@dataclass(frozen=True, slots=True)
class _Orders:
    """Message requests are taken, whichever vendor they are meant for."""

    settings: SandboxSettings
    faults: FaultSwitch
    ledger: Ledger
    poster: ReceiptPoster
    show: Callable[[str], None]

    async def take(self, vendor: Vendor, request: Request) -> Response:
        """Answer a message request, by the fault that is in force."""
        self.ledger.counts["seen"][vendor.provider] += 1
        fault = self.faults.take(vendor.kind)
        await asyncio.sleep(fault.latency_ms / 1000)
        if (refused := _answer_unread(fault, vendor)) is not None:
            return refused
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        order = vendor.read(request.headers, body)
        status, answer = vendor.refuse(order) if isinstance(order, Refusal) else self._accept(vendor, order)
        return self._answer(fault, status, answer)

    def _accept(self, vendor: Vendor, order: Order) -> tuple[int, Mapping[str, Any]]:
        now = read_clock()
        message_id = new_uuid7(now)
        requests = self.ledger.note_accepted(vendor.provider, message_id, order, now)
        again = f"  (request {requests} for the same message)" if requests > 1 else ""
        self.show(f"{vendor.provider} → {order.recipient}  {order.template}{again}\n{print_message(order.filled)}")
        self.poster.start(vendor, order, message_id)
        return vendor.accept(message_id)

    def _answer(self, fault: Fault, status: int, answer: Mapping[str, Any]) -> Response:
        match fault.fault:
            case "reset_after":
                return Reset()
            case "hang":
                return Hang(self.settings.hang_ms)
            case "half_answer":
                return HalfAnswer(answer, status)
            case "drip":
                return Drip(answer, status, fault.drip_ms)
            case _:
                return JSONResponse(answer, status)


def _answer_unread(fault: Fault, vendor: Vendor) -> Response | None:
    """Return the answer of a fault that keeps the request from being accepted, None if it does not."""
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    match fault.fault:
        case "reset_before":
            return Reset()
        case "html":
            return HTMLResponse(fault.body or _PAGE, fault.status or 200, headers)
        case "refuse":
            refusal = Refusal(fault.status or 400, fault.body or "Message undeliverable", fault.code)
        case "status":
            refusal = Refusal(fault.status or 500, "Switched on as a fault")
            if fault.body is not None:
                return Response(fault.body, refusal.status, headers)
        case _:
            return None
    status, answer = vendor.refuse(refusal)
    return JSONResponse(answer, status, headers)


async def _change_faults(faults: FaultSwitch, request: Request) -> Response:
    """Put the faults of a PUT in force, or none for a DELETE; show those in force."""
    if request.method == "PUT":
        try:
            faults.faults = FAULTS.validate_json(await request.body())
        except ValidationError as error:
            told = [f"{'.'.join(map(str, it['loc']))}: {it['msg']}" for it in error.errors(include_url=False)]
            return JSONResponse({"message": "; ".join(told)}, 400)
    elif request.method == "DELETE":
        faults.faults = {}
    return JSONResponse({kind: fault.model_dump() for kind, fault in faults.faults.items()})


def run_until_told(serving: Coroutine[Any, Any, None]) -> None:
    """Serve until SIGINT or SIGTERM."""

    async def run() -> None:
        task = asyncio.ensure_future(serving)
        for told in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(told, task.cancel)
        await task

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())


async def serve_sandbox(
    settings: SandboxSettings,
    templates: Templates,
    host: str = "127.0.0.1",
    port: int = 9100,
    *,
    show: Callable[[str], None],
    on_bound: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until cancelled; port 0 takes a free one. `on_bound` gets the port once requests are answered.

    Leaves signals and logging to the program around it. Raises RelayError if the port is taken, ConfigError.
    """
    app = create_sandbox(settings, templates, show)
    listener = _listen(host, port)
    config = uvicorn.Config(app, http=OpenProtocol, log_config=None, access_log=False, lifespan="on")
    server = _Server(config, lambda: on_bound(listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that hangs on purpose must not keep the sandbox from ending.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # each is gone with the loop's next turn; uvicorn looks ten times a second
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RelayError(
            f"the sandbox cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
        ) from None
    return listener


class FollowedTemplates(Mapping[tuple[str, str], Template]):
    """The approved texts of a file, read again when it has changed; one that cannot be used changes nothing."""

    def __init__(self, path: Path, read: Callable[[Path], Templates], show: Callable[[str], None]) -> None:
        self._path, self._read_file, self._show = path, read, show
        self._texts, self._seen = read(path), stamp_file(path)

    def _read(self) -> Templates:
        if (stamp := stamp_file(self._path)) != self._seen:
            self._seen = stamp
            try:
                self._texts = self._read_file(self._path)
                self._show(f"read {self._path} again: {len(self._texts)} templates")
            except ConfigError as error:
                self._show(f"{error}\nthe texts of before stay in use")
        return self._texts

    def __getitem__(self, key: tuple[str, str]) -> Template:
        return self._read()[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
