"""The parts of a relay for tests that run some of it: whatever a test does not name is real or listens to nobody."""

from __future__ import annotations

from typing import Any

from app.clock import WatchedClock, new_uuid7
from app.mapping.rules import Config, Store
from app.observe import NoTracer
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.relay import Context, Snapshot
from app.settings import Settings


def build_context(outbox: Any, clock: Any, *, log: Any = None, **parts: Any) -> Context:
    """Return parts around an outbox; `parts` replaces those that stand here."""
    standard: dict[str, Any] = {
        "settings": Settings(),
        "secrets": (),
        "snapshot": Snapshot(Config("live", Store(), {}, (), ""), {}),
        "new_id": new_uuid7,
        "metrics": Metrics(),
        "log": Log(lambda *_given, **_line: None) if log is None else log,
        "tracer": NoTracer(),
        "wake": lambda _provider: None,
        "random": lambda: 0.5,
    }
    watched = clock if isinstance(clock, WatchedClock) else WatchedClock(clock)
    return Context(outbox=outbox, clock=watched, **{**standard, **parts})
