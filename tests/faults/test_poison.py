"""A message that kills the process, one that no request can be made of, and a send that cannot be written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.model.message import Message
from app.providers.base import Request
from app.providers.gallabox import Gallabox

SCRIPT = "dying_relay.py"
POISON = 13  # what dying_relay.py cannot bear
MOST_DEATHS = 4  # after so many, no more good events: the control has made its point
COINS = {"user_name": "Riya", "account": 0}


def sign(number: int) -> dict[str, str]:
    return {"x-nector-topic": "walletreward_create", "x-nector-delivery-id": f"event-{number}"}


async def post(http: httpx2.AsyncClient, relay: Any, number: int) -> str | None:
    """Post an event until it is answered; return its delivery's id, None if the relay has died first."""
    payload = {**COINS, "user_mobile": f"98000000{number:02}", "amount": number}
    async with asyncio.timeout(50):
        while relay.process.returncode is None:
            try:
                answer = await http.post(f"{relay.url}/webhooks/nector", json=payload, headers=sign(number))
            except httpx2.TransportError:  # it starts or dies: Nector sends again
                await asyncio.sleep(0.05)
                continue
            if answer.status_code != 503:  # it is about to end
                (delivery,) = answer.json()["deliveries"]
                return str(delivery["id"])
            await asyncio.sleep(0.05)
    return None


