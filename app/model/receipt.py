"""Receipts, and what customers write or tap, come back from the handset. Instants are ms, UTC."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import Literal

from app.model.delivery import Reason, Scope, dataclass


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
