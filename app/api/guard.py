"""The guard around the whole application: no body is read of a request that cannot be right."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import PRIVATE, RETRY_AFTER_S, Refused, problem, show_failure, unauthorised, unavailable
from app.api.strangers import (
    CLOSE,
    CURES,
    OPS,
    PASSES,
    PATH,
    RECEIPT,
    RECEIPTS,
    WEBHOOK,
    FailureLimit,
    Pass,
    Stray,
    find_header,
    list_header,
    mask_path,
)
from app.clock import Clock
from app.errors import Mistake
from app.model.value import dataclass
from app.observe.logs import LineLimit
from app.observe.metrics import FORGED, OTHER
from app.relay import Shared
from app.sources import SOURCE
from app.values.address import Address, find_client, name_customer

PUBLIC = frozenset({"/healthz", "/readyz"})
TOO_MANY = 429
PRIVATE_HEADERS = [(name.lower().encode(), value.encode()) for name, value in PRIVATE.items()]
_PROBES = frozenset({"GET", "HEAD", "OPTIONS"})
_ALLOW = {"Allow": "GET, HEAD, OPTIONS, POST"}


class Admission:
    """Tells which requests are let in, and reports those that are not.

    `is_ops` tells whether there is such an ops path. `clock` is none that can be set.
    """

    def __init__(self, shared: Shared, is_ops: Callable[[Scope], bool], clock: Clock) -> None:
        settings = shared.settings
        token = settings.admin_token
        self._token = token.get_secret_value().encode() if token else b""
        self._trusted, self._allowed = settings.trusted_proxies, settings.nector_addresses
        self._asks_for_secret = settings.asks_for_secret
        self._is_apart = settings.ops_bind is not None
        self.ops_at: tuple[str, int] | None = None  # where the ops API listens, if it has an address of its own
        self._takes_receipts = not settings.stateless
        self._shared = shared
        self._is_ops = is_ops
        self._clock = clock
        self.metrics = metrics = shared.metrics
        self._failures = FailureLimit()
        self.budget = Budget()  # of every way in
        self._lines = LineLimit()
        for kind, reason in (*CURES, (OPS, Stray.TOO_LONG), (OPS, Stray.BUSY)):
            metrics.requests_refused.expect([kind], [reason])

    def check(self, scope: Scope) -> Pass | Response:
        """Return what a request may do, or the answer to one that is refused."""
        path = scope["path"]
        if self._is_apart and path not in PUBLIC and (refused := self._refuse_elsewhere(scope, path)) is not None:
            return refused
        if path == PATH:
            return self._check_webhook(scope)
        if path in PUBLIC:
            return PASSES[OPS]
        return self._check_receipt(scope, path) if path.startswith(RECEIPTS) else self._check_ops(scope)

    def note(self, scope: Scope, kind: str, reason: Mistake | Stray, **of: str) -> str | None:
        """Count a request that is refused, and tell of the first of a minute. Return its client's name."""
        client = self._find_client(scope)
        address = name_customer(client) if client else None
        self.metrics.requests_refused.inc(kind, reason)
        cure = CURES.get((kind, reason))
        self._shared.turned_away.note(kind, reason.value, cure or "", self._shared.clock())
        if cure and (untold := self._lines.count((kind, reason, *of.values()), self._clock())) is not None:
            said = {**of, "kind": kind, "reason": reason.value, "cure": cure, "address": address, "untold": untold}
            path = {"path": mask_path(scope["path"])} if reason is Stray.PATH else {}
            self._shared.log.warning("request.refused", **said, **path)
        return address

    def refuse(self, scope: Scope, kind: str, mistake: Mistake | Stray, **of: str) -> Response:
        """Return the answer to a request that failed its check, having counted it: 401, or 429 after too many."""
        address = self.note(scope, kind, mistake, **of)
        # Only who has failed is counted, and only what fails is limited: nobody can shut out a right secret.
        if address is not None and self._failures.count(address, self._clock()):
            detail = "too many requests that were not authorised"
            return problem(TOO_MANY, detail, {"Retry-After": str(RETRY_AFTER_S)})
        return unauthorised()

    def _find_client(self, scope: Scope) -> Address | None:
        peer = scope.get("client")
        return find_client(peer[0], list_header(scope, b"x-forwarded-for"), self._trusted) if peer else None

    def _refuse_elsewhere(self, scope: Scope, path: str) -> Response | None:
        """Return the answer to a webhook at the address of the ops API, and to the ops API at the other one."""
        host, port = scope.get("server") or ("", None)
        at = self.ops_at
        is_ops = at is not None and port == at[1] and at[0] in {host, "0.0.0.0", "::"}  # noqa: S104  # any of them
        if not path.startswith(RECEIPTS):
            return None if is_ops else self._refuse_path(scope, "not found")
        return problem(404, "webhooks come to the relay's other address") if is_ops else None

    def _answer_other(self, scope: Scope, kind: str) -> Response:
        """Return the answer to what is no POST: dashboards try a webhook's URL before they take it."""
        if scope["method"] == "OPTIONS":
            return Response(status_code=204, headers=_ALLOW)
        if scope["method"] in _PROBES:
            return Response('{"status":"ok"}', headers=_ALLOW, media_type="application/json")
        self.note(scope, kind, Stray.METHOD)
        return problem(405, "webhooks come by POST", _ALLOW)

    def _check_webhook(self, scope: Scope) -> Pass | Response:
        if scope["method"] != "POST":
            return self._answer_other(scope, WEBHOOK)
        if self._allowed:
            client = self._find_client(scope)
            if client is None or not any(client in network for network in self._allowed):
                refused = self.refuse(scope, WEBHOOK, Stray.ADDRESS)
                is_limited = refused.status_code == TOO_MANY
                return refused if is_limited else problem(403, "webhooks are not taken from this address")
        headers = scope["relay.headers"] = read_headers(scope)  # for the endpoint, too
        if self._asks_for_secret:
            mistake = SOURCE.find_mistake(headers, self._shared.secrets)
            if mistake is not None:
                self.metrics.events.inc(OTHER, "unauthorised")
                return self.refuse(scope, WEBHOOK, mistake)
        if (fault := _find_media_fault(headers)) is not None:
            self.metrics.events.inc(OTHER, "refused")
            self.note(scope, WEBHOOK, Stray.MEDIA_TYPE)
            return problem(415, fault)
        return PASSES[WEBHOOK]

    def _check_receipt(self, scope: Scope, path: str) -> Pass | Response:
        name = path.removeprefix(RECEIPTS)
        provider = self._shared.snapshot.providers.get(name) if self._takes_receipts else None
        if provider is None:
            return self._refuse_path(scope, "no provider of this name is configured")
        query = QueryParams(scope["query_string"]) if scope["query_string"] else {}
        if scope["method"] == "GET" and "hub.mode" in query:
            return PASSES[RECEIPT]
        if scope["method"] != "POST":
            return self._answer_other(scope, RECEIPT)
        headers, _ = scope["relay.proof"] = read_headers(scope), query  # for the endpoint, too
        mistake = provider.read_proof(headers, query).find_mistake()
        if mistake is not None:
            self.metrics.receipts.inc(name, FORGED)
            return self.refuse(scope, RECEIPT, mistake, provider=name)
        return PASSES[RECEIPT]

    def _refuse_path(self, scope: Scope, detail: str) -> Response:
        """Return the answer to a path that is none; a webhook's that is misspelt is told of."""
        asked = re.sub("/+", "/", scope["path"].lower().rstrip("/"))
        if asked.startswith("/webhook"):
            self.note(scope, WEBHOOK if asked.endswith(SOURCE.name) else RECEIPT, Stray.PATH)
        return problem(404, detail)

    def _check_ops(self, scope: Scope) -> Pass | Response:
        """Let in who has the token; whatever is not public needs it, also a path that is added one day."""
        scheme, _, given = (find_header(scope, b"authorization") or "").partition(" ")
        is_same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if is_same and scheme.lower() == "bearer" and self._token:
            return PASSES[OPS]
        if not self._token or not self._is_ops(scope):
            return self._refuse_path(scope, "not found")
        return self.refuse(scope, OPS, Mistake.OTHER if given else Mistake.MISSING)


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


