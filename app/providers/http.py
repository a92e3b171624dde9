"""A JSON API described in the YAML: what `type: http` and `type: bitespeed` share.

docs/mapping-guide.md shows one, and lists the placeholders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.model.delivery import Outcome
from app.model.message import Message, Receipt, ReceiptStatus
from app.model.value import dataclass
from app.providers.answers import ANY_RULE, MESSAGE_ID_PATHS, AcceptedRule, read_answer
from app.providers.base import Proof, Request, Response, WebhookContent
from app.providers.body import Signature, Token, as_items, as_mapping, first_instant, first_text
from app.providers.request import (
    MESSAGE_NAMES,
    RemoteSettings,
    build_request,
    check_fields,
    check_headers,
    check_mapping,
    check_path,
    encode_fields,
    fill_fields,
    fill_headers,
    fill_mapping,
    fill_path,
    is_literal,
    message_values,
    secrets_of,
    write_json,
)
from app.providers.whatsapp import make_receipt, read_meta, read_status_word

_SHORTEST_KEY = 8
_NO_RULE = (
    "does not say by what an answer means that the message was taken",
    "write accepted: {path: data.status, equals: queued} as `answer.shape` in the log shows it, or accepted: {}",
)


# Where a placeholder may stand.
_CHECKS: Mapping[str, Callable[[Any, Collection[str]], None]] = {
    "path": check_path,
    "headers": check_headers,
    "query": check_fields,
    "body": check_mapping,
    "form": check_fields,
}


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])]


class JsonApiSettings(RemoteSettings):
    """The keys of a provider whose API is described in the YAML."""

    constants: ClassVar[Collection[str]] = ()  # settings that the body may name, beside the message's own values

    path: str = Field(
        "", pattern=r"^([/?][\x21-\x5b\x5d-\x7e]*)?$", description="What follows base_url.", examples=["/v1/send"]
    )
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="HTTP method of the request.")
    headers: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="More headers; content-type is always application/json.",
        examples=[{"authorization": "Bearer ${API_TOKEN}"}],
    )
    query: dict[str, JsonValue] = Field(
        default_factory=dict,
        repr=False,
        description="Added to the address, encoded.",
        examples=[{"whatsappNumber": "$phone"}],
    )
    body: dict[str, JsonValue] | None = Field(
        None,
        description="The JSON body; $phone and the like stand for the message's values.",
        examples=[{"to": "$phone", "templateId": "$template", "params": "$variables"}],
    )
    form: dict[str, JsonValue] | None = Field(
        None,
        validate_default=True,
        repr=False,
        description="Instead of `body`: the fields of a form (application/x-www-form-urlencoded).",
        examples=[{"To": "whatsapp:$phone_plus", "ContentSid": "$template", "ContentVariables": "$variables_by_name"}],
    )
    accepted: AcceptedRule = Field(ANY_RULE, description="When an answer means that the message was taken.")
    message_id: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        MESSAGE_ID_PATHS,
        description="Where the provider's id stands in its answer; the first that is there.",
        examples=["data.id"],
    )

    @property
    def is_guessed(self) -> bool:
        """The file does not say how an answer tells that the message was taken."""
        return not (self.accepted.path or self.accepted.any_2xx)

    def list_doubts(self) -> Sequence[tuple[str, str]]:
        """Return what `check` should warn of, and the cure of each."""
        return () if "accepted" in self.model_fields_set else (_NO_RULE,)

    @field_validator(*_CHECKS)
    @classmethod
    def _check_placeholders(cls, value: Any, info: ValidationInfo) -> Any:
        json.dumps(value, allow_nan=False)
        if value:
            _CHECKS[str(info.field_name)](value, MESSAGE_NAMES | set(cls.constants))
        return value

    @field_validator("form")
    @classmethod
    def _check_one_of_two(cls, value: dict[str, JsonValue] | None, info: ValidationInfo) -> Any:
        if "body" in info.data and (info.data["body"] is None) == (value is None):
            raise ValueError("is sent instead of `body:`; write one of the two")
        return value


@dataclass(frozen=True, slots=True)
class JsonApi:
    """An instance is one configured account whose requests and answers the YAML describes."""

    settings: JsonApiSettings

    def build_request(self, message: Message, delivery_id: str) -> Request:
        """Return the request that the settings describe."""
        settings = self.settings
        constants = {name: getattr(settings, name) for name in settings.constants}
        values = {**constants, **message_values(message, delivery_id)}
        url = settings.base_url + fill_path(settings.path, values)
        if query := encode_fields(fill_fields(settings.query, values)):
            url += f"{'&' if '?' in url else '?'}{query}"
        headers = fill_headers(settings.headers, values)
        if settings.form is None:
            return build_request(settings.method, url, headers, write_json(fill_mapping(settings.body, values) or {}))
        form = encode_fields(fill_fields(settings.form, values))
        return build_request(settings.method, url, headers, form, "application/x-www-form-urlencoded")

    def read_response(self, response: Response) -> Outcome:
        """Say what the answer means by the settings' `accepted` and `message_id`."""
        settings = self.settings
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
    fields = [*settings.query.items(), *(settings.form or {}).items()]
    hidden = (str(value) for name, value in fields if is_literal(name, value, MESSAGE_NAMES))
    # "Bearer" alone is no secret, what follows it is.
    words = (word for value in settings.headers.values() for word in value.split() if len(word) >= _SHORTEST_KEY)
    return secrets_of(settings, [*constants, *settings.headers.values(), *words, *hidden])


class ReceiptsRule(BaseModel, extra="forbid", frozen=True):
    """A receipt is read by these paths: each is one, or a list of which the first that is there counts."""

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

    def read_receipt(self, item: Any, list_secrets: Callable[[], Sequence[str]]) -> Receipt | None:
        """Return the receipt that an object of a webhook is, None if it is none."""
        words = {word.casefold(): ReceiptStatus(status) for status, theirs in self.words.items() for word in theirs}
        word, code = first_text(item, self.status) or "", first_text(item, self.code)
        return make_receipt(
            words.get(word.casefold()) or read_status_word(word),
            first_text(item, self.delivery_id),
            first_text(item, self.id),
            first_instant(item, self.at),
            {**as_mapping(item), "errors": [{"code": code}]} if code else item,
            list_secrets,
        )


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
class Http(JsonApi):
    """An instance is one configured JSON API."""

    settings: HttpSettings
    settings_type: ClassVar[type[HttpSettings]] = HttpSettings

    def read_proof(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Proof:
        """Return the signature, or, without a `webhook_secret`, the token."""
        secret = self.settings.webhook_secret.get_secret_value()
        if secret:
            return Signature(secret, headers.get("x-hub-signature-256", ""), "hex")
        return Token(self.settings.webhook_token.get_secret_value(), query.get("token", ""))

    def read_webhook(self, headers: Mapping[str, str], value: Any) -> WebhookContent:  # noqa: ARG002 - the seam
        """Return what a WhatsApp Cloud API webhook holds, and what the settings' `receipts` find, one or a list."""
        rule, list_secrets = self.settings.receipts, partial(mapped_secrets, self.settings)
        meta = read_meta(value, list_secrets)
        if rule is None:
            return meta
        receipts = (rule.read_receipt(item, list_secrets) for item in as_items(value) or (value,))
        return replace(meta, receipts=(*filter(None, receipts), *meta.receipts))
