from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from app.errors import Mistake
from app.model.delivery import Reason, Rejected
from app.model.message import Message, Receipt, ReceiptStatus, Variable
from app.providers.base import Provider, Response
from app.providers.http import HttpSettings
from tests.providers.conftest import SAMPLES, read_webhook


def test_any_json_api_can_be_described(build_account: Callable[..., Provider], message: Message) -> None:
    # WhatsApp's own Cloud API, as an example of a nested body
    provider = build_account(
        "http",
        path="/v25.0/1055/messages",
        body={
            "messaging_product": "whatsapp",
            "to": "$phone",
            "biz_opaque_callback_data": "$delivery_id",
            "type": "template",
            "template": {
                "name": "$template",
                "language": {"code": "$language"},
                "components": [{"type": "body", "parameters": "$text_parameters"}],
            },
        },
    )
    request = provider.build_request(message, "d-1")
    assert request.url == "https://api.example/v25.0/1055/messages"
    assert json.loads(request.body) == {
        "messaging_product": "whatsapp",
        "to": "919800000001",
        "biz_opaque_callback_data": "d-1",
        "type": "template",
        "template": {
            "name": "coins_earned",
            "language": {"code": "en"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "parameter_name": "user_name", "text": "Riya"},
                        {"type": "text", "parameter_name": "amount", "text": "100"},
                    ],
                }
            ],
        },
    }


def test_a_body_of_which_nothing_is_left_is_an_empty_object(build_account: Callable[..., Provider]) -> None:
    provider = build_account("http", body={"header": {"url": "$header_value"}})
    assert provider.build_request(Message("+919800000001", "t"), "d-1").body == b"{}"


def test_statuses_in_metas_form_are_receipts(build_account: Callable[..., Provider]) -> None:
    failed = {
        "id": "wamid.b",
        "status": "failed",
        "timestamp": "1790000001",
        "biz_opaque_callback_data": "d-2",
        "errors": [{"code": 131049, "title": "capped", "error_data": {"details": "for 919800000001"}}],
    }
    statuses = [{"id": "wamid.a", "status": "read", "timestamp": "1790000000"}, None, {"status": "read"}, failed]
    body = {"entry": [7, {"changes": [{"value": None}, {"value": {"statuses": statuses}}]}]}
    assert list(read_webhook(build_account("http"), {}, json.dumps(body).encode()).receipts) == [
        Receipt(ReceiptStatus.READ, None, "wamid.a", 1_790_000_000_000),
        Receipt(
            ReceiptStatus.FAILED,
            "d-2",
            "wamid.b",
            1_790_000_001_000,
            Reason.RECIPIENT_CAPPED,
            "131049: capped | for ***",
        ),
    ]


@pytest.mark.parametrize(("token", "believed"), [("hook-canary-4", True), ("hook-canary-5", False), ("", False)])
def test_a_token_does_where_no_signing_secret_is_set(
    build_account: Callable[..., Provider], token: str, believed: bool
) -> None:
    provider = build_account("http", webhook_secret="", webhook_token="hook-canary-4")
    assert provider.read_proof({}, {"token": token}).fits(b"{}") is believed
    assert (provider.read_proof({}, {"token": token}).find_mistake() is None) is believed


@pytest.mark.parametrize("written", ["ab+cd/ef==", "ab%2Bcd%2Fef%3D%3D"])
@pytest.mark.parametrize("type_", ["http", "bitespeed"])
def test_a_token_with_a_plus_works_as_it_is_pasted(
    build_account: Callable[..., Provider], type_: str, written: str
) -> None:
    given = {"webhook_secret": ""} if type_ == "http" else {}
    provider = build_account(type_, webhook_token="ab+cd/ef==", **given)
    assert provider.read_proof({}, QueryParams(f"token={written}")).find_mistake() is None
    assert provider.read_proof({}, QueryParams(f"token={written}")).fits(b"{}")
    assert not provider.read_proof({}, QueryParams("token=ab-cd/ef==")).fits(b"{}")


