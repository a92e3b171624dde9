"""`explain`'s stories, of deliveries that went through a real relay and the sandbox."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.cli.deliveries import print_story
from app.outbox.retention import wipe_payloads
from tests.outbox.methods import keep_no_gap

ROOT = Path(__file__).parents[2]
COINS = {"user_name": "Riya Canary", "user_mobile": "9800000001", "amount": "100"}
COUPON = {**COINS, "value": "CANARY-7Q2P", "fiat_value": 5, "expire": "2099-12-31"}
CANARIES = ("Canary", "CANARY", "7Q2P", "9800000001")
RECEIPT_SECRET = "receipt-secret"
ANY_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
ANY_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ACCEPTED = "attempt 1: accepted in N"
LIVE = ["now: accepted by gallabox as ID, no receipt yet", "do:  nothing"]

Tell = Callable[[Any], list[str]]


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    given = {"GALLABOX_WEBHOOK_SECRET": RECEIPT_SECRET, "RELAY_SETTLE_AFTER": "15m"}
    return {**environment, **given}


@pytest.fixture
def print_whole(capsys: pytest.CaptureFixture[str]) -> Callable[[Any], str]:
    """Return a function that prints a story; what was printed, with nothing of the customer in it."""

    def print_one(delivery: Any) -> str:
        capsys.readouterr()
        print_story(delivery)
        text = capsys.readouterr().out
        assert find_canaries(text) == []
        return text

    return print_one


@pytest.fixture
def tell(print_whole: Callable[[Any], str]) -> Tell:
    """Return a function that gives a story's lines after the first three, without the times and ids of the day."""

    def tell_one(delivery: Any) -> list[str]:
        head, webhook, route, *lines = print_whole(delivery).splitlines()
        assert head.startswith(f"delivery {delivery['id']}: {delivery['state']}")
        assert re.search(rf"\+0 ms  webhook: nector sent [a-z_]+, its delivery nector-1; event {ANY_ID}$", webhook)
        assert re.search(r"  route [a-z-]+ → (gallabox|bitespeed), \S*relay\.yaml:\d+ \(config [0-9a-f]{12}\)$", route)
        # A machine that is busy makes it wait for its turn.
        return [told for told in map(hide_day, lines) if not told.startswith("waited N for its turn")]

    return tell_one


def find_canaries(text: str) -> list[str]:
    return [word for word in CANARIES if word in text]


def hide_day(line: str) -> str:
    line = re.sub(rf"^{ANY_TIME} +\+[\d.]+ (ms|s|min)  ", "", line)
    line = re.sub(rf"{ANY_ID}|msg_\w+|(?<=gallabox as )\S+(?=,)", "ID", line)
    return re.sub(r"\d[\d.]* (ms|s|min)\b(?! between)", "N", re.sub(ANY_TIME, "TIME", line))


async def post(
    relay: Any, payload: Any = COINS, topic: str = "walletreward_create", source_id: str = "nector-1"
) -> str:
    (delivery,) = (await relay.post(payload, topic, delivery_id=source_id)).json()["deliveries"]
    return str(delivery["id"])


async def report(relay: Any, delivery_id: str, status: str) -> None:
    body = json.dumps({"id": "m", "localMessageId": delivery_id, "whatsapp": {"status": status}}).encode()
    signature = base64.b64encode(hmac.digest(RECEIPT_SECRET.encode(), body, "sha256")).decode()
    headers = {"x-event-name": "Message.WA.Status.Received", "x-gallabox-signature": signature}
    assert (await relay.client.post("/webhooks/gallabox", content=body, headers=headers)).status_code == 200


async def change(relay: Any, *statements: str) -> None:
    """Let days pass: change the outbox behind the relay's back."""
    await relay.outbox._writer.run(lambda db: sum(db.execute(each).rowcount for each in statements))
    relay.relay.dispatcher.wake_all()


MESSAGE = "message to +91******0001: template coins_earned, language en, name: R***, coins: 1***"


