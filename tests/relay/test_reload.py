"""The rules in force: replaced whole by a sound file, kept before a broken one."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.relay import reload as rules

ROOT = Path(__file__).parents[2]
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for stdout while the relay is made (capsys has another stream in each phase of a test)."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A YAML of the test's own, with the bundled templates beside it."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path / "config/relay.yaml"


@pytest.fixture
async def relay(
    printed: io.StringIO, open_relay: Callable[..., Any], config: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """A running relay that looks at the file all the time; it logs to `printed`."""
    del printed
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 0.01)
    async with open_relay(RELAY_CONFIG=str(config)) as running:
        yield running


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


async def read_counts(relay: Any) -> dict[str, float]:
    """Return nector_relay_config_reloads_total by result."""
    text = (await relay.ops("GET", "/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("nector_relay_config_reloads_total{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


async def wait_for_reload(relay: Any, result: str, count: float = 1) -> None:
    async with asyncio.timeout(40):
        while (await read_counts(relay)).get(result, 0) < count:
            await asyncio.sleep(0.01)


def read_log(out: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def test_a_changed_file_is_in_force_without_being_told(relay: Any, config: Path) -> None:
    before = relay.rules.read_hash()
    replace_text(config, "event: review_create", "event: lead_create")
    await wait_for_reload(relay, "used")
    assert relay.rules.read_hash() != before
    payload = {"rating": 5, "customer": {"name": "Riya", "mobile": "9800000001"}}
    assert (await relay.post(payload, "review_create")).json()["status"] == "unrouted"
    assert (await relay.post(payload, "lead_create")).json()["deliveries"][0]["route"] == "review-thanks"
    metrics = (await relay.ops("GET", "/metrics")).text
    assert f'nector_relay_config_info{{hash="{relay.rules.read_hash()}"}} 1.0' in metrics
    assert f'hash="{before}"' not in metrics


async def test_a_file_that_is_moved_into_place_is_noticed(relay: Any, config: Path) -> None:
    """As a mounted ConfigMap does it."""
    aside = config.with_name("new.yaml")
    aside.write_text(config.read_text() + "# another\n")
    aside.rename(config)
    await wait_for_reload(relay, "used")


async def test_changed_templates_are_noticed_too(relay: Any, config: Path) -> None:
    before = relay.rules.read_hash()
    replace_text(config.with_name("templates.yaml"), "you just earned", "you have earned")
    await wait_for_reload(relay, "used")
    assert relay.rules.read_hash() != before


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("version: 1\nroutes: {}\n", "cannot be used:"),
        ("\t", "cannot be used:"),
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
async def test_a_broken_file_keeps_the_last_good_one_and_says_so(
    relay: Any, config: Path, printed: io.StringIO, broken: Any, said: str
) -> None:
    good, before = config.read_text(), relay.rules.read_hash()
    if broken is None:
        config.unlink()
    elif isinstance(broken, bytes):
        config.write_bytes(broken)
    else:
        config.write_text(broken)
    fault = await relay.rules.reload()
    assert said in fault
    assert relay.rules.read_hash() == before
    assert (await relay.post(COINS)).json()["status"] == "accepted"
    refused = read_log(printed.getvalue(), "config.refused")
    assert refused
    assert all(line["in_force"] == before and said in line["detail"][0] for line in refused)
    used = (await read_counts(relay)).get("used", 0)
    config.write_text(good + "# mended\n")
    await wait_for_reload(relay, "used", used + 1)
    assert relay.rules.read_hash() != before


async def test_every_fault_is_told_whole(relay: Any, config: Path, printed: io.StringIO) -> None:
    text = config.read_text()
    config.write_text(text.replace("template:", "temlate:"))
    fault = await relay.rules.reload()
    assert fault.count("temlate") >= 10
    line = read_log(printed.getvalue(), "config.refused")[-1]
    assert line["detail"] == fault.splitlines()
    answer = await relay.ops("POST", "/reload")
    assert (answer.status_code, answer.json()["detail"]) == (422, fault)


async def test_templates_that_are_broken_are_refused(relay: Any, config: Path) -> None:
    replace_text(config.with_name("templates.yaml"), "    body:", "    bodi:")
    fault = await relay.rules.reload()
    assert f"{config.with_name('templates.yaml')}:" in fault


async def test_a_reload_by_hand_says_which_version_is_in_force(relay: Any, config: Path) -> None:
    config.write_text(config.read_text() + "# another\n")
    answer = await relay.ops("POST", "/reload")
    assert answer.json() == {"hash": relay.rules.read_hash()}


async def test_a_name_that_is_not_set_is_refused_at_a_reload_too(relay: Any, config: Path) -> None:
    replace_text(config, "${GALLABOX_CHANNEL_ID}", "${GALLABOX_CHANNEL_IDD}")
    fault = await relay.rules.reload()
    assert "error: the environment variable GALLABOX_CHANNEL_IDD is not set" in fault


async def test_what_nobody_thought_of_does_not_end_the_watching(
    relay: Any, config: Path, monkeypatch: pytest.MonkeyPatch, printed: io.StringIO
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("canary")

    with monkeypatch.context() as broken:
        broken.setattr(rules, "load_snapshot", fail)
        config.write_text(config.read_text() + "# another\n")
        await wait_for_reload(relay, "refused")
    out = printed.getvalue()
    (line,) = read_log(out, "config.refused")
    assert (line["detail"], line["error_type"]) == (["unexpected failure: ValueError"], "ValueError")
    assert "canary" not in out
    config.write_text(config.read_text() + "# and another\n")
    await wait_for_reload(relay, "used")


async def test_what_is_queued_keeps_the_message_it_was_rendered_with(relay: Any, config: Path, sandbox: Any) -> None:
    await relay.ops("PUT", "/holds/route:coins-earned")
    (queued,) = (await relay.post(COINS)).json()["deliveries"]
    replace_text(config, "amount | number # 1250", 'amount | number ~ " shiny" # 1250')
    assert await relay.rules.reload() is None
    (later,) = (await relay.post({**COINS, "user_mobile": "9800000002"})).json()["deliveries"]
    await relay.ops("DELETE", "/holds/route:coins-earned")
    for delivery in (queued, later):
        await relay.wait_for(delivery["id"], "accepted")
    texts = {message["delivery_id"]: message["text"] for message in await sandbox.messages()}
    assert "earned 100 coins" in texts[queued["id"]]
    assert "earned 100 shiny coins" in texts[later["id"]]


async def test_a_file_that_stays_as_it_is_is_not_read_again(relay: Any) -> None:
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert set((await read_counts(relay)).values()) == {0}


async def test_the_inline_yaml_has_no_file_to_watch(
    open_relay: Callable[..., Any], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 0.01)
    async with open_relay(RELAY_CONFIG=str(config), RELAY_CONFIG_YAML=config.read_text()) as relay:
        config.write_text("broken: [")
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert set((await read_counts(relay)).values()) == {0}
        assert await relay.rules.reload() is None


async def test_each_delivery_names_the_version_it_was_rendered_with(relay: Any, config: Path) -> None:
    """The bundled file, a wrong edit that changes nothing, a right one; /readyz and metrics tell the same."""
    hashes = []
    for old, new in (("version: 1", "version: 1"), ("template:", "temlate:"), ("version: 1", "version: 1 # mended")):
        good = config.read_text()
        replace_text(config, old, new)
        fault = await relay.rules.reload()
        assert (fault is None) == (new != "temlate:")
        (delivery,) = (await relay.post(COINS)).json()["deliveries"]
        in_force = (await relay.client.get("/readyz")).json()["config"]
        assert (await relay.delivery(delivery["id"]))["config_hash"] == in_force
        metrics = (await relay.ops("GET", "/metrics")).text
        told = [line for line in metrics.splitlines() if line.startswith("nector_relay_config_info{")]
        assert told == [f'nector_relay_config_info{{hash="{in_force}"}} 1.0']
        hashes.append(in_force)
        if fault is not None:
            config.write_text(good)
    assert hashes[0] == hashes[1] != hashes[2]


# -- going live: what was recorded stays a record -------------------------------------------------

AHEAD_S = 3_600


def write_live_from(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="seconds")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("mode: live #", "mode: shadow #"), ("mode: shadow #", "mode: live #")),
        (("priority: 10", "mode: shadow\n    priority: 10"), ("mode: shadow\n", "mode: live\n")),
        (("priority: 10", "live_from: LATER\n    priority: 10"), ("LATER", "EARLIER")),
        (("priority: 10", 'only: ["+919800000099"]\n    priority: 10'), ('    only: ["+919800000099"]\n', "")),
    ],
    ids=["the file", "the route", "live_from", "only"],
)
async def test_going_live_sends_nothing_of_what_was_recorded(
    open_relay: Callable[..., Any], config: Path, sandbox: Any, before: tuple[str, str], after: tuple[str, str]
) -> None:
    later, earlier = write_live_from(AHEAD_S), write_live_from(-AHEAD_S)
    replace_text(config, before[0], before[1].replace("LATER", later))
    async with open_relay(RELAY_CONFIG=str(config)) as relay:
        recorded = [await post_to(relay, number) for number in range(1, 6)]
        assert {one["state"] for one in recorded} == {"shadow"}
        replace_text(config, after[0].replace("LATER", later), after[1].replace("EARLIER", earlier))
        assert await relay.rules.reload() is None
        # The control: the same route sends what comes now, and the sandbox would have counted more.
        live = await post_to(relay, 6)
        await relay.wait_for(live["id"], "accepted")
        assert {(await relay.delivery(one["id"]))["state"] for one in recorded} == {"shadow"}
    assert [message["delivery_id"] for message in await sandbox.messages()] == [live["id"]]


async def test_live_from_passes_and_the_backlog_stays(
    open_relay: Callable[..., Any], config: Path, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_text(config, "priority: 10", f"live_from: {write_live_from(AHEAD_S)}\n    priority: 10")
    async with open_relay(RELAY_CONFIG=str(config)) as relay:
        recorded = [await post_to(relay, number) for number in range(1, 6)]
        assert {one["state"] for one in recorded} == {"shadow"}
        monkeypatch.setattr("app.clock.time.time_ns", lambda: int((time.time() + 2 * AHEAD_S) * 1_000_000_000))
        async with asyncio.timeout(20):
            while (live := await post_to(relay, 6))["state"] == "shadow":
                recorded.append(live)
                await asyncio.sleep(0.05)
        await relay.wait_for(live["id"], "accepted")
        assert {(await relay.delivery(one["id"]))["state"] for one in recorded} == {"shadow"}
    assert [message["delivery_id"] for message in await sandbox.messages()] == [live["id"]]


async def test_what_was_recorded_can_be_compared_with_what_nector_sent(
    open_relay: Callable[..., Any], config: Path
) -> None:
    """When, which template, through whom, to which (masked) number; and a trace of each value."""
    replace_text(config, "mode: live #", "mode: shadow #")
    async with open_relay(RELAY_CONFIG=str(config)) as relay:
        await post_to(relay, 1)
        (row,) = (await relay.ops("GET", "/deliveries?state=shadow")).json()["deliveries"]
        told = [row[name] for name in ("route", "provider", "template", "recipient", "state")]
        assert told == ["coins-earned", "gallabox", "coins_earned", "+91******0001", "shadow"]
        assert row["created_at"].endswith("Z")
        message = (await relay.delivery(row["id"]))["message"]
        assert (message["template"], message["language"]) == ("coins_earned", "en")
        assert [one["name"] for one in message["variables"]] == ["name", "coins"]
        assert not {"Riya", "100"} & {one["value"] for one in message["variables"]}


async def post_to(relay: Any, number: int) -> dict[str, Any]:
    """Post an event to an example number; return its only delivery as the answer tells it."""
    answer = await relay.post({**COINS, "user_mobile": f"98000000{number:02}"})
    (delivery,) = answer.json()["deliveries"]
    return dict(delivery)
