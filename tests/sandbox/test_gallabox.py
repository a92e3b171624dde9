from __future__ import annotations

from typing import Any

import pytest

PATH = "/devapi/messages/whatsapp"
CREDENTIALS = {"apiKey": "key-1", "apiSecret": "secret-1"}
GONE = object()
BANNER_TEXT = """\
╭─
│ [image b.jpg]
│ Hi Riya
│ [ Stop ]
│ [ Redeem → https://acme.example/r/ACME ]
│ [ Call → +919800000099 ]
╰─"""


def make_body(template: str = "coins_earned", **parts: Any) -> dict[str, Any]:
    shapes: dict[str, dict[str, Any]] = {
        "coins_earned": {"bodyValues": {"coins": "100", "name": "Riya"}},
        "banner": {
            "bodyValues": {"1": "Riya"},
            "headerValues": {"mediaUrl": "https://cdn.example/b.jpg", "mediaName": "banner.jpg"},
            "buttonValues": [{"index": 1, "sub_type": "url", "parameters": {"type": "text", "text": "ACME"}}],
        },
        "titled": {"headerValues": {"1": "Riya"}},
    }
    return {
        "channelId": "channel-1",
        "channelType": "whatsapp",
        "localMessageId": "delivery-1",
        "recipient": {"name": "Riya", "phone": "919800000001"},
        "whatsapp": {"type": "template", "template": {"templateName": template, **shapes.get(template, {}), **parts}},
    }


def change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *steps, last = path.split(".")
    target = body
    for step in steps:
        target = target[int(step)] if isinstance(target, list) else target[step]
    if value is GONE:
        del target[last]
    else:
        target[last] = value
    return body


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("coins_earned", "╭─\n│ Hi Riya, 100 coins.\n│ _Reply STOP_\n╰─"),
        ("banner", BANNER_TEXT),
        ("titled", "╭─\n│ For Riya\n│ Hello\n╰─"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/devapi/accounts/account-1/messages/whatsapp"])
def test_sound_request_is_accepted_kept_and_shown(sandbox: Any, template: str, text: str, path: str) -> None:
    answer = sandbox.client.post(path, headers=CREDENTIALS, json=make_body(template))
    assert answer.status_code == 202
    assert answer.json() == {
        "id": sandbox.list_messages()[0]["id"],
        "status": "ACCEPTED",
        "message": "Message received and being sent to recipient",
    }
    message = sandbox.list_messages()[0]
    del message["id"], message["at"]
    values = {"coins_earned": ["Riya", "100"], "banner": ["Riya"], "titled": []}[template]
    assert message == {
        "provider": "gallabox",
        "delivery_id": "delivery-1",
        "template": template,
        "recipient": "+919800000001",
        "variables": values,
        "text": text,
        "requests": 1,
    }
    assert sandbox.shown == [f"gallabox → +919800000001  {template}\n{text}"]


TEMPLATE = "whatsapp.template"
BUTTON = f"{TEMPLATE}.buttonValues.0"


@pytest.mark.parametrize(
    ("template", "path", "value", "code", "start"),
    [
        ("coins_earned", "channelId", GONE, None, '"channelId" is required'),
        ("coins_earned", "channelId", " ", None, '"channelId": '),
        ("coins_earned", "channelId", "other", None, "Channel not found"),
        ("coins_earned", "channelType", "sms", None, '"channelType": '),
        ("coins_earned", "extra", 1, None, '"extra" is not allowed'),
        ("coins_earned", "localMessageId", "", None, '"localMessageId": '),
        ("coins_earned", "recipient.name", "", None, '"recipient.name": '),
        ("coins_earned", "recipient.name", None, None, '"recipient.name": '),
        ("coins_earned", "recipient.rawPhone", "1", None, '"recipient.rawPhone" is not allowed'),
        ("coins_earned", "recipient.phone", "+919800000001", None, '"recipient.phone": '),
        ("coins_earned", "recipient.phone", "9800000", None, '"recipient.phone": '),
        ("coins_earned", "recipient.phone", "9198000000011111", None, '"recipient.phone": '),
        ("coins_earned", "recipient.phone", 919800000001, None, '"recipient.phone": '),
        ("coins_earned", "whatsapp.type", "text", None, '"whatsapp.type": '),
        ("coins_earned", "whatsapp.text", {}, None, '"whatsapp.text" is not allowed'),
        ("coins_earned", f"{TEMPLATE}.templateName", "", None, '"whatsapp.template.templateName": '),
        ("coins_earned", f"{TEMPLATE}.templateName", "nosuch", 132001, "Template not found"),
        ("coins_earned", f"{TEMPLATE}.templateName", "tpl_1", 132001, "Template not found"),
        ("coins_earned", f"{TEMPLATE}.templateName", "paused_one", 132015, "Template is paused"),
        ("coins_earned", f"{TEMPLATE}.templateName", "new_one", 132001, "Template is pending"),
        ("coins_earned", f"{TEMPLATE}.languageCode", "hi", 132001, "Template does not exist in the translation hi"),
        ("coins_earned", f"{TEMPLATE}.template_name", "x", None, '"whatsapp.template.template_name" is not allowed'),
        ("coins_earned", f"{TEMPLATE}.bodyValues", GONE, 132000, "(#132000) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues", ["Riya", "100"], None, '"whatsapp.template.bodyValues": '),
        ("coins_earned", f"{TEMPLATE}.bodyValues.coins", GONE, 132000, "(#132000) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.balance", "1", 132000, "(#132000) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues", {"1": "Riya", "2": "100"}, 132000, "(#132000) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.coins", 100, None, '"whatsapp.template.bodyValues.coins": '),
        ("coins_earned", f"{TEMPLATE}.bodyValues.coins", " ", 131008, "(#131008) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.name", "two\nlines", 132018, "(#132018) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.name", "a\ttab", 132018, "(#132018) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.name", "four    blanks", 132018, "(#132018) "),
        ("coins_earned", f"{TEMPLATE}.bodyValues.name", "x" * 1020, 132005, "(#132005) "),
        ("coins_earned", f"{TEMPLATE}.headerValues", {"mediaUrl": "https://cdn.example/b.jpg"}, 132012, "(#132012) "),
        ("banner", f"{TEMPLATE}.headerValues", GONE, 132012, "(#132012) "),
        ("banner", f"{TEMPLATE}.headerValues", {"1": "Riya"}, 132012, "(#132012) "),
        ("banner", f"{TEMPLATE}.headerValues.mediaUrl", "b.jpg", 131008, "(#131008) "),
        ("banner", f"{TEMPLATE}.headerValues.size", "1", None, '"whatsapp.template.headerValues.size" is not allowed'),
        ("titled", f"{TEMPLATE}.headerValues", {"mediaUrl": "https://cdn.example/b.jpg"}, 132012, "(#132012) "),
        ("titled", f"{TEMPLATE}.headerValues", {"1": "a", "2": "b"}, None, '"whatsapp.template.headerValues" needs'),
        ("titled", f"{TEMPLATE}.headerValues", {"1": ""}, 131008, "(#131008) "),
        ("banner", f"{TEMPLATE}.buttonValues", GONE, 131008, "(#131008) "),
        ("banner", f"{BUTTON}.index", 0, 131008, "(#131008) "),
        ("banner", f"{BUTTON}.index", -1, None, '"whatsapp.template.buttonValues.0.index": '),
        ("banner", f"{BUTTON}.sub_type", "quick_reply", None, '"whatsapp.template.buttonValues.0.sub_type": '),
        ("banner", f"{BUTTON}.parameters", [], None, '"whatsapp.template.buttonValues.0.parameters": '),
        ("banner", f"{BUTTON}.parameters.text", " ", 131008, "(#131008) "),
        ("titled", f"{TEMPLATE}.buttonValues", make_body("banner")["whatsapp"]["template"]["buttonValues"], 132012, ""),
    ],
)
def test_wrong_request_is_refused_by_name(
    sandbox: Any, *, template: str, path: str, value: Any, code: int | None, start: str
) -> None:
    answer = sandbox.client.post(PATH, headers=CREDENTIALS, json=change(make_body(template), path, value))
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(start)
    assert answer.json().get("code") == code
    assert sandbox.list_messages() == []
    assert sandbox.count("seen") == {"gallabox": 1}


@pytest.mark.parametrize("headers", [{}, {"apiKey": "key-1"}, {**CREDENTIALS, "apiSecret": "other"}])
def test_wrong_credentials_are_unauthorized(sandbox: Any, headers: dict[str, str]) -> None:
    for method, path in (("POST", PATH), ("GET", "/devapi/accounts/account-1/whatsappTemplates")):
        answer = sandbox.client.request(method, path, headers=headers, content=b"{}")
        assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})


