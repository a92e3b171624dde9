"""Faults on demand: which one the next request of a vendor meets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from app.errors import ConfigError

FaultName = Literal[
    "latency",  # nothing but the wait
    "status",  # any status; not accepted
    "refuse",  # the vendor's own error; not accepted
    "html",  # a proxy's page in place of the vendor; not accepted
    "reset_before",  # connection reset before the request is read; not accepted
    "reset_after",  # accepted, then the connection is reset
    "hang",  # accepted, never answered
    "half_answer",  # accepted, half of the answer, then the connection is closed
    "drip",  # accepted, the answer comes byte by byte over `drip_ms`
]
VendorName = Literal["gallabox", "bitespeed", "http"]


class Fault(BaseModel, extra="forbid", strict=True, frozen=True):
    """One fault. `times`: only the next N requests, None for all; `probability` in 0..1 of each of them.

    `status` and `body` are those of `status`, `refuse` and `html`; `code` is WhatsApp's, of `refuse`; `retry_after`
    is in seconds. Every fault may wait `latency_ms` first; `drip_ms` comes after accepting.
    """

    fault: FaultName = "latency"
    latency_ms: int = Field(default=0, ge=0, le=600_000)
    drip_ms: int = Field(default=1_000, ge=0, le=600_000)
    status: int | None = Field(default=None, ge=200, le=599)
    body: str | None = None
    code: int = 131026
    retry_after: int | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)
    probability: float = Field(default=1.0, ge=0, le=1)


NO_FAULT = Fault()
FAULTS = TypeAdapter(dict[VendorName, Fault])


class FaultSwitch:
    """The faults in force; `draw` returns a random number in [0, 1)."""

    def __init__(self, faults: Mapping[VendorName, Fault], draw: Callable[[], float]) -> None:
        self._draw = draw
        self.replace(faults)

    def replace(self, faults: Mapping[VendorName, Fault]) -> None:
        """Put these faults in force, and no others."""
        self._faults = dict(faults)

    def list_faults(self) -> Mapping[VendorName, Fault]:
        """Return what is in force, with what is left of each `times`."""
        return dict(self._faults)

    def take(self, kind: VendorName) -> Fault:
        """Return the fault that the next request of this vendor meets."""
        fault = self._faults.get(kind)
        if fault is None or self._draw() >= fault.probability:
            return NO_FAULT
        if fault.times == 1:
            del self._faults[kind]
        elif fault.times is not None:
            self._faults[kind] = fault.model_copy(update={"times": fault.times - 1})
        return fault


def parse_faults(text: str) -> Mapping[VendorName, Fault]:
    """Return the faults of `gallabox=503:3,bitespeed=hang`: a status or a fault's name, `:N` for N requests only.

    Raises ConfigError.
    """
    return dict(_parse_fault(part.strip()) for part in text.split(",") if part.strip())


def _parse_fault(part: str) -> tuple[VendorName, Fault]:
    kind, _, rest = part.partition("=")
    name, _, times = rest.partition(":")
    fields: dict[str, Any] = {"fault": "status", "status": int(name)} if name.isdecimal() else {"fault": name}
    if times:
        fields["times"] = int(times) if times.isdecimal() else times
    try:
        ((vendor, fault),) = FAULTS.validate_python({kind: fields}).items()
    except ValidationError:
        known = ", ".join(get_args(FaultName))
        raise ConfigError(
            f'faults: "{part}" is not understood; write gallabox=503 or bitespeed=hang:2 (a status, or one of {known}; '
            ":N for only the next N requests)"
        ) from None
    return vendor, fault
