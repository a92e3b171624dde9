"""The seam to a WhatsApp sender: pure functions of values, no network.

A provider type is one module with a class that holds its settings and answers six questions: what
request carries this message, what does that answer mean, is this webhook worth reading, what does it report of our
messages, what of customers, and what of templates and the account. The one
retrying client (client.py) does the talking. To add a type: write the module, add its line to
providers/__init__.py, and the contract suite (tests/providers/test_contract.py) says what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from app.errors import Mistake
from app.mapping.provider import ProviderSettings
from app.mapping.template import Template
from app.model.delivery import Outcome
from app.model.message import Message
from app.model.receipt import Notice, Receipt, Reply

LIST_LIMIT_BYTES = 4 * 1024 * 1024
"""The longest list of templates that is read."""


class Provider(Protocol):
    """One configured account."""

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return the request that asks the provider to send `message`."""

    def read_response(self, response: Response) -> Outcome:
        """Say what the provider's answer means. Never raises, whatever the bytes."""

    def find_receipt_mistake(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Mistake | None:
        """Return why no body could make a webhook of this genuine, None where it is for `verify_receipt` to say."""

    def verify_receipt(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Tell, in constant time, whether a webhook really comes from the provider. Header names are lower case."""

    def read_receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt]:
        """Return what a verified webhook reports; () where it reports nothing of ours. Never raises."""

    def read_replies(self, headers: Mapping[str, str], body: bytes) -> Sequence[Reply]:
        """Return what customers sent back, () where a verified webhook holds nothing of them. Never raises."""

    def read_notices(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notice]:
        """Return what a verified webhook says of templates and of the account. Never raises."""


@runtime_checkable
class TemplateLister(Protocol):
    """A provider that can be asked for its approved templates; an optional talent of a type."""

    def list_templates_request(self) -> Request | None:
        """Return the request for the list; None where the YAML does not say enough for it."""

    def read_templates(self, provider_name: str, body: bytes) -> Sequence[Template] | None:
        """Return the templates in the answer, None if it is no such list. Never raises."""


class ProviderType(Protocol):
    """A provider's class: called with its settings it is one configured account."""

    @property
    def settings_type(self) -> type[ProviderSettings]:
        """The YAML keys of the type."""

    def __call__(self, settings: Any) -> Provider:
        """Return the account that the settings, an instance of `settings_type`, describe."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to a provider, complete: nothing is added later but transport headers."""

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
    """A send came to this outcome, took so many requests, and had the last answer's status if there was one.

    `keys`: those of the answer, of the first few that were a 2xx.
    """

    outcome: Outcome
    tries: int
    http_status: int | None = None
    keys: Sequence[str] = field(default=(), compare=False)


class Sender(Protocol):
    """A lane sends through this: client.py, or a simulation of it."""

    async def send(
        self, provider: Provider, message: Message, delivery_id: str, *, write_within_ms: int, tries: int
    ) -> Sent:
        """Return what the provider made of it in at most `tries` requests; raises only CancelledError."""

    async def close(self) -> None:
        """Release its connections."""


OpenSender = Callable[[ProviderSettings], Awaitable[Sender]]