class Guard:
    """The ASGI middleware: refuses before a body is read, and counts the bytes of those that are."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        # A dashboard's field may add a slash, and nothing is redirected.
        if path.endswith("/") and path.startswith(RECEIPTS):
            scope = {**scope, "path": path[:-1]}
        allowed = self._admission.check(scope)
        if isinstance(allowed, Response):
            await _close(allowed)(scope, receive, send)
            return

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start" and PRIVATE_HEADERS[0] not in message["headers"]:
                message["headers"] = [*message["headers"], *PRIVATE_HEADERS]
            await send(message)

        body = CountedBody(allowed, self._admission.budget)
        try:
            await self._app(scope, body.count(receive, scope), send_private)
        finally:
            body.release()
            if body.refused:
                self._admission.note(scope, allowed.kind, Stray(body.refused))


Body: TypeAlias = bytes | Response | Receive
"""The whole body of a request, the answer to one that is too much, or what brings it."""


class Door:
    """The guard of a path that answers with one Response, and all of the layers between the server and that path.

    `endpoint`: answers, and every answer of its is private.
    """

    def __init__(self, admission: Admission, endpoint: Callable[[Scope, Body], Awaitable[Response]]) -> None:
        self._admission = admission
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application does."""
        try:
            response = await self.answer(scope, receive)
        except Exception as error:
            await (await show_failure(None, error))(scope, receive, send)
            raise  # for the server, which logs it
        await response(scope, receive, send)

    async def answer(self, scope: Scope, body: bytes | Receive) -> Response:
        """Return the answer to a request; `body`: the whole of it, or what brings it."""
        allowed = self._admission.check(scope)
        if isinstance(allowed, Response):
            return _close(allowed)
        counted = CountedBody(allowed, self._admission.budget)
        try:
            given = counted.take(body) or body if isinstance(body, bytes) else counted.count(body, scope)
            return await self._endpoint(scope, given)
        finally:
            counted.release()
            if counted.refused:
                self._admission.note(scope, allowed.kind, Stray(counted.refused))


async def read_body(body: Body) -> bytes | Response:
    """Return the body, or the answer to one that is too long or broke off."""
    if isinstance(body, bytes | Response):
        return body
    parts, more = [], True
    try:
        while more:
            message = await body()
            if message["type"] == "http.disconnect":
                return problem(400, "the request ended before its body did")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
    except Refused as error:
        return error.answer
    return b"".join(parts)


def _close(refused: Response) -> Response:
    """Have the answer to a request whose body is not read end its connection."""
    refused.headers.update(CLOSE)
    refused.headers.update(PRIVATE)
    return refused


def _find_media_fault(headers: Mapping[str, str]) -> str | None:
    if headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        return "content-encoding: send the body uncompressed"
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "content-type: send application/json"
    return None


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case; of one that comes twice the first."""
    # Starlette's own mapping searches its list for every key: the square of what a stranger sends.
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
