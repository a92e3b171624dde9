"""The seam to a WhatsApp sender: pure functions of values, no network.

A provider type is one module with a class that holds its settings and answers three questions: what
request carries this message, what does that answer mean, what does this webhook report. The one
retrying client (client.py) does the talking. To add a type: write the module, add its line to
providers/__init__.py, and the contract suite (tests/providers/test_contract.py) says what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from app.core.config import ProviderSettings
from app.core.models import Message, Outcome, Receipt, Request, Response


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


class ProviderType(Protocol):
    """A provider's class: called with its settings it is one configured account."""

    @property
    def settings_type(self) -> type[ProviderSettings]:
        """The YAML keys of the type."""

    def __call__(self, settings: Any) -> Provider:
        """Return the account that the settings, an instance of `settings_type`, describe."""
