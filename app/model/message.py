"""A message for one recipient, what comes back of it, and limits on how many go. Instants are ms, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import ClassVar, Literal

from app.model.delivery import Reason, Scope, dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A filled template variable; `name` is None where the template counts ({{1}}, {{2}}, …)."""

    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """A template's header: a media URL (with an optional file name) or a text."""

    kind: str  # image, video, document or text
    value: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A template's header that shows a place on the map; degrees are texts, as they were sent."""

    kind: ClassVar[Literal["location"]] = "location"
    filename: ClassVar[None] = None

    latitude: str
    longitude: str
    name: str
    address: str

    @property
    def value(self) -> str:
        """Return what the customer reads below the map."""
        return f"{self.name}, {self.address}"


@dataclass(frozen=True, slots=True)
class Button:
    """A button is filled by a URL's suffix (already URL-encoded), a code, a payload or a token, by `kind`."""

    index: int
    value: str
    kind: str = "url"


@dataclass(frozen=True, slots=True)
class Message:
    """A filled template for one recipient, frozen at intake: never rendered again.

    `recipient` is E.164 with its plus sign (`+919800000001`); `recipient_name` may be empty. `offer_ends_at`: when a
    limited-time offer is over.
    """

    recipient: str
    template: str
    recipient_name: str = ""
    language: str | None = None
    variables: tuple[Variable, ...] = ()
    header: Header | Location | None = None
    buttons: tuple[Button, ...] = ()
    offer_ends_at: int | None = None


class ReceiptStatus(StrEnum):
    """The handset side reported this; they rise in this order, `failed` stands aside."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt is what the handset side reported of one message.

    Matched on `delivery_id` first (our id, where the provider sends it back), then on `provider_message_id`, then on
    `wamid`, WhatsApp's own id where the provider has another one beside it. `at` is when the provider says it happened,
    None if unsaid. `scope`: what else a failure speaks of; what may pass by itself speaks of its message alone.
    """

    status: ReceiptStatus
    delivery_id: str | None
    provider_message_id: str | None
    at: int | None = None
    reason: Reason | None = None
    detail: str = ""
    scope: Scope = Scope.MESSAGE
    wamid: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice is what WhatsApp says of a template, or, where none is named, of the account.

    `reason`: why nothing of it is sent; None: it may be sent again. `language` "": of all. `passing`: only a pace.
    """

    reason: Reason | None
    template: str = ""
    language: str = ""
    passing: bool = False


Wish = Literal["stop", "resume"]
"""What a customer asks for: no more marketing, or marketing again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply is what a customer sent back. `sender`: E.164, "" if unsaid; `text` is never kept or shown.

    `payload`: what the template's author put behind the button that was tapped; no more shown than the text.
    `tapped`: a button of a message of ours, whose ids are `delivery_id` and `provider_message_id` (None if unsaid).
    `wish`: where WhatsApp itself says what they chose. `at` as in Receipt.
    """

    sender: str = field(repr=False)
    text: str = field(default="", repr=False)
    tapped: bool = False
    delivery_id: str | None = None
    provider_message_id: str | None = None
    at: int | None = None
    wish: Wish | None = None
    payload: str = field(default="", repr=False)


# -- limits ------------------------------------------------------------------------------------------


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
