"""`/openapi.json`: who may call each path, and what it answers, as the relay really does."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import pytest

from app.api.description import ANSWERS, SCHEMES

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
PLAN = {"route": "coins-earned", "since": "1d", "state": "accepted"}


@pytest.fixture
async def described(relay: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await relay.ops("GET", "/openapi.json")).json()
    return answer


def close(schema: Any) -> Any:
    """Return a schema whose objects may have no more keys than it names: what is published lets new ones come."""
    closed = copy.deepcopy(schema)
    for model in closed["components"]["schemas"].values():
        if "properties" in model:
            model["additionalProperties"] = False
    return closed


def check(described: Mapping[str, Any], path: str, method: str, status: int, told: Any) -> None:
    answer = described["paths"][path][method]["responses"][str(status)]
    (content,) = answer["content"].values()
    # References lead to the whole document, which stands beside the schema.
    jsonschema_rs.Draft202012Validator({**content["schema"], "components": described["components"]}).validate(told)


def test_every_path_says_who_may_call_it(described: dict[str, Any]) -> None:
    assert described["components"]["securitySchemes"] == SCHEMES
    free = set()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            names = {name for one in operation["security"] for name in one}
            assert names <= SCHEMES.keys()
            if not names:
                free.add(f"{method} {path}")
    assert free == {"get /healthz", "get /readyz", "get /webhooks/{provider}"}
    assert described["paths"]["/deliveries"]["get"]["security"] == [{"adminToken": []}]
    assert described["paths"]["/webhooks/nector"]["post"]["security"] == [{"webhookSecret": []}]


def test_every_path_says_what_it_answers(described: dict[str, Any]) -> None:
    texts = {key for key, model in ANSWERS.items() if model is None}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                if int(status) >= 400:
                    assert content["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
                elif (method, path) not in texts:
                    assert content["application/json"]["schema"], (method, path)
    assert {key for key in ANSWERS if key[0] not in described["paths"].get(key[1], {})} == set()
    text = json.dumps(described)
    assert "HTTPValidationError" not in text


async def test_what_the_relay_answers_is_what_is_described(relay: Any, described: dict[str, Any]) -> None:
    closed = close(described)

    async def ask(method: str, path: str, body: Any = None, *, shown: str = "", status: int = 200) -> Any:
        answer = await relay.ops(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        told = answer.json()
        check(closed, shown or path.partition("?")[0], method.lower(), status, told)
        return told

    posted = await relay.post(COINS, delivery_id="described-1")
    check(closed, "/webhooks/nector", "post", 202, posted.json())
    (row,) = posted.json()["deliveries"]
    check(closed, "/webhooks/nector", "post", 200, (await relay.post(COINS, delivery_id="described-1")).json())
    await relay.wait_for(row["id"], "accepted")
    for path in ("/healthz", "/readyz"):
        check(closed, path, "get", 200, (await relay.client.get(path)).json())
    assert (await ask("GET", "/deliveries"))["deliveries"]
    await ask("GET", "/deliveries/reasons?state=dead")
    await ask("GET", f"/deliveries/{row['id']}", shown="/deliveries/{delivery_id}")
    await ask("GET", "/deliveries/nothing", shown="/deliveries/{delivery_id}", status=404)
    await ask("POST", "/deliveries/retry", {"ids": ["nothing"]})
    await ask("PUT", "/holds/route:coins-earned", {"reason": "described"}, shown="/holds/{scope}")
    assert (await ask("GET", "/holds"))["holds"]
    await ask("POST", "/reload")
    assert (await ask("GET", "/report"))["rows"]
    plan = await ask("POST", "/replay", PLAN)
    await ask("POST", "/replay", {"apply": plan["plan_id"]})
    await ask("POST", "/diff", {"yaml": "version: 1\nproviders: {}\nroutes: {}\n"}, status=422)
    await ask("GET", "/examples")
    await ask("POST", "/suppressions", {"phones": [COINS["user_mobile"], "nobody"]})
    assert (await ask("GET", "/suppressions"))["suppressions"]
    await ask("POST", "/suppressions/remove", {"phones": [COINS["user_mobile"]]})
    await ask("POST", "/export", {"phone": COINS["user_mobile"]})
    await ask("POST", "/erase", {"phone": COINS["user_mobile"]})


def test_an_answer_that_is_not_as_described_is_noticed(described: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        check(close(described), "/holds", "get", 200, {"holds": [], "more": 1})
    check(described, "/holds", "get", 200, {"holds": [], "more": 1})
    with pytest.raises(jsonschema_rs.ValidationError):
        check(described, "/holds", "get", 200, {"holds": [{"scope": "route:a"}]})
