"""`POST /diff`: stored events by a YAML that is not in force, beside the one that is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from app.outbox.retention import wipe_payloads
from app.relay import replay as comparing
from tests.api.test_replay import HEAD, post, write_route

GUEST = "  guest: {event: review_create, provider: gallabox, template: review_thanks, variables: {name: user_name}}\n"
YAML = HEAD + write_route()


@pytest.fixture
async def shop(open_relay: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Any]:
    path = tmp_path / "relay.yaml"
    path.write_text(YAML + GUEST.replace("guest", "unused"))
    async with open_relay(RELAY_CONFIG=str(path)) as running:
        yield running


async def ask(relay: Any, yaml: str, **more: Any) -> dict[str, Any]:
    answer = await relay.ops("POST", "/diff", json={"yaml": yaml, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_yaml_that_sends_the_same_changes_nothing_and_one_that_does_not_says_what(shop: Any) -> None:
    first = await post(shop, amount="1250")
    await post(shop, amount="2000", user_mobile="9800000002")
    same = await ask(shop, YAML + GUEST)
    assert (same["events"], same["changes"], same["next"]) == (2, [], None)
    other = await ask(shop, YAML.replace("coins: amount", "coins: amount | number") + GUEST)
    assert other["changes"] == [
        {
            "change": "other_content", "route": "coins", "what": "variable coins", "count": 2,
            "example": {
                "event_id": first["event_id"], "topic": "walletreward_create",
                "was": "variable coins: 1***", "now": "variable coins: 1,***",
            },
        }
    ]  # fmt: skip
    assert other["hash"] != other["in_force"] == shop.rules.read_hash()
    gone = await ask(shop, YAML.replace("walletreward_create", "order_create") + GUEST)
    assert [(one["change"], one["count"]) for one in gone["changes"]] == [("no_longer_sent", 2)]
    rows = (await shop.ops("GET", "/deliveries")).json()["deliveries"]
    assert len(rows) == 2, "nothing was added"


async def test_an_event_that_hit_no_route_is_newly_sent(shop: Any) -> None:
    await post(shop, topic="lead_create")
    more = "  hello: {event: lead_create, provider: gallabox, template: review_thanks, variables: {name: user_name}}\n"
    (change,) = (await ask(shop, YAML + GUEST + more))["changes"]
    assert (change["change"], change["route"]) == ("newly_sent", "hello")
    assert change["example"]["was"] == "no route hits"
    assert change["example"]["now"] == "gallabox sends review_thanks to +91******0001"


async def test_a_call_ends_when_it_has_taken_long_and_the_next_goes_on(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "LONGEST_LOOK_S", 0.0)
    monkeypatch.setattr(comparing, "_PAGE", 1)
    for _ in range(3):
        await post(shop)
    after, events = 0, 0
    while after is not None:
        answer = await ask(shop, YAML + GUEST, after=after)
        after, events = answer["next"], events + answer["events"]
    assert events == 3


async def test_what_was_wiped_is_counted_and_what_is_older_is_not(shop: Any) -> None:
    await post(shop, topic="lead_create")
    await wipe_payloads(shop.outbox, 2**45)
    answer = await ask(shop, YAML + GUEST)
    assert (answer["events"], answer["wiped"]) == (0, 1)
    assert (await ask(shop, YAML + GUEST, since="0s"))["wiped"] == 0


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"yaml": YAML.replace("provider: gallabox", "provider: galabox"), "name": "new.yaml"}, "new.yaml:"),
        ({"yaml": YAML, "templates": "templates: []"}, "templates.yaml:"),
        ({"yaml": YAML, "since": "yesterday"}, "since: must be how long ago"),
        ({"yaml": "x" * 262_145}, "yaml"),
        ({}, "yaml"),
    ],
)
async def test_an_order_that_cannot_be_followed_is_422(shop: Any, order: dict[str, Any], said: str) -> None:
    answer = await shop.ops("POST", "/diff", json=order)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