async def test_accepted_with_receipts(relay: Any, tell: Tell) -> None:
    id_ = await post(relay)
    await relay.wait_for(id_, "accepted")
    for status in ("sent", "delivered", "read"):
        await report(relay, id_, status)
    assert tell(await relay.delivery(id_)) == [
        MESSAGE,
        ACCEPTED,
        *("receipt: sent", "receipt: delivered", "receipt: read"),
        *("now: accepted by gallabox as ID, read", "do:  nothing"),
    ]


async def test_tried_again_after_503(relay: Any, sandbox: Any, tell: Tell) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=503, times=1, retry_after=1)
    id_ = await post(relay)
    assert tell(await relay.wait_for(id_, "accepted")) == [
        MESSAGE,
        "attempt 1: retryable in N: unavailable (HTTP 503: Switched on as a fault)",
        "waited N while its lane paused or backed off",
        "attempt 2: accepted in N",
        *LIVE,
    ]


async def test_held_by_a_401_and_released_by_a_probe(relay: Any, sandbox: Any, tell: Tell) -> None:
    await sandbox.set_fault("gallabox", fault="refuse", status=401, times=1)
    id_ = await post(relay)
    first = [
        MESSAGE,
        "attempt 1: rejected in N: credentials_refused (HTTP 401: 131026: Message undeliverable)",
        "hold set on provider:gallabox: credentials_refused",
    ]
    assert tell(await relay.wait_for(id_, "held")) == [
        *first,
        "now: held behind provider:gallabox (credentials_refused); its deadline is TIME",
        (
            "do:  `nector-relay explain ID` shows the provider's words. A key: put the right one into the environment "
            "and restart; a 403 may also be its list of allowed addresses, a page a firewall's"
        ),
    ]
    await change(relay, "UPDATE holds SET probe_at = 0", "UPDATE deliveries SET due_at = 0")
    assert tell(await relay.wait_for(id_, "accepted")) == [
        *first,
        "waited N behind the hold on provider:gallabox",
        "attempt 2, a probe of provider:gallabox: accepted in N",
        "hold on provider:gallabox released: its probe was accepted",
        *LIVE,
    ]


async def test_the_guides_example_is_such_a_story(relay: Any, sandbox: Any, tell: Tell) -> None:
    await sandbox.set_fault("gallabox", fault="refuse", status=401, times=1)
    id_ = await post(relay)
    await relay.wait_for(id_, "held")
    await change(relay, "UPDATE holds SET probe_at = 0", "UPDATE deliveries SET due_at = 0")
    await relay.wait_for(id_, "accepted")
    await report(relay, id_, "delivered")
    delivery = await relay.delivery(id_)
    page = (ROOT / "docs/runbook.md").read_text().split("\n## Reading a story\n")[1]
    head, _, route, *lines = page.split("```text\n")[1].split("\n```")[0].splitlines()
    assert head.endswith(": accepted, delivered")
    assert f"config/relay.yaml:{delivery['config']['line']} (" in route
    assert [hide_day(line) for line in lines] == tell(delivery)


async def test_held_by_hand_and_released(relay: Any, tell: Tell) -> None:
    await relay.ops("PUT", "/holds/route:coins-earned", json={"reason": "wrong text"})
    id_ = await post(relay)
    first = [MESSAGE, "route:coins-earned was on hold already, set TIME by hand: wrong text"]
    assert tell(await relay.delivery(id_)) == [
        *first,
        "now: held behind route:coins-earned (wrong text); its deadline is TIME",
        "do:  `nector-relay release route:coins-earned`",
    ]
    await relay.ops("DELETE", "/holds/route:coins-earned")
    told = [line for line in tell(await relay.wait_for(id_, "accepted")) if "waited" not in line]
    # A claim goes by the instant at which its lane asked, which on a busy machine may be just before the release.
    assert sorted(told) == sorted([*first, "hold on route:coins-earned released: by hand", ACCEPTED, *LIVE])


