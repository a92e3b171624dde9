"""The other APIs of the mapping guide: each of its samples, sent as it stands there, is understood and answered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.mapping.parse import parse_config
from app.model.delivery import Accepted, Reason, Rejected, Retryable, Scope
from app.model.message import Message, Variable
from app.providers import build_provider, settings_types
from app.providers.base import Provider, Response
from app.sandbox.shapes import SHAPES

GUIDE = Path(__file__).parents[2] / "docs/mapping-guide.md"
NAMED = Message("+919800000001", "coins_earned", "", "en", (Variable("name", "Riya & co"), Variable("coins", "1%")))
PLAIN = Message("+919800000001", "tpl_1", "", "en", (Variable(None, "Riya"),))


def read_sample(name: str) -> str:
    text = GUIDE.read_text()
    samples = re.findall(rf"^```yaml\n(providers:\n  {name}:\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = (sample for sample in samples if "receipts:" not in sample)
    return str(found)


def build(name: str, at: str) -> Provider:
    text = read_sample(name)
    route = f"routes: {{a: {{event: lead_create, provider: {name}, template: t}}}}\n"
    environment = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)", text), "canary-value")
    parsed = parse_config(
        f"version: 1\n{text}{route}",
        environment={**environment, f"{name.upper()}_URL": f"{at}/{name}"},
        provider_types=settings_types(),
        templates={},
    )
    assert parsed.config is not None
    assert not [problem for problem in parsed.problems if problem.message.startswith("provider")]
    return build_provider(parsed.config.providers[name])


def send(sandbox: Any, provider: Provider, message: Message) -> Any:
    request = provider.build_request(message, "delivery-1")
    answer = sandbox.client.request(request.method, request.url, headers=request.headers, content=request.body)
    return provider.read_response(Response(answer.status_code, dict(answer.headers), answer.content))


@pytest.mark.parametrize("message", [NAMED, PLAIN], ids=["named", "plain"])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_sample_of_the_guide_sends_the_message(sandbox: Any, name: str, message: Message) -> None:
    outcome = send(sandbox, build(name, str(sandbox.client.base_url)), message)
    assert isinstance(outcome, Accepted)
    (taken,) = sandbox.list_messages()
    assert (taken["provider"], taken["recipient"], taken["template"]) == (name, "+919800000001", message.template)
    assert taken["variables"] == [variable.value for variable in message.variables]
    assert (outcome.provider_message_id or "").removeprefix("wamid.") == taken["id"]
    assert sandbox.count("recipients") == {"+919800000001": 1}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_refusal_is_read_by_its_meaning(sandbox: Any, name: str) -> None:
    provider = build(name, str(sandbox.client.base_url))
    missing = send(sandbox, provider, Message("+919800000001", "nothing"))
    assert (type(missing), missing.reason, missing.scope) == (Rejected, Reason.TEMPLATE_REFUSED, Scope.TEMPLATE)
    few = send(sandbox, provider, Message("+919800000001", "tpl_1", "", "en", ()))
    assert isinstance(few, Rejected)
    assert not sandbox.list_messages()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_fault_meets_them_all(sandbox: Any, name: str) -> None:
    sandbox.put_faults(http={"fault": "status", "status": 429, "retry_after": 7})
    outcome = send(sandbox, build(name, str(sandbox.client.base_url)), PLAIN)
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after_ms == 7_000


def test_a_number_that_is_none_is_refused(sandbox: Any) -> None:
    body = {"fullPhoneNumber": "nobody", "template": {"name": "tpl_1"}}
    answer = sandbox.client.post("/interakt/v1/public/message/", json=body)
    assert (answer.status_code, answer.json()) == (400, {"result": False, "message": "Invalid phone number"})
