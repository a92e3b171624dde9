"""Limits bound what is sent in a time, whoever has it sent: to one person, by one route, by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` messages go in any `window_ms`."""

    count: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account counts messages under its scope. `holds`: what is stopped once it is full; "": the message waits."""

    scope: str
    limit: Limit
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a YAML file. `routes`: by name, those (person, route) that stand at a route or in `defaults`."""

    person: Limit | None = None
    route: Limit | None = None
    all: Limit | None = None
    routes: Mapping[str, tuple[Limit | None, Limit | None]] = field(default_factory=dict)

    def list_accounts(self, provider: str, route: str, person: bytes | None) -> Sequence[Account]:
        """Return the accounts that one message counts in. `person`: the hash of its recipient."""
        own_person, own_route = self.routes.get(route, (None, None))
        whom = name_person(person or b"")
        found = (
            (whom, self.person, ""),
            (f"{whom}/{route}", own_person, ""),
            (f"route:{route}", own_route or self.route, f"route:{route}"),
            (ALL, self.all, f"provider:{provider}"),
        )
        return [Account(scope, limit, holds) for scope, limit, holds in found if limit is not None]


ALL = "all"
NO_LIMITS = Limits()


def name_person(person: bytes) -> str:
    """Return the scope in which one person's messages are counted."""
    return f"person:{person.hex()}"
