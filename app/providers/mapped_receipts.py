"""Receipts of an API that is described in the YAML, as JSON or as a form: docs/mapping-guide.md shows some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from app.model.receipt import Receipt, ReceiptStatus
from app.providers.json import as_items, as_mapping, first_text, read_instant, read_path
from app.providers.whatsapp import failure_of, read_status_word


def _as_tuple(given: Any) -> Any:
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])]


class ReceiptsRule(BaseModel, extra="forbid", frozen=True):
    """Where a receipt says what: each a path, or a list of paths of which the first that is there counts."""

    id: Texts = Field((), description="The provider's id of the message.", examples=["payload.gsId"])
    delivery_id: Texts = Field((), description="Where our own $delivery_id comes back.", examples=["localMessageId"])
    status: Texts = Field(description="What happened, as a word.", examples=["payload.type", "MessageStatus"])
    words: Mapping[Literal["sent", "delivered", "read", "failed"], Texts] = Field(
        default_factory=dict,
        description="Words of theirs for sent, delivered, read and failed; these four themselves are known.",
        examples=[{"failed": ["message_api_failed"]}],
    )
    code: Texts = Field((), description="The code of an error.", examples=["ErrorCode"])
    at: Texts = Field((), description="When it happened: Unix time, or ISO 8601 with a zone.", examples=["timestamp"])

    @model_validator(mode="after")
    def _check_ids(self) -> ReceiptsRule:
        if not (self.id or self.delivery_id):
            raise ValueError("a receipt must name its message; say where: id or delivery_id")
        return self


def read_mapped_receipts(rule: ReceiptsRule, value: Any, secrets: Sequence[str]) -> tuple[Receipt, ...]:
    """Return the receipts in a webhook's value: one, or a list of them."""
    words = {word.casefold(): ReceiptStatus(status) for status, theirs in rule.words.items() for word in theirs}
    read = (_read_receipt(rule, words, item, secrets) for item in as_items(value) or (value,))
    return tuple(receipt for receipt in read if receipt is not None)


def _read_receipt(
    rule: ReceiptsRule, words: Mapping[str, ReceiptStatus], item: Any, secrets: Sequence[str]
) -> Receipt | None:
    word = first_text(item, rule.status) or ""
    status = words.get(word.casefold()) or read_status_word(word)
    delivery_id, message_id = first_text(item, rule.delivery_id), first_text(item, rule.id)
    if status is None or (delivery_id is None and message_id is None):
        return None
    code = first_text(item, rule.code)
    why = failure_of({**as_mapping(item), "errors": [{"code": code}]} if code else item, status, secrets)
    at = next((at for path in rule.at if (at := read_instant(read_path(item, path))) is not None), None)
    return Receipt(status, delivery_id, message_id, at, why.reason, why.detail, why.scope)
