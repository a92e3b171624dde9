"""The guard around the whole application: no body is read of a request that cannot be right."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from itertools import chain
from typing import TypeAlias

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import PRIVATE, RETRY_AFTER_S, Refused, problem, show_failure, unauthorised
from app.api.bounds import BUDGET, CLOSE, Budget, CountedBody, FailureLimit, Pass, find_header, list_header
from app.clock import Clock
from app.errors import Mistake
from app.observe.logs import LineLimit
from app.observe.metrics import FORGED, OTHER
from app.relay.context import Shared
from app.sources import SOURCE
from app.values.address import Address, find_client, name_customer

WEBHOOK, RECEIPT, OPS = "webhook", "receipt", "ops"
PATH = f"/webhooks/{SOURCE.name}"
RECEIPTS = "/webhooks/"
PUBLIC = frozenset({"/healthz", "/readyz"})
TOO_MANY = 429
PRIVATE_HEADERS = [(name.lower().encode(), value.encode()) for name, value in PRIVATE.items()]


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
_OUR_WORDS = frozenset({"webhook", "webhooks", SOURCE.name})
_PROBES = frozenset({"GET", "HEAD", "OPTIONS"})
_ALLOW = {"Allow": "GET, HEAD, OPTIONS, POST"}


_PASSES = {
    WEBHOOK: Pass(WEBHOOK, 64 * 1024),
    OPS: Pass(OPS, 1024 * 1024),
    # Signed over the body: a stranger can have it read, and must leave room for those who showed a secret.
    RECEIPT: Pass(RECEIPT, 4 * 1024 * 1024, BUDGET // 2),
}


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
        metrics.expect_refusals([*CURES, (OPS, Stray.TOO_LONG), (OPS, Stray.BUSY)])

    def check(self, scope: Scope) -> Pass | Response:
        """Return what a request may do, or the answer to one that is refused."""
        path = scope["path"]
        if self._is_apart and path not in PUBLIC and (refused := self._refuse_elsewhere(scope, path)) is not None:
            return refused
        if path == PATH:
            return self._check_webhook(scope)
        if path in PUBLIC:
            return _PASSES[OPS]
        return self._check_receipt(scope, path) if path.startswith(RECEIPTS) else self._check_ops(scope)

    def note(self, scope: Scope, kind: str, reason: Mistake | Stray, **of: str) -> str | None:
        """Count a request that is refused, and tell of the first of a minute. Return its client's name."""
        client = self._find_client(scope)
        address = name_customer(client) if client else None
        self.metrics.requests_refused.labels(kind, reason).inc()
        cure = CURES.get((kind, reason))
        self._shared.turned_away.note(kind, reason.value, cure or "", self._shared.clock())
        if cure and (untold := self._lines.count((kind, reason, *of.values()), self._clock())) is not None:
            said = {**of, "kind": kind, "reason": reason.value, "cure": cure, "address": address, "untold": untold}
            path = {"path": _mask_path(scope["path"])} if reason is Stray.PATH else {}
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
        return _PASSES[WEBHOOK]

    def _check_receipt(self, scope: Scope, path: str) -> Pass | Response:
        name = path.removeprefix(RECEIPTS)
        provider = self._shared.snapshot.providers.get(name) if self._takes_receipts else None
        if provider is None:
            return self._refuse_path(scope, "no provider of this name is configured")
        query = QueryParams(scope["query_string"]) if scope["query_string"] else {}
        if scope["method"] == "GET" and "hub.mode" in query:
            return _PASSES[RECEIPT]
        if scope["method"] != "POST":
            return self._answer_other(scope, RECEIPT)
        headers, _ = scope["relay.proof"] = read_headers(scope), query  # for the endpoint, too
        mistake = provider.read_proof(headers, query).find_mistake()
        if mistake is not None:
            self.metrics.receipts.inc(name, FORGED)
            return self.refuse(scope, RECEIPT, mistake, provider=name)
        return _PASSES[RECEIPT]

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
            return _PASSES[OPS]
        if not self._token or not self._is_ops(scope):
            return self._refuse_path(scope, "not found")
        return self.refuse(scope, OPS, Mistake.OTHER if given else Mistake.MISSING)


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


def _mask_path(path: str) -> str:
    """Return a path of which only our own words are told: a stranger may put anything into it, a name or a token."""
    parts = (part if part.lower() in _OUR_WORDS else "*" * len(part) for part in path[:60].split("/"))
    return "/".join(parts)


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case; of one that comes twice the first."""
    # Starlette's own mapping searches its list for every key: the square of what a stranger sends.
    headers = scope["headers"]
    texts = b"\n".join(chain.from_iterable(reversed(headers))).decode("latin-1").split("\n")  # which no header holds
    return dict(zip(texts[::2], texts[1::2], strict=False))
