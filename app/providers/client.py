"""The one client that talks to providers: bounded in time and size, and sure of what it knows was not sent."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, stop_before_delay

from app.errors import find_place
from app.message.components import strike_message
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.model.message import Message
from app.model.value import dataclass
from app.observe import Attributes, NoTracer, Tracer
from app.providers.answers import is_success, name_keys
from app.providers.base import Provider, Request, Response, Sent
from app.providers.body import MAX_BYTES, parse_json
from app.providers.exchange import Answer
from app.providers.transport import WRITING, Repeated, SocketTransport

MAX_TRIES = 3
BASE_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
# Servers drop idle connections after 5 s and up. A request on one that is just being dropped is lost in the
# dark, so we drop it first.
KEEPALIVE_S = 2.0
BUDGET_TIMEOUTS = 2  # a further try begins only if it can end within so many timeouts from the first one's start
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.InvalidURL,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,  # our request cannot be put into bytes
)
# The first that fits; of a cause and the system's own error behind it.
_BREAKS: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "the host's name is not found: `base_url`, or DNS"),
    (ssl.SSLError, "TLS failed: the port speaks none, or another version"),
    (ConnectionRefusedError, "the port is closed: nothing listens there"),
    (httpx2.ConnectTimeout, "no connection in time: a firewall, or the host is down"),
    (httpx2.PoolTimeout, "no connection was free in time: raise `concurrency`"),
)
SHOWN_ANSWERS = 3  # of a provider: its keys tell how to describe it


class _TooLateError(Exception):
    """The deadline passed before the first byte could be written."""


@dataclass(slots=True)
class _Try:
    """A try of a request knows until when its first byte may leave by `read_s`, and whether it may have left.

    `on_leaving` is told just before it does.
    """

    write_before: float | None
    on_leaving: Callable[[], None]
    read_s: Callable[[], float] = time.monotonic
    written: bool = False

    def watch(self, event: str, _info: Mapping[str, Any]) -> None:
        """Take httpcore's trace: the last look at the deadline is here, after connecting and before writing."""
        if event == WRITING:
            if self.write_before is not None and self.read_s() >= self.write_before:
                raise _TooLateError
            self.on_leaving()
            self.written = True