def test_any_credentials_do_where_none_are_expected(start_sandbox: Any) -> None:
    with start_sandbox() as sandbox:
        body = change(make_body(), "channelId", "whatever")
        assert sandbox.client.post(PATH, json=body).status_code == 401
        headers = {"apiKey": "a", "apiSecret": "b"}
        assert sandbox.client.post(PATH, headers=headers, json=body).status_code == 202


@pytest.mark.parametrize(
    ("content", "content_type", "status", "message"),
    [
        (b"{}", "text/plain", 415, "Content-Type"),
        (b"{", "application/json", 400, "The body is not valid JSON"),
        (b"\xff", "application/json; charset=utf-8", 400, "The body is not valid JSON"),
        (b"[]", "application/json", 400, '"body": '),
    ],
)
def test_body_must_be_a_json_object(sandbox: Any, content: bytes, content_type: str, status: int, message: str) -> None:
    headers = {**CREDENTIALS, "content-type": content_type}
    answer = sandbox.client.post(PATH, headers=headers, content=content)
    assert answer.status_code == status
    assert answer.json()["message"].startswith(message)


def test_approved_templates_are_listed_as_gallabox_lists_them(sandbox: Any) -> None:
    answer = sandbox.client.get("/devapi/accounts/account-1/whatsappTemplates", headers=CREDENTIALS)
    listed = {item["name"]: item for item in answer.json()}
    assert sorted(listed) == ["banner", "coins_earned", "new_one", "paused_one", "titled"]
    assert listed["banner"] == {
        "id": "sandbox-banner",
        "accountId": "account-1",
        "channelId": "channel-1",
        "name": "banner",
        "status": "approved",
        "language": "en",
        "category": "UTILITY",
        "variables": ["1"],
        "components": [
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "Hi {{1}}"},
            {
                "type": "BUTTONS",
                "buttons": [
                    {"type": "QUICK_REPLY", "text": "Stop"},
                    {"type": "URL", "text": "Redeem", "url": "https://acme.example/r/{{1}}"},
                    {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+919800000099"},
                ],
            },
        ],
    }
    assert listed["titled"]["components"][0] == {"type": "HEADER", "format": "TEXT", "text": "For {{1}}"}
    assert listed["coins_earned"]["components"][1] == {"type": "FOOTER", "text": "Reply STOP"}


def test_templates_of_another_account_are_forbidden(sandbox: Any) -> None:
    answer = sandbox.client.get("/devapi/accounts/account-2/whatsappTemplates", headers=CREDENTIALS)
    assert answer.status_code == 403