@pytest.fixture
async def http(environment: Mapping[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    token = {"authorization": f"Bearer {environment['RELAY_ADMIN_TOKEN']}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20, headers=token) as client:
        yield client


@pytest.fixture
def supervise(start_relay: Callable[..., Any], outbox_tools: Any, http: httpx2.AsyncClient) -> Callable[..., Any]:
    """Return a function that posts the poison and good events, and restarts the relay each time it dies.

    Posts two good events at each start. Returns the poison's id, the good ones' and how often it died, once nothing
    is left to do or it has died `enough` times.
    """

    async def run(
        environment: Mapping[str, str], fault: str, outbox_path: Path, enough: int = 6
    ) -> tuple[str, list[str], int]:
        port, deaths, poison = outbox_tools.find_port(), 0, ""
        good: dict[int, str] = {}
        while deaths < enough:
            async with start_relay(environment, fault, script=SCRIPT, port=port, wait=False) as relay:
                poison = poison or await post(http, relay, POISON) or ""
                for number in range(20 + len(good), 22 + len(good)) if deaths < MOST_DEATHS else ():
                    if id_ := await post(http, relay, number):
                        good[number] = id_
                if not await wait_for_end(relay, outbox_tools, outbox_path):
                    break
                deaths += 1
        return poison, list(good.values()), deaths

    return run


async def wait_for_end(relay: Any, outbox_tools: Any, outbox_path: Path) -> bool:
    """Return True once the relay has died, False once nothing is left for it to do."""
    async with asyncio.timeout(40):
        while relay.process.returncode is None:
            rows = outbox_tools.read_rows(outbox_path).values()
            if all(row.state in {"accepted", "dead"} or (row.state == "unknown" and not row.due) for row in rows):
                return False
            await asyncio.sleep(0.05)
    return True


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("policy", "deaths"), [("hold", 1), ("resend", 3)])
async def test_a_message_that_kills_the_process_is_parked_and_the_others_flow(
    supervise: Callable[..., Any],
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_path: Path,
    outbox_tools: Any,
    http: httpx2.AsyncClient,
    policy: str,
    deaths: int,
) -> None:
    environment = kill_environment((policy,), concurrency=1, RELAY_SETTLE_AFTER="1ms")
    poison, good, died = await supervise(environment, "short_limits+send_dies", outbox_path)
    assert died == deaths
    rows = outbox_tools.read_rows(outbox_path)
    assert (rows[poison].state, rows[poison].due, rows[poison].attempts) == ("unknown", False, deaths)
    assert len(good) >= 2
    assert {rows[id_].state for id_ in good} == {"accepted"}
    # Later it does not come back by itself, and a person sees it.
    async with start_relay(environment, "short_limits+send_dies", script=SCRIPT) as relay:
        answer = await http.get(f"{relay.url}/deliveries", params={"state": "unknown"})
        (row,) = answer.json()["deliveries"]
        assert (row["id"], row["reason"], row["attempts"]) == (poison, "process_died", deaths)
        await asyncio.sleep(0.5)
        assert relay.process.returncode is None
        assert await relay.stop() == 0


@pytest.mark.timeout(120)
async def test_the_poison_test_notices_a_relay_that_never_gives_a_message_up(
    supervise: Callable[..., Any], kill_environment: Callable[..., dict[str, str]], outbox_path: Path
) -> None:
    """The known-bad control: a crash loop."""
    environment = kill_environment(("resend",), concurrency=1, RELAY_SETTLE_AFTER="1ms")
    _, _, died = await supervise(environment, "short_limits+no_limit+send_dies", outbox_path, enough=4)
    assert died == 4


async def test_a_message_that_breaks_the_sending_task_costs_one_restart_and_not_a_loop(
    supervise: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_path: Path,
    outbox_tools: Any,
) -> None:
    environment = kill_environment(("hold",), concurrency=1, RELAY_SHUTDOWN_GRACE="1s")
    poison, good, died = await supervise(environment, "send_raises", outbox_path)
    rows = outbox_tools.read_rows(outbox_path)
    assert (died, rows[poison].state, rows[poison].due) == (1, "unknown", False)
    assert {rows[id_].state for id_ in good} == {"accepted"}


async def test_a_message_that_no_request_can_be_made_of_is_dead_and_the_others_flow(
    open_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build = Gallabox.build_request

    def fail_at_poison(self: Gallabox, message: Message, delivery_id: str) -> Request:
        if message.variables[-1].value == str(POISON):
            raise LookupError(message.recipient)
        return build(self, message, delivery_id)

    monkeypatch.setattr(Gallabox, "build_request", fail_at_poison)
    given = kill_environment(("hold",))
    async with open_relay(**{name: given[name] for name in ("RELAY_CONFIG_YAML",)}) as relay:
        ids = {}
        for number in (POISON - 1, POISON, POISON + 1):
            answer = await relay.post({**COINS, "user_mobile": f"98000000{number:02}", "amount": number})
            (ids[number],) = [row["id"] for row in answer.json()["deliveries"]]
        dead = await relay.wait_for(ids[POISON], "dead")
        assert (dead["reason"], dead["attempts"]) == ("request_unbuilt", 1)
        for number in (POISON - 1, POISON + 1):
            await relay.wait_for(ids[number], "accepted")
        assert ids[POISON] not in (await sandbox.counts())["deliveries"]
    out = capsys.readouterr().out
    assert out.count(ids[POISON]) <= 3  # received, attempted: no storm of lines
    assert "LookupError" in out
    assert "00000013" not in out


@pytest.mark.parametrize(("fault", "messages"), [("record_fails", 1), ("record_fails+send_again_unrecorded", 2)])
async def test_a_send_that_cannot_be_written_down_for_a_while_is_written_down_later_and_not_sent_again(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_path: Path,
    outbox_tools: Any,
    sandbox: Any,
    http: httpx2.AsyncClient,
    fault: str,
    messages: int,
) -> None:
    """The second row is the known-bad control: a relay that queues it again sends it again."""
    async with start_relay(kill_environment(("hold",)), fault, script=SCRIPT) as relay:
        id_ = await post(http, relay, 1)
        async with asyncio.timeout(20):
            while outbox_tools.read_rows(outbox_path)[id_].state != "accepted":
                await asyncio.sleep(0.05)
        sent = (await sandbox.counts())["deliveries"][id_]
        assert min(sent, 2) == messages
        assert len(relay.lines("attempt.not_recorded")) == (4 if messages == 1 else 0)
        assert await relay.stop() == 0
