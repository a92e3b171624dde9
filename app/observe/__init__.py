"""Logs, metrics and traces tell of a running relay. Here is the seam to traces; by default nobody collects them.

A trace is the way of one event, from its webhook to the last answer of a provider; a span is one step of it. otel.py
sends them on. What stands in a span is seen by others: ids, words of closed sets and names from the YAML, never a
number, a name, a code, a secret, a URL's path or query, or the text of an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The standard's names for where spans go; the first that is set counts."""

SpanKind = Literal["server", "client", "internal"]
Attributes = Mapping[str, str | int]
"""Named as in https://opentelemetry.io/docs/specs/semconv/http/http-spans/ where that has a name, else `relay.…`."""


class Span(Protocol):
    """A span is one step that is under way."""

    def note(self, attributes: Attributes) -> None:
        """Add what is known of it by now."""

    def fail(self, kind: str) -> None:
        """Mark it as failed. `kind`: a status, a reason or the type of an exception."""


class Tracer(Protocol):
    """Opens spans. None of its methods waits for whoever collects them, but `close`."""

    def open_span(
        self, name: str, attributes: Attributes, *, kind: SpanKind = "internal", parent: str | None = None
    ) -> AbstractContextManager[Span]:
        """Return a step; the steps that begin inside its block are its children. An exception marks it as failed.

        `parent`: a W3C traceparent; None: the step that is under way here; not one ("" or what cannot be read): a new
        trace begins.
        """

    def read_traceparent(self) -> str:
        """Return the traceparent of the step that is under way here; "" if there is none."""

    async def close(self, within_s: float) -> None:
        """Send what waits, for so long at most."""


class NoSpan:
    """Keeps nothing."""

    def note(self, attributes: Attributes) -> None:
        """See Span."""

    def fail(self, kind: str) -> None:
        """See Span."""


class NoTracer:
    """Traces nothing."""

    def __init__(self) -> None:
        self._block = nullcontext(NoSpan())

    def open_span(
        self,
        name: str,  # noqa: ARG002  # the Protocol's
        attributes: Attributes,  # noqa: ARG002
        *,
        kind: SpanKind = "internal",  # noqa: ARG002
        parent: str | None = None,  # noqa: ARG002
    ) -> AbstractContextManager[Span]:
        """See Tracer."""
        return self._block

    def read_traceparent(self) -> str:
        """See Tracer."""
        return ""

    async def close(self, within_s: float) -> None:
        """See Tracer."""


def wants_tracing(environment: Mapping[str, str]) -> bool:
    """Tell whether the settings name a collector and do not switch it off again, as the standard's names can."""
    return (
        any(environment.get(name) for name in ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )
