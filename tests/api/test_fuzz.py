"""Whatever anybody posts or asks, the relay answers as docs/contract.md says, and never breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance

from app.errors import StoreFull
from app.model.delivery import State
from tests.outbox.methods import break_store

NECTOR = {
    "content-type": "application/json",
    "x-nector-topic": "walletreward_create",
    "x-nector-webhook-secret": hashlib.sha256(b"test-secret").hexdigest(),
}
MEDIA = {True: {"application/problem+json"}, False: {"application/json", "text/plain", ""}}  # "" is a 204's
ANSWERS = {200, 202, 400, 401, 413, 415, 422}
steady = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,  # the machine may be busy; pytest's timeout bounds the whole
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

keys = st.sampled_from(
    ["user_mobile", "user_name", "amount", "customer", "mobile", "items", "keys", "__class__", "__proto__", "", "id"]
) | st.text(max_size=8)
numbers = st.integers(-(10**40), 10**40) | st.floats(allow_nan=True)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
coins = st.fixed_dictionaries(
    {},
    optional={
        "user_mobile": values | st.just("9800000001"),
        "user_name": values | st.just("Riya"),
        "amount": values | st.just("100"),
        "customer": st.dictionaries(st.sampled_from(["name", "mobile", "country", "items"]), values),
        "items": values,
        "__class__": values,
    },
)
topics = st.sampled_from(["walletreward_create", "coupon_create", "lead_update", "wallettransaction_update"])
# What a server would let through as the value of a header: no control character.
header_values = st.binary(max_size=40).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127))


async def post(relay: Any, body: bytes, headers: dict[str, Any] | None = None) -> httpx2.Response:
    """Post, and check of the answer what is true of all of them."""
    answer: httpx2.Response = await relay.client.post(
        "/webhooks/nector", content=body, headers=NECTOR if headers is None else headers
    )
    assert answer.status_code in ANSWERS
    body_of_answer = answer.json()
    if answer.is_success:
        assert set(body_of_answer) == {"event_id", "status", "deliveries"}
        assert body_of_answer["status"] in {"accepted", "unrouted", "duplicate"}
        for row in body_of_answer["deliveries"]:
            assert set(row) == {"id", "route", "provider", "state"}
            assert row["state"] in set(State)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(body_of_answer) == {"type", "title", "status", "detail"}
        assert body_of_answer["status"] == answer.status_code
    return answer


@steady
@given(body=st.binary(max_size=300))
async def test_any_bytes_get_an_answer_of_the_contract(relay: Any, body: bytes) -> None:
    answer = await post(relay, body)
    assert answer.status_code != 401


@steady
@given(value=values)
async def test_any_json_gets_an_answer_of_the_contract(relay: Any, value: Any) -> None:
    body = json.dumps(value).encode()
    answer = await post(relay, body)
    # NaN and half characters are no JSON to us; otherwise only an object is an event
    assert answer.status_code in ({202, 400} if isinstance(value, dict) else {400, 422})


@steady
@given(payload=coins, topic=topics)
async def test_an_event_with_any_value_anywhere_gets_an_answer_of_the_contract(
    relay: Any, payload: dict[str, Any], topic: str
) -> None:
    answer = await post(relay, json.dumps(payload).encode(), {**NECTOR, "x-nector-topic": topic})
    assert answer.status_code in {202, 400}


@steady
@given(
    changes=st.dictionaries(
        st.sampled_from(["topic", "delivery-id", "timestamp", "webhook-secret", "webhook-hmac", "anything"]).map(
            lambda name: f"x-nector-{name}"
        ),
        header_values,
        max_size=4,
    )
)
async def test_any_header_of_nectors_gets_an_answer_of_the_contract(relay: Any, changes: dict[str, bytes]) -> None:
    answer = await post(relay, b'{"user_mobile": "9800000001"}', {**NECTOR, **changes})
    assert (answer.status_code == 401) == ("x-nector-webhook-secret" in changes)


@steady
@given(media=header_values, encoding=header_values)
async def test_any_media_type_gets_an_answer_of_the_contract(relay: Any, media: bytes, encoding: bytes) -> None:
    await post(relay, b"{}", {**NECTOR, "content-type": media, "content-encoding": encoding})


async def test_control_an_answer_outside_the_contract_is_noticed(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise StoreFull("no space")

    break_store(monkeypatch, relay.outbox, fail, "add_events")
    with pytest.raises(AssertionError):
        await post(relay, b"{}")


def check_operation(operation: Any, ask: Callable[[dict[str, Any]], httpx2.Response], statuses: set[int]) -> None:
    """Ask what the description allows and what it does not; raises what schemathesis finds."""

    @settings(steady, max_examples=30)
    @given(data=st.data())
    def ask_once(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(GenerationMode)))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        answer = ask(case.as_transport_kwargs(base_url="http://relay.example"))
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=[not_a_server_error, content_type_conformance])
        # JSON, and a problem for an error (docs/contract.md), whatever the description says
        media = answer.headers.get("content-type", "").partition(";")[0]
        assert media in MEDIA[answer.status_code >= 400], f"{operation.label}: {answer.status_code} {media}"

    ask_once()


async def test_every_path_of_the_description_answers_whatever_it_is_asked(relay: Any) -> None:
    description = (await relay.ops("GET", "/openapi.json")).json()
    loop = asyncio.get_running_loop()

    def ask(request: dict[str, Any]) -> httpx2.Response:
        asked = {"method": request["method"], "url": request["url"], "params": request["params"]}
        asked["headers"] = {**request["headers"], "authorization": "Bearer test-token"}
        asked |= {"content": request["data"]} if "data" in request else {"json": request.get("json")}
        asking: Any = relay.client.request(**asked)
        answer: httpx2.Response = asyncio.run_coroutine_threadsafe(asking, loop).result(timeout=10)
        return answer

    seen: dict[str, set[int]] = {}
    for found in schemathesis.openapi.from_dict(description).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        statuses = seen.setdefault(operation.label, set())
        await asyncio.to_thread(check_operation, operation, ask, statuses)
    assert set(seen) == {f"{method.upper()} {path}" for path, of in description["paths"].items() for method in of}
    # past the door: only the webhooks ask for a secret that is not the token
    assert [label for label, statuses in seen.items() if statuses <= {401} and "/webhooks/" not in label] == []
