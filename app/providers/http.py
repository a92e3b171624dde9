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

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, SecretStr, field_validator

from app.model.delivery import Accepted, Outcome
from app.model.message import Message
from app.model.receipt import Notice, Receipt, Reply
from app.providers.answers import has_error, is_success, read_failure, read_told_error, unreadable
from app.providers.base import Request, Response
from app.providers.json import first_text, parse_json, read_path
from app.providers.mapped_receipts import ReceiptsRule, read_mapped_receipts
from app.providers.notices import read_meta_notices
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
from app.providers.signature import find_signature_mistake, find_token_mistake, has_hex_signature, has_token
from app.providers.webhook import parse_webhook
from app.providers.whatsapp import read_meta_replies, read_meta_statuses
from app.sources.signature import Mistake

MESSAGE_ID_PATHS = ("message_id", "messageId", "id", "data.id", "data.message_id", "data.messageId", "messages[0].id")

_SHORTEST_KEY = 8


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class AcceptedRule(BaseModel, extra="forbid", frozen=True):
    """When an answer means that the provider took the message.

    Always: a 2xx of `statuses` (empty: any). Then, unless `any_2xx` is set, a JSON object that tells of no
    error, and, where `path` is given, holds `equals` there (texts are compared case-blind; without `equals`
    anything that is not empty will do).
    """

    statuses: tuple[Annotated[int, Field(ge=200, le=299)], ...] = Field(
        (), description="Only these statuses will do; default: any 2xx.", examples=[[200, 202]]
    )
    path: str = Field("", description="Where the answer says that it took the message.", examples=["data.status"])
    equals: str | int | bool | None = Field(
        None, description="What stands there then; default: anything that is not empty.", examples=["queued"]
    )
    any_2xx: bool = Field(default=False, description="true: any 2xx will do, whatever its body says.")


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
    accepted: AcceptedRule = Field(AcceptedRule(), description="When an answer means that the message was taken.")
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
    secrets = mapped_secrets(settings)
    if not is_success(response.status):
        return read_failure(response, treat_500_as=settings.treat_500_as, secrets=secrets)
    rule, answer = settings.accepted, parse_json(response.body)
    if rule.statuses and response.status not in rule.statuses:
        return unreadable(response.status)
    if rule.any_2xx:
        return Accepted(first_text(answer, settings.message_id))
    if not isinstance(answer, dict):
        return unreadable(response.status)
    if has_error(answer):
        return read_told_error(answer, response.status, secrets)
    if rule.path and (value := read_path(answer, rule.path)) is None:
        return unreadable(response.status)
    if rule.path and not _holds(rule, value):
        return read_told_error(answer, response.status, secrets)
    return Accepted(first_text(answer, settings.message_id))


def mapped_secrets(settings: JsonApiSettings) -> tuple[str, ...]:
    """Return what must be struck out of a provider's words: its secrets, its ids, the values of its headers."""
    constants = (str(getattr(settings, name)) for name in settings.constants)
    # "Bearer" alone is no secret, what follows it is.
    words = (word for value in settings.headers.values() for word in value.split() if len(word) >= _SHORTEST_KEY)
    return secrets_of(settings, [*constants, *settings.headers.values(), *words])


def _holds(rule: AcceptedRule, value: Any) -> bool:
    if rule.equals is None:
        return value not in ("", False)
    if isinstance(value, str) and isinstance(rule.equals, str):
        return value.casefold() == rule.equals.casefold()
    return type(value) is type(rule.equals) and bool(value == rule.equals)


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
    receipts: ReceiptsRule | None = Field(
        None, description="Where its receipts say what; those in the form of WhatsApp's own API need no description."
    )


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

    def read_receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt]:
        """Return the statuses of a WhatsApp Cloud API webhook, and what the settings' `receipts` find."""
        value, secrets, rule = parse_webhook(headers, body), mapped_secrets(self.settings), self.settings.receipts
        mapped = read_mapped_receipts(rule, value, secrets) if rule else ()
        return (*mapped, *read_meta_statuses(value, secrets))

    def read_replies(self, headers: Mapping[str, str], body: bytes) -> Sequence[Reply]:
        """Return what a WhatsApp Cloud API webhook holds of customers."""
        return read_meta_replies(parse_webhook(headers, body))

    def read_notices(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notice]:
        """Return what WhatsApp's own form says of templates and of the account."""
        return read_meta_notices(parse_webhook(headers, body))
