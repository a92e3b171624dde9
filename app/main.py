"""The only place that wires: settings become a relay, a relay becomes an ASGI application."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Lifespan, Receive, Scope, Send

from app.api import health, ops, receipts, webhooks
from app.api.guard import RECEIPT, Admission, Guard
from app.api.problems import problem, unavailable
from app.api.reading import BodyRefused
from app.clock import Clock, SteadyClock, read_clock, read_uptime
from app.errors import ConfigError, Mistake, is_passing
from app.observe.logs import Log, configure_logs
from app.observe.tracing import NoTracer, Tracer, wants_tracing
from app.outbox.sqlite.store import SqliteStore
from app.outbox.store import Store
from app.providers.base import Provider
from app.relay.relay import Relay
from app.relay.snapshot import load_snapshot
from app.settings import PREFIX, Settings, find_quoted, read_environment, read_settings, unknown_names


def create_app(
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    on_dead: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """Return the relay as an ASGI application; its lifespan opens the outbox and runs the lanes.

    `on_dead` is told when a part that must live has died; the process should then end. Raises ConfigError
    with everything that is wrong in the settings and the YAML.
    """
    relay = build_relay(settings, environment, on_dead=on_dead)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await relay.open()
        try:
            yield
        finally:
            await relay.close()

    app = _build_bare(lifespan)
    app.state.relay = relay
    app.router.routes.append(Route(webhooks.PATH, webhooks.WebhookDoor(relay.intake), methods=["POST"]))

    @cache  # and not before it is asked for: a start would take 13 % more processor time
    def build_whole() -> FastAPI:
        return _build_whole(relay, admission)

    async def answer_whole(scope: Scope, receive: Receive, send: Send) -> None:
        await build_whole()(scope, receive, send)

    admission = _build_admission(relay, build_whole)
    app.add_middleware(Guard, admission)
    _add_webhooks(app, relay, admission)
    app.mount("", answer_whole)
    return app


def build_relay(
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    on_dead: Callable[[BaseException], None] | None = None,
) -> Relay:
    """Return the relay, not yet started, its outbox opened; raises ConfigError, StoreInUse, StoreBroken."""
    environment = read_environment() if environment is None else environment
    settings = read_settings(environment) if settings is None else settings
    refuse_open_door(settings)
    snapshot, warnings = load_snapshot(settings, environment)
    log = configure_logs(settings.log_level, settings.log_format)
    for name in unknown_names(environment):
        log.warning("setting.unknown", name=name, cure="see .env.example for the names there are")
    quoted = [f"{PREFIX}{name.upper()}" for name in find_quoted(settings)]
    accounts = snapshot.config.providers.items()
    for name in (*quoted, *(f"providers.{account}.{name}" for account, keys in accounts for name in find_quoted(keys))):
        log.warning("setting.quoted", name=name, cure="a quote or a blank stands around its value: leave it out")
    for warning in warnings:
        log.warning("config.warning", line=warning.line, detail=warning.message)
    tracer = _open_tracer(environment, log)
    outbox, clock = _open_outbox(settings, log)
    return Relay(
        settings,
        environment,
        snapshot,
        log,
        outbox,
        clock,
        random=random.random,
        on_dead=on_dead or _do_nothing,
        tracer=tracer,
    )


def _open_outbox(settings: Settings, log: Log) -> tuple[Store | None, Clock]:
    """Return the store and the clock that goes with it. Raises StoreInUse, StoreBroken."""
    if settings.stateless:
        return None, read_clock  # nothing waits: each message's fate is known in seconds, by the wall clock
    clock = SteadyClock()
    store = SqliteStore(settings.database_path, clock)
    if store.was_missing:
        cure = "if nobody meant to remove it, stop and restore a backup, see Backup in docs/runbook.md"
        log.warning("outbox.missing", place=str(store.path), cure=cure)
    return store, clock


def _open_tracer(environment: Mapping[str, str], log: Log) -> Tracer:
    """Return what the settings ask for; the SDK is imported only where they do, and may not be there."""
    if not wants_tracing(environment):
        return NoTracer()
    try:
        from app.observe.otel import open_tracer  # noqa: PLC0415
    except ImportError:
        cure = "install the extra: pip install '.[otel]', or build the image with --build-arg EXTRAS=otel"
        log.warning("tracing.off", detail="a collector is set, and OpenTelemetry's SDK is not installed", cure=cure)
        return NoTracer()
    return open_tracer(environment, log)


def refuse_open_door(settings: Settings) -> None:
    """Raise ConfigError where anybody could post events: a relay spends its merchant's money."""
    if not settings.secrets and not settings.insecure_no_auth:
        raise ConfigError(
            "RELAY_NECTOR_SECRETS is not set, so anybody could post events. Set it to the webhook secret from Nector's "
            "dashboard (or, for a trial on your own machine only, RELAY_INSECURE_NO_AUTH=true)"
        )


def _build_bare(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Return an application without a path, whose every error is a problem of ours."""
    app = FastAPI(
        title="nector-relay",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own puts query strings (BiteSpeed's token) into spans and exceptions' texts into logs, and one
        # variable of the environment would switch it on. Ours: app/observe/tracing.py.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(Exception, _show_failure)
    return app


def _build_admission(relay: Relay, build_whole: Callable[[], FastAPI]) -> Admission:
    def find_provider(name: str) -> Provider | None:
        return relay.rules.current().providers.get(name) if relay.receipt_desk is not None else None

    def has_path(scope: Scope) -> bool:
        asked = {**scope, "path": scope["path"].rstrip("/")}
        return any(route.matches(asked)[0] is not Match.NONE for route in build_whole().routes)

    return Admission(relay.settings, find_provider, has_path, read_uptime, relay.metrics, relay.log)


def _add_webhooks(app: FastAPI, relay: Relay, admission: Admission) -> None:
    app.include_router(health.build_router(relay.is_alive, relay.can_commit, relay.config_hash, read_uptime))
    if relay.receipt_desk is not None:
        app.include_router(
            receipts.build_router(relay.receipt_desk, partial(admission.refuse, kind=RECEIPT, mistake=Mistake.OTHER))
        )


def _build_whole(relay: Relay, admission: Admission) -> FastAPI:
    """Return what is asked for seldom, and a description of every path there is."""
    from app.api import examples, privacy, replay, report, sendtest, suppressions  # noqa: PLC0415  # as late as it is built

    app = _build_bare()
    _add_webhooks(app, relay, admission)
    app.include_router(ops.build_metrics_router(relay.metrics, relay.count))
    if relay.ops_desk is not None:
        for paths in (ops, report, privacy, suppressions):
            app.include_router(paths.build_router(relay.ops_desk))
        app.include_router(examples.build_router(relay.ops_desk.outbox))
    if relay.replayer is not None:
        app.include_router(replay.build_router(relay.replayer))
    if relay.tester is not None:
        app.include_router(sendtest.build_router(relay.tester))
    ops.add_docs(app, webhooks.describe_path)
    return app


def _do_nothing(_error: BaseException) -> None:
    """Leave the end of the process to whoever runs the application."""


async def _show_http_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, BodyRefused):
        return error.answer
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    return problem(status, HTTPStatus(status).phrase.lower() if status != 401 else "not authorised", headers)  # noqa: PLR2004  # the status itself is the clearest name


async def _show_invalid(_request: Request, error: Exception) -> Response:
    """Name the fields that are wrong and never what stood in them."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return problem(422, "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults))


async def _show_failure(_request: Request, error: Exception) -> Response:
    if is_passing(error):
        return unavailable("too many files are open; try again")
    return problem(500, "an unexpected failure; the log has its place")