async def test_unknown_and_settled_by_a_receipt(relay: Any, sandbox: Any, tell: Tell) -> None:
    await sandbox.set_fault("gallabox", fault="reset_after")
    id_ = await post(relay)
    lost = "attempt 1: uncertain in N: connection_lost (ReadError) → unknown"
    assert tell(await relay.wait_for(id_, "unknown")) == [
        *(MESSAGE, lost),
        "now: unknown: it may have arrived. Sent again at TIME, unless a receipt settles it",
        "do:  nothing",
    ]
    await report(relay, id_, "delivered")
    assert tell(await relay.delivery(id_)) == [
        *(MESSAGE, lost),
        *("receipt: delivered", "unknown → accepted: this receipt settles it"),
        *("now: accepted by gallabox as ID, delivered", "do:  nothing"),
    ]


async def test_unknown_and_sent_again(
    open_relay: Callable[..., Any], sandbox: Any, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_relay(RELAY_SETTLE_AFTER="1s") as relay:
        keep_no_gap(monkeypatch)
        await sandbox.set_fault("gallabox", fault="reset_after", times=1)
        id_ = await post(relay)
        lines = tell(await relay.wait_for(id_, "accepted"))
    assert [line for line in lines if "waited" not in line] == [
        *(MESSAGE, "attempt 1: uncertain in N: connection_lost (ReadError) → unknown"),
        *("due again (on_unknown: resend): nothing had settled it in N", "attempt 2: accepted in N"),
        *LIVE,
    ]


async def test_expired_behind_a_hold(relay: Any, tell: Tell) -> None:
    await relay.ops("PUT", "/holds/route:coins-earned")
    id_ = await post(relay)
    await change(relay, "UPDATE deliveries SET deadline_at = 1")
    assert [line for line in tell(await relay.wait_for(id_, "expired")) if "waited" not in line] == [
        MESSAGE,
        "route:coins-earned was on hold already, set TIME by hand",
        "pending → expired: its deadline passed",
        "now: expired (deadline_passed)",
        "do:  nothing; many: find what kept the lane, or lengthen `valid_for`",
    ]


async def test_dead_and_replayed(
    open_relay: Callable[..., Any], tell: Tell, print_whole: Callable[[Any], str], tmp_path: Path
) -> None:
    yaml = (ROOT / "config/relay.yaml").read_text()
    (tmp_path / "templates.yaml").write_text((ROOT / "config/templates.yaml").read_text())
    path = tmp_path / "relay.yaml"
    path.write_text(yaml)
    async with open_relay(RELAY_CONFIG=str(path)) as relay:
        id_ = await post(relay, {**COINS, "amount": None, "coins": 100})
        why = "dead: variable_missing (variable coins (`amount`) is missing)"
        cure = "do:  mend the route, then `nector-relay replay --plan --state dead`"
        assert tell(await relay.delivery(id_)) == [why, "now: dead (variable_missing)", cure]
        path.write_text(yaml.replace("- amount | number # 1250 → 1,250", "- amount | default(coins) | number"))
        assert (await relay.ops("POST", "/reload")).status_code == 200
        plan = (await relay.ops("POST", "/replay", json={"state": "dead"})).json()["plan_id"]
        (again,) = (await relay.ops("POST", "/replay", json={"apply": plan})).json()["deliveries"]
        whole = print_whole(await relay.wait_for(again["id"], "accepted"))
        assert f"  before it came {id_}, route coins-earned, by now dead\n" in whole
        assert f"  replayed by plan {plan}\n" in whole
        assert "attempt 1: accepted" in whole
        old = print_whole(await relay.delivery(id_))
    assert re.search(r"relay\.yaml:\d+ as it was then \(config [0-9a-f]{12}, no longer in force\)", old)
    assert f"  replayed as {again['id']}, route coins-earned, by now accepted\n" in old


async def test_suppressed_and_its_first(relay: Any, tell: Tell, print_whole: Callable[[Any], str]) -> None:
    first = await post(relay, COUPON, "coupon_create")
    await relay.wait_for(first, "accepted")
    id_ = await post(relay, COUPON, "coupon_create", "nector-2")
    lines = print_whole(await relay.delivery(id_)).splitlines()
    assert [hide_day(line) for line in lines[-3:]] == [
        *("suppressed, so not sent: duplicate", "now: suppressed (duplicate)", "do:  nothing"),
    ]
    assert tell(await relay.delivery(first))[-3:-2] == [ACCEPTED]


async def test_shadow(open_relay: Callable[..., Any], tell: Tell) -> None:
    yaml = (ROOT / "config/relay.yaml").read_text().replace("\nmode: live", "\nmode: shadow", 1)
    async with open_relay(RELAY_CONFIG_YAML=yaml) as relay:
        delivery = await relay.delivery(await post(relay))
    assert delivery["config"]["name"] == "RELAY_CONFIG_YAML"
    delivery["config"]["name"] = "relay.yaml"
    assert tell(delivery)[1:] == ["shadow: only recorded, nothing is sent", "now: shadow", "do:  nothing"]


async def test_refused_and_retried_by_hand(
    relay: Any, sandbox: Any, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=422, times=1)
    keep_no_gap(monkeypatch)
    id_ = await post(relay)
    refused = "attempt 1: rejected in N: request_refused (HTTP 422: Switched on as a fault) → dead"
    assert tell(await relay.wait_for(id_, "dead")) == [
        *(MESSAGE, refused, "now: dead (request_refused)"),
        "do:  mend the route, then `nector-relay replay --plan --state dead`",
    ]
    await relay.ops("POST", f"/deliveries/{id_}/retry")
    lines = tell(await relay.wait_for(id_, "accepted"))
    assert [line for line in lines if "waited" not in line] == [
        *(MESSAGE, refused, "retried by hand", "attempt 2: accepted in N"),
        *LIVE,
    ]


async def test_after_its_payload_was_wiped_the_story_stays(relay: Any, tell: Tell) -> None:
    id_ = await post(relay)
    await relay.wait_for(id_, "accepted")
    assert await wipe_payloads(relay.outbox, 2**60) == 1
    gone = "message of template coins_earned; its values were wiped since, or cannot be read"
    # The provider's id went along: of WhatsApp's own the number can be read.
    ends = ["now: accepted by gallabox, no receipt yet", "do:  nothing"]
    assert tell(await relay.delivery(id_)) == [gone, ACCEPTED, *ends]


async def test_what_a_provider_repeats_of_its_message_is_not_told(relay: Any, sandbox: Any, tell: Tell) -> None:
    echo = json.dumps({"message": f"{COINS['user_name']} +919800000001 is wrong"})
    await sandbox.set_fault("gallabox", fault="status", status=422, times=1, body=echo)
    id_ = await post(relay)
    assert "is wrong" in tell(await relay.wait_for(id_, "dead"))[1]


async def test_control_an_unmasked_value_would_be_noticed(
    relay: Any, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.read._mask_value", lambda value: value)
    id_ = await post(relay)
    with pytest.raises(AssertionError, match="Canary"):
        tell(await relay.wait_for(id_, "accepted"))


@pytest.mark.parametrize("width", [80, 120])
async def test_on_a_terminal_each_line_fits_and_the_columns_stay_empty_below(
    relay: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    id_ = await post(relay)
    delivery = await relay.wait_for(id_, "accepted")
    terminal = Console(force_terminal=True, no_color=True, width=width, highlight=False)
    monkeypatch.setattr("app.cli.deliveries.open_console", lambda: terminal)
    print_story(delivery)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    story = lines[1 : next(number for number, line in enumerate(lines) if line.startswith("now: "))]
    assert [line for line in story if not re.match(rf"{ANY_TIME} +\+|\s{{35}}\S", line)] == []
