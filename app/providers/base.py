"""The seam to a WhatsApp sender: pure functions of values, no network.

A provider type is one module with a class that holds its settings and answers four questions: what request carries this
message, what does that answer mean, what shows that this webhook is genuine, and what does it say. The one retrying
client (client.py) does the talking. To add a type: write the module, add its line to
providers/__init__.py, and the contract suite (tests/providers/test_contract.py) says what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from app.errors import Mistake
from app.mapping.provider import ProviderSettings
from app.mapping.template import Template
from app.model.delivery import Outcome
from app.model.message import Message, Notice, Receipt, Reply
from app.model.value import dataclass

LIST_LIMIT_BYTES = 4 * 1024 * 1024
"""The longest list of templates that is read."""


class Provider(Protocol):
    """A provider is one configured account."""

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return the request that asks the provider to send `message`."""

    def read_response(self, response: Response) -> Outcome:
        """Say what the provider's answer means. Never raises, whatever the bytes."""

    def read_proof(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Proof:
        """Return what shows that a webhook really comes from the provider. Header names are lower case."""

    def read_webhook(self, headers: Mapping[str, str], value: Any) -> WebhookContent:
        """Return what a genuine webhook holds, whose body `parse_webhook` made a value. Never raises."""


class Proof(Protocol):
    """A webhook's token or signature; both compare in constant time."""

    def find_mistake(self) -> Mistake | None:
        """Return why no body could make the webhook genuine, None where the body decides."""

    def fits(self, body: bytes) -> bool:
        """Tell whether it shows that a webhook with this body is genuine."""


@dataclass(frozen=True, slots=True)
class WebhookContent:
    """A webhook reports of our messages, of what customers sent back, and of templates and the account."""

    receipts: Sequence[Receipt] = ()
    replies: Sequence[Reply] = ()
    notices: Sequence[Notice] = ()


@runtime_checkable
class TemplateLister(Protocol):
    """A provider that can be asked for its approved templates; an optional talent of a type."""

    def list_templates_request(self) -> Request | None:
        """Return the request for the list; None where the YAML does not say enough for it."""

    def read_templates(self, provider_name: str, body: bytes) -> Sequence[Template] | None:
        """Return the templates in the answer, None if it is no such list. Never raises."""


class ProviderType(Protocol):
    """A provider's class holds the YAML keys of its type, and makes an account of an instance of them."""

    @property
    def settings_type(self) -> type[ProviderSettings]:
        """Return the class of its settings."""

    def __call__(self, settings: Any) -> Provider:
        """Return the account."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a provider is complete: nothing is added later but transport headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # holds secrets
    body: bytes = field(repr=False)  # holds the recipient


@dataclass(frozen=True, slots=True)
class Response:
    """A provider's whole answer. Header names are lower case; `body` is at most 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """A send came to this outcome by so many requests; the last answer's status, and `keys` of the first few 2xx."""

    outcome: Outcome
    tries: int
    http_status: int | None = None
    keys: Sequence[str] = field(default=(), compare=False)


class Sender(Protocol):
    """A lane sends through this: client.py, or a simulation of it."""

    async def send(
        self,
        provider: Provider,
        message: Message,
        delivery_id: str,
        *,
        write_within_ms: int,
        tries: int,
        on_leaving: Callable[[], None] = ...,
    ) -> Sent:
        """Return what the provider made of it in at most `tries` requests; raises only CancelledError."""

    async def close(self) -> None:
        """Release its connections."""


OpenSender = Callable[[ProviderSettings], Awaitable[Sender]]