class ProviderClient:
    """Sends messages of one provider; one for each lane.

    `trust`: from `open_trust`; None is the system's. `proxy`: the URL of one that stands in between. `transport`
    replaces the usual one (a test's). `sleep` waits between quick tries and takes seconds; `draw` draws from [0, 1).
    `name`: how spans call it.
    """

    def __init__(
        self,
        *,
        timeout_ms: int,
        concurrency: int,
        trust: ssl.SSLContext | None = None,
        proxy: str | None = None,
        transport: Any = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        name: str = "provider",
        tracer: Tracer | None = None,
    ) -> None:
        self._name = name
        self._tracer = None if isinstance(tracer, NoTracer) else tracer
        self._timeout_s = timeout_ms / 1000
        self._sleep = sleep
        self._draw = draw
        self._shown = 0
        # No client of httpx2's in between: it would cost more than the rest of a request, and it follows redirects and
        # keeps cookies, neither of which may travel with the next message.
        self._transport = transport or SocketTransport(
            concurrency=concurrency, keepalive_s=KEEPALIVE_S, trust=trust, proxy=proxy
        )
        # Connecting gets half the time, so that an answer that is slow to come is not cut off by it.
        half_s = self._timeout_s / 2
        self._limits = {"connect": half_s, "pool": half_s, "read": self._timeout_s}
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"nector-relay/{version('nector-relay')}",
        }
        self._first: tuple[Request | None, Any] = (None, None)  # ours and httpx2's, which stands for all like it

    async def send(
        self,
        provider: Provider,
        message: Message,
        delivery_id: str,
        *,
        write_within_ms: int | None = None,
        tries: int = MAX_TRIES,
        on_leaving: Callable[[], None] = lambda: None,
    ) -> Sent:
        """Ask `provider` to send `message`; never raises but when cancelled.

        Tries again (up to `tries` in all, within two timeouts) only what broke off before it was sent.
        `write_within_ms`: no byte leaves later than that from now on (the message's deadline). `on_leaving` is called
        before the first one does, at each try.
        """
        read_s = asyncio.get_running_loop().time
        began = read_s()
        write_before = None if write_within_ms is None else began + write_within_ms / 1000
        try:
            request = provider.build_request(message, delivery_id)
        except Exception as error:  # noqa: BLE001 - a bug that one message brings out must not stop the others
            return Sent(Rejected(Reason.REQUEST_UNBUILT, detail=_describe_bug(error)), 0)
        trial = _Try(write_before, on_leaving, read_s)
        if self._tracer is None:  # as `_ask` does, but each coroutine more is felt in an event's time
            try:
                answer = await self._transport.handle_async_request(self._prepare(request, trial))
            except Exception as error:  # noqa: BLE001 - as there
                sent = self._judge_break(error, trial, 1)
            else:
                sent = self._judge_answer(provider, answer, 1)
        else:
            sent = await self._try_once(provider, request, trial, 1)
        if isinstance(sent.outcome, Accepted):
            return sent
        if tries > 1 and _is_worth_a_quick_try(sent):
            # tenacity's machinery is for the rare send that needs it: its first try is the one that has been.
            numbers = iter(range(1, tries + 1))

            async def try_next() -> Sent:
                number = next(numbers)
                trial = _Try(write_before, on_leaving, read_s)
                return sent if number == 1 else await self._try_once(provider, request, trial, number)

            sent = await self._retrying(tries, read_s() - began)(try_next)
        outcome = strike_values(sent.outcome, message)
        return sent if outcome is sent.outcome else replace(sent, outcome=outcome)

    async def fetch(self, request: Request, max_bytes: int = MAX_BYTES) -> Response | None:
        """Return the answer to a request that sends nothing (a list of templates), None if it broke off."""
        try:
            outgoing = self._prepare(request, _Try(None, lambda: None), max_bytes)
            return _read(await self._transport.handle_async_request(outgoing), max_bytes)
        except Exception:  # noqa: BLE001 - to the caller every way of breaking off is the same
            return None

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def _retrying(self, tries: int, spent_s: float) -> AsyncRetrying:
        # A new one for every send: it keeps the state of its run, and sends run side by side.
        return AsyncRetrying(
            retry=retry_if_result(_is_worth_a_quick_try),
            stop=stop_after_attempt(tries) | stop_before_delay(self._timeout_s * (BUDGET_TIMEOUTS - 1) - spent_s),
            wait=lambda state: self._draw() * min(BASE_WAIT_S * 2.0 ** (state.attempt_number - 1), LONGEST_WAIT_S),
            sleep=self._sleep,
            # called when it stops, which it does only after a result
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )

    def _try_once(self, provider: Provider, request: Request, trial: _Try, tries: int) -> Awaitable[Sent]:
        if self._tracer is None:
            return self._ask(provider, request, trial, tries)
        return self._ask_traced(self._tracer, provider, request, trial, tries)

    async def _ask_traced(self, tracer: Tracer, provider: Provider, request: Request, trial: _Try, tries: int) -> Sent:
        # No traceparent goes along: the vendor is no part of our traces, and a header that its API does not know is a
        # way to be refused. Of the URL only the host: its path may hold an account's id, its query a token.
        attributes: Attributes = {
            "http.request.method": request.method,
            "server.address": _read_host(request.url),
            "relay.try": tries,
        }
        with tracer.open_span(f"{request.method} {self._name}", attributes, kind="client") as span:
            sent = await self._ask(provider, request, trial, tries)
            if sent.http_status is not None:
                span.note({"http.response.status_code": sent.http_status})
            if not isinstance(sent.outcome, Accepted):
                span.fail(sent.outcome.reason.value)
        return sent

    async def _ask(self, provider: Provider, request: Request, trial: _Try, tries: int) -> Sent:
        try:
            answer = await self._transport.handle_async_request(self._prepare(request, trial))
        except Exception as error:  # noqa: BLE001 - whatever breaks in a transport, the attempt comes to an outcome
            return self._judge_break(error, trial, tries)
        return self._judge_answer(provider, answer, tries)

    def _judge_answer(self, provider: Provider, answer: Answer, tries: int) -> Sent:
        try:
            response = _read(answer)
            return Sent(provider.read_response(response), tries, response.status, self._name_keys(response))
        except Exception as error:  # noqa: BLE001 - as above; the provider may have taken it
            return Sent(Uncertain(Reason.ANSWER_UNREADABLE, _describe_bug(error)), tries, answer.status_code)

    def _prepare(self, request: Request, trial: _Try, max_bytes: int = MAX_BYTES) -> Repeated:
        ours, first = self._first
        if ours is None or ours.url != request.url or ours.headers != request.headers or ours.method != request.method:
            first = self._make_first(request)
        extensions = {"trace": trial.watch, "timeout": self._limits, "longest": max_bytes}
        return Repeated(first, request.body, extensions)

    def _make_first(self, request: Request) -> httpx2.Request:
        """Return a request as httpx2 wants it, without its body; all that follow mostly agree with it."""
        named = {name.lower() for name in request.headers}
        defaults = {name: value for name, value in self._headers.items() if name not in named}
        url = httpx2.URL(request.url)
        headers = {**defaults, **request.headers, "host": url.netloc.decode("ascii")}
        first = httpx2.Request(request.method, url, headers=headers, stream=httpx2.ByteStream(b""))
        self._first = request, first
        return first

    def _name_keys(self, response: Response) -> Sequence[str]:
        if self._shown >= SHOWN_ANSWERS or not is_success(response.status):
            return ()
        self._shown += 1
        return name_keys(parse_json(response.body))

    def _judge_break(self, error: Exception, trial: _Try, tries: int) -> Sent:
        # The error's own text may hold the URL or a header: only its kind is kept.
        outcome: Outcome = Uncertain(Reason.CONNECTION_LOST, type(error).__name__)
        if isinstance(error, _TooLateError):
            outcome = Retryable(Reason.DEADLINE_PASSED, detail="connecting took until the deadline")
        elif isinstance(error, _NEVER_SENT) or not trial.written:
            outcome = Retryable(Reason.CONNECT_FAILED, Scope.MESSAGE, detail=_describe_break(error))
        elif isinstance(error, TimeoutError | httpx2.TimeoutException):
            outcome = Uncertain(Reason.TIMED_OUT, TimeoutError.__name__)
        return Sent(outcome, tries)


