"""The seam to a WhatsApp sender: pure functions of values, no network.

A provider type is one module with a class that holds its settings and answers four questions: what
request carries this message, what does that answer mean, what does this webhook report of our messages, and what of
customers. The one
retrying client (client.py) does the talking. To add a type: write the module, add its line to
providers/__init__.py, and the contract suite (tests/providers/test_contract.py) says what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from app.mapping.provider import ProviderSettings
from app.mapping.template import Template
from app.model.delivery import Outcome
from app.model.message import Message
from app.model.receipt import Receipt, Reply

LIST_LIMIT_BYTES = 4 * 1024 * 1024
"""The longest list of templates that is read."""


class Provider(Protocol):
    """One configured account. `named_variables` says whether its API wants template variables by name."""

    named_variables: ClassVar[bool]

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return the request that asks the provider to send `message`."""

    def read_response(self, response: Response) -> Outcome:
        """Say what the provider's answer means. Never raises, whatever the bytes."""

    def verify_receipt(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Tell, in constant time, whether a webhook really comes from the provider. Header names are lower case."""

    def read_receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt]:
        """Return what a verified webhook reports; () where it reports nothing of ours. Never raises."""

    def read_replies(self, headers: Mapping[str, str], body: bytes) -> Sequence[Reply]:
        """Return what customers sent back, () where a verified webhook holds nothing of them. Never raises."""


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


def has_token(expected: str, query: Mapping[str, str]) -> bool:
    """Tell whether `?token=` is the expected one."""
    return _same(expected, query.get("token", ""))


def has_base64_signature(secret: str, signature: str, body: bytes) -> bool:
    """Tell whether `signature` is the base64 HMAC-SHA256 of the raw body."""
    expected = base64.b64encode(_sign(secret, body)).decode()
    return bool(secret) and _same(expected, signature.strip())


def has_hex_signature(secret: str, signature: str, body: bytes) -> bool:
    """Tell whether `signature` is the hex HMAC-SHA256 of the raw body, after `sha256=` as Meta sends it, or bare."""
    return bool(secret) and _same(_sign(secret, body).hex(), signature.strip().removeprefix("sha256=").lower())


def _sign(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def _same(expected: str, given: str) -> bool:
    # As bytes: compare_digest refuses text that is not ASCII, and a forger may send just that.
    return bool(expected) and hmac.compare_digest(expected.encode(), given.encode(errors="replace"))
