"""The parts of a running relay that its ops API reads and changes."""

from __future__ import annotations

from dataclasses import dataclass

from app.clock import Clock
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.outbox.store import Store
from app.relay.dispatcher import Dispatcher
from app.relay.reload import Rules


@dataclass(frozen=True, slots=True)
class Context:
    """What every path of the ops API is given."""

    outbox: Store
    dispatcher: Dispatcher
    rules: Rules
    clock: Clock
    metrics: Metrics
    log: Log
