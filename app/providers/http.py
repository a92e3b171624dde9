"""`type: http`: any JSON API of this kind, described in the YAML (json_api.py); receipts in Meta's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from app.core.exchange import Request, Response
from app.core.models import Message, Outcome, Receipt, Reply
from app.core.signatures import Mistake
from app.providers.json_api import JsonApiSettings, build_mapped_request, mapped_secrets, read_mapped_response
from app.providers.meta import read_meta_statuses
from app.providers.probing import parse_json
from app.providers.replies import read_meta_replies
from app.providers.signing import find_signature_mistake, find_token_mistake, has_hex_signature, has_token


class HttpSettings(JsonApiSettings):
    """The YAML keys of `type: http`.

    Receipts are taken with `x-hub-signature-256` where `webhook_secret` is set, else with `?token=`.
    """

    type: Literal["http"]
    webhook_secret: SecretStr = Field(SecretStr(""), description="Signs receipts, as Meta does it.")
    webhook_token: SecretStr = Field(SecretStr(""), description="?token= of the URL for receipts that are not signed.")


@dataclass(frozen=True, slots=True)
class Http:
    """One configured JSON API."""

    settings: HttpSettings
    settings_type: ClassVar[type[HttpSettings]] = HttpSettings
    named_variables: ClassVar[bool] = False

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return the request that the settings describe."""
        return build_mapped_request(self.settings, message, delivery_id)

    def read_response(self, response: Response) -> Outcome:
        """Say what the answer means by the settings' `accepted` and `message_id`."""
        return read_mapped_response(self.settings, response)

    def find_receipt_mistake(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Mistake | None:
        """Return why the signature can sign nothing, or, without a `webhook_secret`, what is wrong with the token."""
        secret = self.settings.webhook_secret.get_secret_value()
        if secret:
            return find_signature_mistake(secret, headers.get("x-hub-signature-256", ""), "hex")
        return find_token_mistake(self.settings.webhook_token.get_secret_value(), query)

    def verify_receipt(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Tell whether the webhook is signed, or, without a `webhook_secret`, carries the token."""
        secret = self.settings.webhook_secret.get_secret_value()
        if secret:
            return has_hex_signature(secret, headers.get("x-hub-signature-256", ""), body)
        return has_token(self.settings.webhook_token.get_secret_value(), query)

    def read_receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt]:  # noqa: ARG002 - the seam
        """Return the statuses of a WhatsApp Cloud API webhook."""
        return read_meta_statuses(parse_json(body), mapped_secrets(self.settings))

    def read_replies(self, headers: Mapping[str, str], body: bytes) -> Sequence[Reply]:  # noqa: ARG002 - the seam
        """Return what a WhatsApp Cloud API webhook holds of customers."""
        return read_meta_replies(parse_json(body))