def test_a_token_does_not_stand_in_for_a_signature(build_account: Callable[..., Provider]) -> None:
    provider = build_account("http", webhook_token="hook-canary-4")
    assert not provider.read_proof({}, {"token": "hook-canary-4"}).fits(b"{}")
    assert provider.read_proof({}, {"token": "hook-canary-4"}).find_mistake() is Mistake.MISSING


def form_of(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def test_a_value_is_encoded_for_its_place(build_account: Callable[..., Provider]) -> None:
    provider = build_account(
        "http",
        path="/to/$phone_plus/$template?v=$$1",
        query={"who": "$name", "vars": "$variables", "none": "$language", "n": 7, "api_token": "a$phone+b"},
        headers={"idempotency-key": "$delivery_id", "x-name": "for $name", "x-lang": "$language", "x-token": "p$phone"},
    )
    hostile = Message("+919800000001", "a/b?c", "Ri\r\nya हि & %41", variables=(Variable(None, "1&2=3"),))
    request = provider.build_request(hostile, "d-1")
    path, _, query = request.url.partition("?")
    assert path == "https://api.example/to/%2B919800000001/a%2Fb%3Fc"
    assert query.isascii()
    assert form_of(query.encode()) == {
        "v": "$1",
        "who": "Ri\r\nya हि & %41",
        "vars": '["1&2=3"]',
        "n": "7",
        "api_token": "a$phone+b",
    }
    assert request.headers["idempotency-key"] == "d-1"
    assert request.headers["x-name"] == "for Ri%0D%0Aya %E0%A4%B9%E0%A4%BF & %41"
    assert request.headers["x-token"] == "p$phone", "a secret is no template"
    assert "x-lang" not in request.headers


def test_a_form_is_sent_as_a_form(build_account: Callable[..., Provider], message: Message) -> None:
    provider = build_account(
        "http", body=None, form={"To": "whatsapp:$phone_plus", "Vars": "$variables_by_name", "Lang": "$language"}
    )
    request = provider.build_request(message, "d-1")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form_of(request.body) == {
        "To": "whatsapp:+919800000001",
        "Vars": '{"user_name":"Riya","amount":"100"}',
        "Lang": "en",
    }


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"path": "/$fone"}, r"\$fone is not known"),
        ({"path": "/$language"}, "cannot stand in a path"),
        ({"path": "/$variables"}, "has to be the whole value"),
        ({"path": "/x$variables"}, "has to be the whole value"),
        ({"headers": {"x-a": "$fone"}}, r"\$fone is not known"),
        ({"headers": {"x-a": "$variables"}}, "cannot stand in a header"),
        ({"query": {"a": "x $buttons"}}, "has to be the whole value"),
        ({"query": {"a": float("nan")}}, "query"),
        ({"form": {"a": "$fone"}, "body": None}, r"\$fone is not known"),
        ({"form": {"a": "b"}}, "write one of the two"),
        ({"body": None}, "write one of the two"),
    ],
)
def test_what_cannot_be_filled_is_told_before_anything_is_sent(
    build_account: Callable[..., Provider], bad: Any, told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        build_account("http", **bad)


def test_a_secret_of_the_query_is_struck_out_of_what_a_provider_says(build_account: Callable[..., Provider]) -> None:
    provider = build_account("http", query={"token": "query-canary-9"})
    outcome = provider.read_response(Response(400, {}, b'{"message": "bad token query-canary-9"}'))
    assert isinstance(outcome, Rejected)
    assert outcome.detail == "HTTP 400: bad token ***"


@pytest.mark.parametrize(
    ("accepted", "is_guessed"),
    [({}, True), ({"statuses": [200]}, True), ({"path": "data.status"}, False), ({"any_2xx": True}, False)],
)
def test_whether_a_message_was_taken_is_guessed_unless_the_file_says_how_to_tell(
    accepted: Any, is_guessed: bool
) -> None:
    settings = HttpSettings.model_validate({**SAMPLES["http"].settings, "accepted": accepted})
    assert settings.is_guessed is is_guessed
