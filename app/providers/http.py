"""A JSON API described in the YAML: what `type: http` and `type: bitespeed` share.

path: /v1/send                          after base_url; default: none
method: POST
headers: {authorization: "Bearer ${TOKEN}"}
body: {to: $phone, templateId: $template, params: $variables}     mapping.py lists the placeholders
accepted: {statuses: [200, 202], path: data.status, equals: queued, any_2xx: false}
message_id: [data.id, messages[0].id]   the first that is there
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr, field_validator

from app.model.delivery import Outcome
from app.model.message import Message
from app.model.receipt import Receipt, Reply
from app.providers.answers import ANY_RULE, MESSAGE_ID_PATHS, AcceptedRule, read_answer
from app.providers.base import Request, Response, has_hex_signature, has_token
from app.providers.json import first_text, parse_json
from app.providers.request import (
    MESSAGE_NAMES,
    RemoteSettings,
    build_json_request,
    check_headers,
    check_mapping,
    fill_mapping,
    message_values,
    secrets_of,
)
from app.providers.whatsapp import read_meta_replies, read_meta_statuses

_SHORTEST_KEY = 8


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class JsonApiSettings(RemoteSettings):
    """The keys of a provider whose API is described in the YAML."""

    constants: ClassVar[Collection[str]] = ()  # settings that the body may name, beside the message's own values

    path: str = Field(
        "", pattern=r"^([/?][\x21-\x5b\x5d-\x7e]*)?$", description="What follows base_url.", examples=["/v1/send"]
    )
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="HTTP method of the request.")
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(
        default_factory=dict,
        repr=False,
        description="More headers; content-type is always application/json.",
        examples=[{"authorization": "Bearer ${API_TOKEN}"}],
    )
    body: dict[str, JsonValue] = Field(
        description="The JSON body; $phone and the like stand for the message's values.",
        examples=[{"to": "$phone", "templateId": "$template", "params": "$variables"}],
    )
    accepted: AcceptedRule = Field(ANY_RULE, description="When an answer means that the message was taken.")
    message_id: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        MESSAGE_ID_PATHS,
        description="Where the provider's id stands in its answer; the first that is there.",
        examples=["data.id"],
    )

    @field_validator("body")
    @classmethod
    def _check_body(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(value, allow_nan=False)
        check_mapping(value, MESSAGE_NAMES | set(cls.constants))
        return value


def build_mapped_request(settings: JsonApiSettings, message: Message, delivery_id: str) -> Request:
    """Return the request that the settings describe for this message."""
    constants = {name: getattr(settings, name) for name in settings.constants}
    payload = fill_mapping(settings.body, {**constants, **message_values(message, delivery_id)})
    return build_json_request(settings.method, settings.base_url + settings.path, settings.headers, payload or {})


def read_mapped_response(settings: JsonApiSettings, response: Response) -> Outcome:
    """Return what an answer means by the settings' `accepted` and `message_id`."""
    return read_answer(
        response,
        treat_500_as=settings.treat_500_as,
        list_secrets=lambda: mapped_secrets(settings),
        rule=settings.accepted,
        id_paths=settings.message_id,
    )


def mapped_secrets(settings: JsonApiSettings) -> tuple[str, ...]:
    """Return what must be struck out of a provider's words: its secrets, its ids, the values of its headers."""
    constants = (str(getattr(settings, name)) for name in settings.constants)
    # "Bearer" alone is no secret, what follows it is.
    words = (word for value in settings.headers.values() for word in value.split() if len(word) >= _SHORTEST_KEY)
    return secrets_of(settings, [*constants, *settings.headers.values(), *words])


def collect_texts(fields: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Return the distinct ids that stand under `names`."""
    return list(dict.fromkeys(text for name in names if (text := first_text(fields, (name,))) is not None))


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