def _read_host(url: str) -> str:
    try:
        return httpx2.URL(url).host
    except httpx2.InvalidURL:  # what cannot be sent is told by whoever tries
        return ""


def open_trust(url: str, ca_file: Path | None = None) -> ssl.SSLContext:
    """Return whom TLS connections to this URL trust, those of `ca_file` too: nobody where it is not https."""
    if url.startswith("https:"):  # reading the system's authorities takes 40 ms
        trust: ssl.SSLContext = httpx2.create_ssl_context(trust_env=False)
        if ca_file is not None:
            trust.load_verify_locations(ca_file)
        return trust
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _read(answer: Answer, max_bytes: int = MAX_BYTES) -> Response:
    """Return the answer, its body as it came; nothing of one that is packed (a bomb?) or longer than `max_bytes`."""
    body = answer.body if len(answer.body) <= max_bytes else b""
    if b"content-encoding" in map(bytes.lower, dict(answer.lines)):
        packings = answer.headers.get_list("content-encoding", split_commas=True)
        if any(each.lower() not in {"", "identity"} for each in packings):
            body = b""
    return Response(answer.status_code, _Lines(answer), body)


class _Lines(Mapping[str, str]):
    """An answer's headers, read when somebody asks for one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __getitem__(self, name: str) -> str:
        return self._answer.headers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answer.headers)

    def __len__(self) -> int:
        return len(self._answer.headers)


def strike_values(outcome: Outcome, message: Message) -> Outcome:
    """Return the outcome without the message's own values, which a provider may repeat in its refusal."""
    if isinstance(outcome, Accepted) or not outcome.detail:
        return outcome
    return replace(outcome, detail=strike_message(outcome.detail, message))


def _describe_bug(error: Exception) -> str:
    return f"{type(error).__name__} at {find_place(error)}"  # its text may hold a customer's data


def _describe_break(error: Exception) -> str:
    """Return which part of connecting failed: the name, the port or the certificate."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the provider's TLS certificate cannot be verified"
    causes = [error, *filter(None, (error.__cause__, getattr(error.__cause__, "os_error", None)))]
    for kind, told in _BREAKS:
        if any(isinstance(cause, kind) for cause in causes):
            return told
    number = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    return f"{type(error).__name__}: {os.strerror(number)}" if number else type(error).__name__


def _is_worth_a_quick_try(sent: Sent) -> bool:
    return isinstance(sent.outcome, Retryable) and sent.outcome.reason is Reason.CONNECT_FAILED
