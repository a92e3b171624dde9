"""The only place that wires: settings become a relay, a relay becomes an ASGI application."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import cache, partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Lifespan, Receive, Scope, Send

from app.api import health, show_errors, webhooks
from app.api.guard import Admission, Body, Door, Guard
from app.api.strangers import PATH, RECEIPT, RECEIPTS
from app.clock import WatchedClock, new_uuid7, read_clock, read_uptime
from app.errors import ConfigError, Mistake
from app.files import find_quoted
from app.mapping import Problem
from app.model.value import dataclass
from app.observe import NoTracer, Tracer, wants_tracing
from app.observe.logs import Log, PromptReports, Reports, configure_logs
from app.observe.metrics import Metrics
from app.outbox.sqlite.sidecars import open_flights
from app.outbox.sqlite.store import SqliteStore
from app.outbox.store import Flights, Store
from app.providers import PROVIDER_TYPES, open_client, open_plain_client
from app.providers.base import OpenSender
from app.relay import Context, Relay, Shared, Snapshot
from app.relay.dispatcher import Dispatcher, OutboxRelay, report_restored
from app.relay.intake import Take, store_event
from app.relay.notify import Notifier
from app.relay.recorder import Recorder
from app.relay.reload import Keyring, Rules, load_snapshot, warn_short
from app.relay.stateless import StatelessRelay
from app.settings import PREFIX, Settings, read_environment, read_sound_settings, unknown_names

TakeReceipts = Callable[[Scope, Body], Awaitable[Response]]
OnDead = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class Wired:
    """A relay of either mode, with what only that mode has.

    `build_receipts` gets the answer to a receipt that is not genuine. `build_ops` returns the paths of the ops API.
    """

    relay: Relay
    take: Take
    build_receipts: Callable[[Callable[..., Response]], tuple[APIRouter, TakeReceipts]] | None
    build_ops: Callable[[], Iterable[APIRouter]]


def create_app(
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    on_dead: OnDead | None = None,
) -> FastAPI:
    """Return the relay as an ASGI application; its lifespan opens the outbox and runs the lanes.

    `on_dead` is told when a part that must live has died; the process should then end. Raises ConfigError
    with everything that is wrong in the settings and the YAML, StoreInUse, StoreBroken.
    """
    environment = read_environment() if environment is None else environment
    settings, snapshot, warnings = _read_all(settings, environment)
    tracers: list[Tracer] = []  # opened once there is a log to say so
    stamp = (lambda: "".join(one.read_traceparent() for one in tracers)) if wants_tracing(environment) else None
    log = configure_logs(settings.log_level, settings.log_format, stamp)
    tracers.append(_open_tracer(environment, log))
    _warn(settings, environment, snapshot, warnings, log)
    metrics = Metrics()
    keyring = Keyring(settings, read_clock, metrics, log)
    warn_short(log, "RELAY_NECTOR_SECRETS or its file", keyring.list_active())
    rules = Rules(settings, environment, PROVIDER_TYPES, snapshot, metrics, log, keyring)
    shared = Shared(
        settings=settings,
        secrets=keyring.list_active(),
        snapshot=snapshot,
        clock=read_clock,
        started_at=read_clock(),
        new_id=new_uuid7,
        metrics=metrics,
        log=log,
        tracer=tracers[0],
        reports=Reports() if isinstance(tracers[0], NoTracer) else PromptReports(),
    )
    wire = _wire_stateless if settings.stateless else _wire_outbox
    wired = wire(shared, rules, on_dead or (lambda _error: None))  # whoever runs the application ends the process
    rules.use, keyring.use = wired.relay.use, wired.relay.use_secrets
    app = _build_app(wired, rules)
    app.state.keyring = keyring
    return app


def _read_all(
    settings: Settings | None, environment: Mapping[str, str]
) -> tuple[Settings, Snapshot, Sequence[Problem]]:
    """Return the settings, and the rules with their warnings; raises ConfigError with the faults of all at once."""
    settings, fault = read_sound_settings(environment) if settings is None else (settings, "")
    faults = [each for each in (fault, explain_unguarded(settings)) if each]
    try:
        snapshot, warnings = load_snapshot(settings, environment, PROVIDER_TYPES)
    except ConfigError as error:
        raise ConfigError("\n".join([*faults, str(error)])) from None
    if faults:
        raise ConfigError("\n".join(faults))
    return settings, snapshot, warnings


def _wire_stateless(shared: Shared, rules: Rules, on_dead: OnDead) -> Wired:
    relay = StatelessRelay(shared, _choose_sender(shared), rules.watch, on_dead)
    return Wired(relay, relay.take, None, tuple)


def _choose_sender(shared: Shared) -> OpenSender:
    return partial(open_client, tracer=shared.tracer, way=shared.settings.way)


def _open_sqlite(settings: Settings, log: Log) -> tuple[Store, WatchedClock, Flights]:
    clock = WatchedClock()
    store = SqliteStore(settings.database_path, clock)
    if store.was_missing:
        cure = "if nobody meant to remove it, stop and restore a backup, see Backup in docs/runbook.md"
        log.warning("outbox.missing", place=str(store.path), cure=cure)
    if (done := store.migration) is not None:
        if done.copy is None:
            log.warning("outbox.migrated", from_schema=done.version, copy=None, detail=done.why_not)
        else:
            cure = "remove the copy once this release has proved itself: retention and erasing do not reach it"
            log.info("outbox.migrated", from_schema=done.version, copy=str(done.copy), cure=cure)
    return store, clock, open_flights(store.path)


def _open_postgres(settings: Settings, log: Log) -> tuple[Store, WatchedClock, Flights]:
    """Open the outbox that replicas share. Its time is theirs: a machine whose clock is off moves nothing."""
    try:
        from app.outbox.postgres.store import PostgresStore  # noqa: PLC0415  # an extra, and nothing to SQLite
    except ImportError as error:
        raise ConfigError(
            "RELAY_DATABASE_URL is a PostgreSQL, and its driver is not installed: pip install '.[postgres]', or build "
            "the image with --build-arg EXTRAS=postgres"
        ) from error
    store = PostgresStore(settings.database_url, on_restored=partial(report_restored, log))
    log.info("outbox.shared", place=store.address.place, replica=store.name)
    for doubt in store.doubts:
        log.warning("outbox.doubt", detail=doubt, cure="set synchronous_standby_names, see docs/replicas.md")
    return store, WatchedClock(store.clock), Flights()  # of a replica that was killed another gives the attempts up


def _wire_outbox(shared: Shared, rules: Rules, on_dead: OnDead) -> Wired:
    settings = shared.settings
    open_store = _open_postgres if settings.shares_database else _open_sqlite
    store, clock, flights = open_store(settings, shared.log)
    parts = {part.name: getattr(shared, part.name) for part in fields(shared)} | {"started_at": clock(), "clock": clock}
    context = Context(**parts, outbox=store, random=random.random, flights=flights)
    dispatcher = Dispatcher(context, _choose_sender(shared), on_dead)
    context.wake = dispatcher.wake
    if settings.notify_url.get_secret_value():
        notifier = Notifier(context, dispatcher.show_paces, partial(open_plain_client, way=settings.way))
        dispatcher.beside["notifier"] = notifier.run
    recorder = Recorder(store, shared.secrets)

    def build_ops() -> Iterable[APIRouter]:
        from app.api import deliveries, ops, people, replay  # noqa: PLC0415  # see _build_app

        yield deliveries.build_router(context, rules.show, dispatcher.show_paces)
        yield ops.build_router(context, dispatcher.wake_all, dispatcher.show_paces, rules)
        yield replay.build_router(context, dispatcher.wake_all, rules)
        yield deliveries.build_report_router(context)
        yield people.build_router(context)
        yield ops.build_trials_router(context)

    return Wired(
        OutboxRelay(context, dispatcher, recorder, rules.watch, on_dead),
        partial(store_event, context, recorder.note),
        partial(webhooks.build_router, context),
        build_ops,
    )


def _build_app(wired: Wired, rules: Rules) -> FastAPI:
    relay, shared = wired.relay, wired.relay.shared

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await relay.open()
        try:
            yield
        finally:
            await relay.close()

    app = _build_bare(lifespan)
    app.state.relay, app.state.rules, app.state.take = relay, rules, wired.take

    # What is asked for seldom is built when it is asked for. Built at the start it would take 9 % more processor time
    # until /readyz answers, and 1.8 MB (20 interleaved starts of `serve`; the bench allows 80 MB in all).
    @cache
    def build_late() -> FastAPI:
        return _build_late(wired, app)

    async def answer_late(scope: Scope, receive: Receive, send: Send) -> None:
        await build_late()(scope, receive, send)

    def has_path(scope: Scope) -> bool:
        asked = {**scope, "path": scope["path"].rstrip("/")}
        return any(route.matches(asked)[0] is not Match.NONE for route in build_late().routes)

    admission = app.state.admission = Admission(shared, has_path, read_uptime)
    app.add_middleware(Guard, admission)
    endpoint = webhooks.WebhookEndpoint(shared, wired.take)
    app.router.routes.append(Route(PATH, endpoint, methods=["POST"]))
    app.doors[PATH] = Door(admission, endpoint.answer)
    app.include_router(
        health.build_router(relay.is_alive, relay.can_commit, rules.read_hash, read_uptime, relay.show_replicas)
    )
    if wired.build_receipts is not None:
        router, take = wired.build_receipts(partial(admission.refuse, kind=RECEIPT, mistake=Mistake.OTHER))
        app.include_router(router)
        app.doors[RECEIPTS] = Door(admission, take)
    app.mount("", answer_late)
    return app


def _build_late(wired: Wired, app: FastAPI) -> FastAPI:
    """Return the metrics, the ops API and the description of every path, those of `app` included."""
    late = _build_bare()
    late.include_router(health.build_metrics_router(wired.relay.shared.metrics, wired.relay.count))
    for router in wired.build_ops():
        late.include_router(router)

    # Behind the token, too: it tells a stranger where to knock.
    @late.get("/openapi.json", include_in_schema=False)
    async def show_openapi() -> Response:
        from app.api.description import describe_answers  # noqa: PLC0415  # nobody asks twice

        described = get_openapi(title=app.title, version=app.version, routes=[*app.routes, *late.routes])
        return JSONResponse(describe_answers(described))

    return late


class RelayApp(FastAPI):
    """FastAPI, with doors of its own for what is posted thousands of times a minute: events, and receipts.

    Its layers and its router, on the way to the same endpoints, would take a third of what an event costs, and half of
    what a receipt does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.doors: dict[str, Door] = {}  # by path; RECEIPTS: of what is below

    def find_door(self, path: str) -> Door | None:
        """Return who answers what is posted to a path, if it has a door."""
        return None if path.endswith("/") else self.doors.get(path if path == PATH else path[: len(RECEIPTS)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        door = self.find_door(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (door or super().__call__)(scope, receive, send)


def _build_bare(lifespan: Lifespan[FastAPI] | None = None) -> RelayApp:
    """Return an application without a path, whose every error is a problem of ours."""
    app = RelayApp(
        title="nector-relay",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own puts query strings (BiteSpeed's token) into spans and exceptions' texts into logs, and one
        # variable of the environment would switch it on. Ours: app/observe/__init__.py.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    show_errors(app)
    return app


def explain_unguarded(settings: Settings) -> str:
    """Return what to do where anybody could post events, else "": a relay spends its merchant's money."""
    if settings.secrets or settings.nector_secrets_file is not None or settings.insecure_no_auth:
        return ""
    return (
        "RELAY_NECTOR_SECRETS is not set, so anybody could post events. Set it to the webhook secret from Nector's "
        "dashboard (or, for a trial on your own machine only, RELAY_INSECURE_NO_AUTH=true)"
    )


def _warn(
    settings: Settings, environment: Mapping[str, str], snapshot: Snapshot, warnings: Iterable[Problem], log: Log
) -> None:
    for name in unknown_names(environment):
        log.warning("setting.unknown", name=name, cure="see .env.example for the names there are")
    quoted = [f"{PREFIX}{name.upper()}" for name in find_quoted(settings)]
    accounts = snapshot.config.providers.items()
    if settings.admin_token:
        warn_short(log, "RELAY_ADMIN_TOKEN", [settings.admin_token.get_secret_value()])
    for name in (*quoted, *(f"providers.{account}.{name}" for account, keys in accounts for name in find_quoted(keys))):
        log.warning("setting.quoted", name=name, cure="a quote or a blank stands around its value: leave it out")
    for warning in warnings:
        log.warning("config.warning", line=warning.line, detail=warning.message)


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
