"""A relay that traces, and the collector that it traces to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.tracing.collector import Collector, run_collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    with run_collector() as found:
        yield found


@pytest.fixture
def tracing(collector: Collector) -> dict[str, str]:
    """The settings that switch tracing on, with a batch every 20 ms."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }


@pytest.fixture
def open_traced(open_relay: Callable[..., Any], tracing: dict[str, str]) -> Callable[..., Any]:
    """Return a context manager that runs a relay which traces; keyword arguments change its environment."""

    @asynccontextmanager
    async def open_one(**changes: str) -> AsyncIterator[Any]:
        async with open_relay(**{**tracing, **changes}) as relay:
            yield relay

    return open_one
