"""`POST /send-test` with a real outbox and the sandbox: one message, to an allowed number, and to nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OWN = "+919800000099"


async def order(relay: Any, **fields: Any) -> Any:
    return await relay.ops("POST", "/send-test", json=fields)


async def test_the_first_example_that_sends_goes_to_the_number_and_nowhere_else(relay: Any, sandbox: Any) -> None:
    answer = await order(relay, route="coins-earned", to="98000 00099")
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "pending"
    delivery = await relay.wait_for(answer.json()["id"], "accepted")
    assert (delivery["recipient"], delivery["event"]["source"]) == ("+91******0099", "send-test")
    assert [message["recipient"] for message in await sandbox.messages()] == [OWN]


async def test_a_replay_sends_nothing_of_a_test(relay: Any, sandbox: Any) -> None:
    queued = (await order(relay, route="coins-earned", to=OWN)).json()["id"]
    event_id = (await relay.wait_for(queued, "accepted"))["event_id"]
    plan = (await relay.ops("POST", "/replay", json={"events": [event_id]})).json()
    assert plan["counts"] == {"unrouted": 1}
    assert len(await sandbox.messages()) == 1


async def test_another_example_may_be_chosen(relay: Any) -> None:
    answer = await order(relay, route="coins-earned", to=OWN, example=2)
    shown = (await relay.delivery(answer.json()["id"]))["message"]["variables"]
    assert [variable["value"] for variable in shown] != []
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        (
            {"route": "coins-earned", "to": "+919800000098"},
            403,
            "to: this number is not among those of RELAY_TEST_NUMBERS",
        ),
        ({"route": "coins-earned", "to": "98"}, 422, "to: the number is not a valid number in IN"),
        ({"route": "coins", "to": OWN}, 422, "route: the YAML has no route of this name; it has coins-earned,"),
        ({"route": "coins-earned", "to": OWN, "example": 9}, 422, "example: the route has 3; they are counted from 1"),
        ({"route": "coupon-ready", "to": OWN, "example": 3}, 422, "example: no message comes of it: variable_missing"),
        ({"route": "coins-earned"}, 422, "body.to: Field required"),
    ],
)
async def test_anything_else_is_refused_and_sends_nothing(
    relay: Any, sandbox: Any, fields: dict[str, Any], status: int, told: str
) -> None:
    answer = await order(relay, **fields)
    assert (answer.status_code, answer.json()["detail"][: len(told)]) == (status, told)
    assert await sandbox.messages() == []
    assert (await relay.ops("GET", "/deliveries")).json()["deliveries"] == []


async def test_without_allowed_numbers_nobody_gets_a_test(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_TEST_NUMBERS="") as relay:
        answer = await order(relay, route="coins-earned", to=OWN)
        assert (answer.status_code, "write yours into RELAY_TEST_NUMBERS" in answer.text) == (403, True)


async def test_a_route_without_a_sending_example_says_so(
    open_relay: Callable[..., Any], environment: dict[str, str], tmp_path: Path
) -> None:
    text = Path(environment["RELAY_CONFIG"]).read_text()
    head, _, _ = text.partition("    examples:\n")
    (tmp_path / "relay.yaml").write_text(head)
    async with open_relay(RELAY_CONFIG=str(tmp_path / "relay.yaml")) as relay:
        answer = await order(relay, route="coins-earned", to=OWN)
        assert (answer.status_code, "add one under its `examples:`" in answer.text) == (422, True)


async def test_a_shadow_route_sends_its_test_and_a_held_one_waits(
    open_relay: Callable[..., Any], environment: dict[str, str], tmp_path: Path
) -> None:
    text = Path(environment["RELAY_CONFIG"]).read_text().replace("mode: live", "mode: shadow")
    assert "mode: shadow" in text
    (tmp_path / "relay.yaml").write_text(text)
    shutil.copy(Path(environment["RELAY_CONFIG"]).with_name("templates.yaml"), tmp_path)
    async with open_relay(RELAY_CONFIG=str(tmp_path / "relay.yaml")) as relay:
        await relay.ops("PUT", "/holds/route:coins-earned")
        queued = (await order(relay, route="coins-earned", to=OWN)).json()["id"]
        assert (await relay.delivery(queued))["state"] == "held"
        await relay.ops("DELETE", "/holds/route:coins-earned")
        await relay.wait_for(queued, "accepted")
