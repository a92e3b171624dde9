"""Logs, metrics and traces tell of a running relay. Here is the seam to traces; by default nobody collects them.

A trace is the way of one event, from its webhook to the last answer of a provider; a span is one step of it. otel.py
sends them on. What stands in a span is seen by others: ids, words of closed sets and names from the YAML, never a
number, a name, a code, a secret, a URL's path or query, or the text of an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The standard's names for where spans go; the first that is set counts."""

SpanKind = Literal["server", "client", "internal"]
Attributes = Mapping[str, str | int]
"""Named as in https://opentelemetry.io/docs/specs/semconv/http/http-spans/ where that has a name, else `relay.…`."""


class Span:
    """A span is one step that is under way; by itself it keeps nothing."""

    def note(self, attributes: Attributes) -> None:
        """Add what is known of it by now."""

    def fail(self, kind: str) -> None:
        """Mark it as failed. `kind`: a status, a reason or the type of an exception."""


_NOTHING = nullcontext(Span())  # holds no state, so one is enough for all


class Tracer:
    """Opens spans, by itself such as keep nothing. None of its methods waits for whoever collects them, but `close`."""

    def open_span(
        self,
        name: str,  # noqa: ARG002  # of those that keep it
        attributes: Attributes,  # noqa: ARG002
        *,
        kind: SpanKind = "internal",  # noqa: ARG002
        parent: str | None = None,  # noqa: ARG002
    ) -> AbstractContextManager[Span]:
        """Return a step; the steps that begin inside its block are its children. An exception marks it as failed.

        `parent`: a W3C traceparent; None: the step that is under way here; not one ("" or what cannot be read): a new
        trace begins.
        """
        return _NOTHING

    def read_traceparent(self) -> str:
        """Return the traceparent of the step that is under way here; "" if there is none."""
        return ""

    async def close(self, within_s: float) -> None:
        """Send what waits, for so long at most."""


class NoTracer(Tracer):
    """Traces nothing, which whoever would have to prepare a step can see."""


def wants_tracing(environment: Mapping[str, str]) -> bool:
    """Tell whether the settings name a collector and do not switch it off again, as the standard's names can."""
    return (
        any(environment.get(name) for name in ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )
