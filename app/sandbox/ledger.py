"""The ledger holds what the sandbox took: the oracle of tests that ask how often a customer was written to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.mapping.template import print_message
from app.sandbox.vendor import Order


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, at its first request. `at`: ms since the epoch."""

    provider: str
    message_id: str
    order: Order
    at: int


class Ledger:
    """Accepted messages and counts of requests, kept until they are cleared."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._entries: dict[tuple[str, str], Entry] = {}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._recipients: Counter[str] = Counter()
        self._deliveries: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    def note_request(self, provider: str) -> None:
        """Count a request, whatever becomes of it."""
        self._seen[provider] += 1

    def note_accepted(self, provider: str, message_id: str, order: Order, at: int) -> int:
        """Keep an accepted request; return how many there have been for its delivery id."""
        key = (provider, order.delivery_id or message_id)
        self._entries.setdefault(key, Entry(provider, message_id, order, at))
        self._requests[key] += 1
        self._recipients[order.recipient] += 1
        self._accepted[provider] += 1
        if order.delivery_id is not None:
            self._deliveries[order.delivery_id] += 1
        return self._requests[key]

    def list_messages(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages in the order they came, one per delivery id; `requests` over 1 is a second send."""
        return [
            {
                "provider": entry.provider,
                "id": entry.message_id,
                "delivery_id": entry.order.delivery_id,
                "template": entry.order.template,
                "recipient": entry.order.recipient,
                "variables": list(entry.order.variables),
                "text": print_message(entry.order.filled),
                "at": _write_instant(entry.at),
                "requests": self._requests[key],
            }
            for key, entry in self._entries.items()
        ]

    def count(self) -> Mapping[str, Mapping[str, int]]:
        """Return accepted requests by recipient, delivery id and provider, and all requests `seen` by provider."""
        return {
            "recipients": dict(self._recipients),
            "deliveries": dict(self._deliveries),
            "accepted": dict(self._accepted),
            "seen": dict(self._seen),
        }


def _write_instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
