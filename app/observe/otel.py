"""Traces by OpenTelemetry's SDK, sent over OTLP/HTTP. Imported only where a collector is named: that takes 0.2 s.

Spans are made on the event loop, put into a bounded queue and sent by the SDK's thread. A collector that is down, slow
or mad costs spans, and neither a webhook nor a send its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.observe import ENDPOINTS, Attributes, NoTracer, Span, SpanKind, Tracer
from app.observe.logs import LineLimit, Log

SERVICE = "nector-relay"
# A collector that is down for a day is one line every five minutes, and not one for each batch.
SAY_AGAIN_MS = 300_000
_CURE = "see docs/traces.md"
_KINDS = {"server": trace.SpanKind.SERVER, "client": trace.SpanKind.CLIENT, "internal": trace.SpanKind.INTERNAL}
# urllib3 carries the spans, and nothing else of ours.
_LIBRARIES = ("opentelemetry", "urllib3")
# The traceparent alone: tracestate and baggage hold whatever their sender likes.
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_HEADER = "traceparent"


class OtelTracer(Tracer):
    """A `Tracer` with a provider of its own: none is made the process's, so no library adds spans to ours."""

    def __init__(
        self, provider: TracerProvider, exporter: OTLPSpanExporter, handler: logging.Handler, log: Log
    ) -> None:
        self._provider, self._exporter, self._handler, self._log = provider, exporter, handler, log
        self._tracer = provider.get_tracer(SERVICE, version(SERVICE))

    def open_span(
        self, name: str, attributes: Attributes, *, kind: SpanKind = "internal", parent: str | None = None
    ) -> AbstractContextManager[Span]:
        """See Tracer."""
        context = None if parent is None else _TRACE_CONTEXT.extract({_HEADER: parent}, Context())
        return _Step(self._tracer.start_span(name, context, kind=_KINDS[kind], attributes=attributes))

    def read_traceparent(self) -> str:
        """See Tracer."""
        carrier: dict[str, str] = {}
        _TRACE_CONTEXT.inject(carrier)
        return carrier.get(_HEADER, "")

    async def close(self, within_s: float) -> None:
        """See Tracer. The SDK's own way waits for 30 s."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waited so long: the loop is closed
                loop.call_soon_threadsafe(ended.set)

        # A daemon, and none of the loop's own threads: the end of the process waits for those.
        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(within_s):
                await ended.wait()
        except TimeoutError:
            self._handler.setLevel(logging.CRITICAL + 1)  # the line below says it all
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves its None out
            self._log.warning("tracing.cut", cure=_CURE)


class _Step(Span):
    """A span, as the block that it lasts for."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __enter__(self) -> Self:
        self._token = attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        detach(self._token)
        self._span.end()

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        # No description and no event of the exception: its text may hold a customer's data.
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


class RareHandler(logging.Handler):
    """Says at most now and then what the SDK says of each batch, and of its words only the fixed ones.

    What it fills in may be a URL with a key, or what a stranger answered.
    """

    def __init__(self, log: Log, read_uptime_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._read_uptime_s = read_uptime_s
        self._limit = LineLimit(SAY_AGAIN_MS)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it, or count it until it may be told."""
        detail = str(record.msg).partition("%")[0].partition("\n")[0].strip()
        untold = self._limit.count(detail, int(self._read_uptime_s() * 1000))
        if untold is None:
            return
        values = record.args if isinstance(record.args, tuple) else ()
        errors = [value for value in (*values, *(record.exc_info or ())) if isinstance(value, BaseException)]
        self._log.warning(
            "tracing.failed",
            detail=detail,
            http_status=next((value for value in values if isinstance(value, int)), None),
            error_type=type(errors[0]).__name__ if errors else None,
            untold=untold,
            cure=_CURE,
        )


def open_tracer(environment: Mapping[str, str], log: Log) -> Tracer:
    """Return what sends spans to the collector that the settings name; one that traces nothing where they are wrong."""
    fault = _find_fault(environment)
    if fault is not None:
        log.warning("tracing.off", detail=fault, cure=_CURE)
        return NoTracer()
    handler = RareHandler(log)
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
    try:
        with _lend_environment(environment):
            exporter = OTLPSpanExporter()
            provider = TracerProvider(
                resource=Resource.create({"service.version": version(SERVICE)}), shutdown_on_exit=False
            )
            provider.add_span_processor(BatchSpanProcessor(exporter))
    except Exception as error:  # noqa: BLE001  # whatever the SDK refuses: events are taken and sent without it
        log.warning("tracing.off", detail=f"a setting named OTEL_… is wrong ({type(error).__name__})", cure=_CURE)
        return NoTracer()
    collector = urlsplit(_find_endpoint(environment)[1])
    host = collector.netloc.rpartition("@")[2]  # before the @ stands a password
    log.info("tracing.on", collector=f"{collector.scheme}://{host}")
    return OtelTracer(provider, exporter, handler, log)


def _find_endpoint(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the name and the value that count."""
    return next((name, environment[name]) for name in ENDPOINTS if environment.get(name))


def _find_fault(environment: Mapping[str, str]) -> str | None:
    """Return what the SDK would only find out with each batch."""
    name, value = _find_endpoint(environment)
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        return f"{name}: write http://HOST:4318 or https://…"
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(name, "http/protobuf") not in ("http/protobuf", ""):
            return f"{name}: only http/protobuf is spoken; collectors take it on port 4318"
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") not in ("otlp", ""):
        return "OTEL_TRACES_EXPORTER: write otlp or none"
    return None


@contextmanager
def _lend_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Let the SDK see our settings: it reads only the process's environment, and not .env or the secret files."""
    before = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    given = {name: value for name, value in environment.items() if name.startswith("OTEL_") and value}
    if "service.name=" not in given.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        given.setdefault("OTEL_SERVICE_NAME", SERVICE)
    _swap_variables(before, given)
    try:
        yield
    finally:
        _swap_variables(given, before)


def _swap_variables(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for name in old:
        del os.environ[name]
    os.environ.update(new)
