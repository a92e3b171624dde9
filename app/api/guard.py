"""The guard around the whole application: no body is read of a request that cannot be right."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.limiting import FailureLimit, LineLimit
from app.api.problems import problem, too_many, unauthorised
from app.api.reading import BUDGET, CLOSE, BodyBudget, CountedBody, find_header, list_header, read_headers
from app.api.webhooks import PATH
from app.clock import Clock
from app.observe.logs import Log
from app.observe.metrics import FORGED, OTHER, Metrics
from app.providers.base import Provider
from app.settings import Settings
from app.sources.signature import Mistake, find_secret_mistake
from app.values.address import find_client, name_customer

WEBHOOK, RECEIPT, OPS = "webhook", "receipt", "ops"
RECEIPTS = "/webhooks/"
PUBLIC = frozenset({"/healthz", "/readyz"})
CURES: Mapping[tuple[str, Mistake], str] = {
    (WEBHOOK, Mistake.MISSING): "no x-nector-webhook-secret: set it in Nector's dashboard, let proxies pass it on",
    (WEBHOOK, Mistake.PLAIN): "the secret itself came: send its SHA-256 in hex, as Nector does",
    (WEBHOOK, Mistake.OTHER): "another secret's hash: put that of Nector's dashboard into RELAY_NECTOR_SECRETS",
    (OPS, Mistake.MISSING): "send Authorization: Bearer and the value of RELAY_ADMIN_TOKEN",
    (OPS, Mistake.OTHER): "the token is not the RELAY_ADMIN_TOKEN that the relay was started with",
    (RECEIPT, Mistake.MISSING): "no signature or token: set it up at the provider, let proxies pass it on",
    (RECEIPT, Mistake.MALFORMED): "the signature is not written as the YAML says (webhook_signature)",
    (RECEIPT, Mistake.OTHER): "another secret or token: compare the YAML's with the provider's dashboard",
    (RECEIPT, Mistake.UNSET): "the YAML has no webhook_secret or webhook_token for it, so nothing can be believed",
}
"""What can be wrong on which kind of path, and what helps."""


class Pass(NamedTuple):
    """How much may be read of a request, and to how much of the budget it may bring all that are open."""

    kind: str
    longest: int
    most: int = BUDGET


_PASSES = {
    WEBHOOK: Pass(WEBHOOK, 64 * 1024),
    OPS: Pass(OPS, 1024 * 1024),
    # Signed over the body: a stranger can have it read, and must leave room for those who showed a secret.
    RECEIPT: Pass(RECEIPT, 4 * 1024 * 1024, BUDGET // 2),
}


class Admission:
    """Tells which requests are let in, and reports those that are not.

    `find_provider` returns an account of the YAML by its name; `is_ops` tells whether there is such an ops path.
    """

    def __init__(
        self,
        settings: Settings,
        find_provider: Callable[[str], Provider | None],
        is_ops: Callable[[Scope], bool],
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._secrets = settings.secrets
        token = settings.admin_token
        self._token = token.get_secret_value().encode() if token else b""
        self._trusted = settings.trusted_proxies
        self._find_provider = find_provider
        self._is_ops = is_ops
        self._clock = clock
        self.metrics = metrics
        self._log = log
        self._failures = FailureLimit()
        self._lines = LineLimit()
        metrics.expect_refusals([*CURES, *((kind, reason) for kind in _PASSES for reason in ("too_long", "busy"))])

    def check(self, scope: Scope) -> Pass | Response:
        """Return what a request may do, or the answer to one that is refused."""
        path = scope["path"]
        if path == PATH:
            return self._check_webhook(scope)
        if path in PUBLIC:
            return _PASSES[OPS]
        return self._check_receipt(scope, path) if path.startswith(RECEIPTS) else self._check_ops(scope)

    def refuse(self, scope: Scope, kind: str, mistake: Mistake, **of: str) -> Response:
        """Return the answer to a request that failed its check, having counted it: 401, or 429 after too many."""
        now = self._clock()
        peer = scope.get("client")
        client = find_client(peer[0], list_header(scope, b"x-forwarded-for"), self._trusted) if peer else None
        address = name_customer(client) if client else None
        self.metrics.requests_refused.labels(kind, mistake).inc()
        if (untold := self._lines.count((kind, mistake, *of.values()), now)) is not None:
            cure = CURES[kind, mistake]
            said = {**of, "kind": kind, "reason": mistake.value, "cure": cure, "address": address, "untold": untold}
            self._log.warning("request.refused", **said)
        # Only who has failed is counted, and only what fails is limited: nobody can shut out a right secret.
        return too_many() if address is not None and self._failures.count(address, now) else unauthorised()

    def _check_webhook(self, scope: Scope) -> Pass | Response:
        if self._secrets and scope["method"] == "POST":
            mistake = find_secret_mistake(find_header(scope, b"x-nector-webhook-secret"), self._secrets)
            if mistake is not None:
                self.metrics.events.labels(OTHER, "unauthorised").inc()
                return self.refuse(scope, WEBHOOK, mistake)
        return _PASSES[WEBHOOK]

    def _check_receipt(self, scope: Scope, path: str) -> Pass | Response:
        name = path.removeprefix(RECEIPTS)
        provider = self._find_provider(name)
        if provider is None:
            return problem(404, "no provider of this name is configured")
        if scope["method"] == "POST":
            mistake = provider.find_receipt_mistake(read_headers(scope), QueryParams(scope["query_string"]))
            if mistake is not None:
                self.metrics.receipts.labels(name, FORGED).inc()
                return self.refuse(scope, RECEIPT, mistake, provider=name)
        return _PASSES[RECEIPT]

    def _check_ops(self, scope: Scope) -> Pass | Response:
        """Let in who has the token; whatever is not public needs it, also a path that is added one day."""
        scheme, _, given = (find_header(scope, b"authorization") or "").partition(" ")
        is_same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if is_same and scheme.lower() == "bearer" and self._token:
            return _PASSES[OPS]
        if not self._token or not self._is_ops(scope):
            return problem(404, "not found")
        return self.refuse(scope, OPS, Mistake.OTHER if given else Mistake.MISSING)


class Guard:
    """The ASGI middleware: refuses before a body is read, and counts the bytes of those that are."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission
        self._budget = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        # A dashboard's field may add a slash, and nothing is redirected.
        if path.endswith("/") and path.startswith(RECEIPTS):
            scope = {**scope, "path": path[:-1]}
        admitted = self._admission.check(scope)
        if isinstance(admitted, Response):
            admitted.headers.update(CLOSE)
            await admitted(scope, receive, send)
            return
        kind, longest, most = admitted
        body = CountedBody(receive, find_header(scope, b"content-length"), longest, self._budget, most)
        try:
            await self._app(scope, body, send)
        finally:
            body.release()
            if body.refused:
                self._admission.metrics.requests_refused.labels(kind, body.refused).inc()
