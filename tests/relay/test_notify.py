"""A webhook of ours: what is told, how it is signed, and how often it is tried."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from app.clock import read_clock
from app.delivery.pace import OUTAGE_FAILURES, Recovery, start_pace
from app.errors import ConfigError, StoreError
from app.outbox.holds import put_hold, release_hold
from app.providers.base import Request, Response
from app.relay.notify import CALM_MS, LOOK_EVERY_S, SILENT_MS, WAITS_S, Notifier, list_changes, sign
from app.settings import read_settings

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
GIVEN = {"RELAY_NOTIFY_URL": "https://shop.example/hook?key=1", "RELAY_NOTIFY_SECRET": SECRET}
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}


def test_the_signature_is_that_of_the_specifications_own_example() -> None:
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py
    secret, id_ = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    body = b'{"test": 2432232314}'
    assert sign(secret, id_, 1614265330, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, id_, 1614265331, body) != sign(secret, id_, 1614265330, body)  # the control


@pytest.mark.parametrize(
    ("told", "stands", "changes"),
    [
        ((), ("hold route:a",), [("hold route:a", "hold.set")]),
        (("hold route:a",), (), [("hold route:a", "hold.ended")]),
        ((), ("lane g",), [("lane g", "lane.down")]),
        (("lane g",), (), [("lane g", "lane.up")]),
        ((), ("source nector",), [("source nector", "source.silent")]),
        (("source nector",), (), [("source nector", "source.heard")]),
        (("lane g",), ("lane g",), []),
        ((), ("hold calm",), []),
    ],
)
def test_each_change_is_one_message(told: Any, stands: Any, changes: Any) -> None:
    empty: dict[str, Any] = {}
    assert list_changes(dict.fromkeys(told, empty), dict.fromkeys(stands, empty), {"hold calm": 2}, 1) == changes


class Shop:
    """The shop's URL: takes what is posted once it has refused `refusals` times."""

    def __init__(self, *refusals: int | None) -> None:
        self.asked: list[Request] = []
        self.refusals = list(refusals)
        self.closed = False

    async def fetch(self, request: Request) -> Response | None:
        self.asked.append(request)
        status = self.refusals.pop(0) if self.refusals else 204
        return None if status is None else Response(status, {}, b"")

    async def close(self) -> None:
        self.closed = True

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.asked]


class Bench:
    """A notifier whose time the test keeps: every sleep is noted, and over at once."""

    def __init__(self, relay: Any, shop: Shop) -> None:
        self.now, self.slept, self.paces = read_clock(), list[float](), dict[str, Any]()
        self.context = relay.relay.context
        self.shop = shop
        self.notifier = Notifier(self.context, lambda: self.paces, self.open, self.sleep)

    async def open(self, url: str) -> Any:
        assert url == GIVEN["RELAY_NOTIFY_URL"]
        return self.shop

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.01 if seconds == LOOK_EVERY_S else 0)

    async def write(self, job: Callable[..., Any], **given: Any) -> None:
        await self.context.outbox.write(partial(job, **given))

    async def run_until(self, count: int) -> None:
        """Run it until so much was posted."""
        running = asyncio.create_task(self.notifier.run())
        try:
            async with asyncio.timeout(30):
                while len(self.shop.asked) < count:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def relay(open_relay: Callable[..., Any]) -> Any:
    async with open_relay() as running:
        given = {name.removeprefix("RELAY_").lower(): value for name, value in GIVEN.items()}
        settings = type(running.relay.context.settings)(**given)
        running.relay.context.settings = settings
        yield running


async def test_what_changes_is_posted_signed_and_without_what_a_person_wrote(relay: Any) -> None:
    bench = Bench(relay, Shop())
    await bench.write(put_hold, scope="route:coins-earned", reason="balance_empty")
    await bench.notifier.look()  # what stands at the start is known
    await bench.write(put_hold, scope="provider:gallabox", reason="ask Riya, 9800000001", by_hand=True)
    await bench.write(release_hold, scope="route:coins-earned")
    bench.paces["bitespeed"] = start_pace(16, 0)
    bench.paces["gallabox"] = _down(since=1_000)
    await bench.notifier.look()
    await bench.run_until(3)
    assert [(one["type"], one["data"].get("scope") or one["data"]["provider"]) for one in bench.shop.told] == [
        ("hold.set", "provider:gallabox"),
        ("hold.ended", "route:coins-earned"),
        ("lane.down", "gallabox"),
    ]
    assert bench.shop.told[0]["data"]["reason"] == "by_hand"
    assert bench.shop.told[2]["data"]["since"] == "1970-01-01T00:00:01.000Z"
    assert bench.shop.closed
    for request in bench.shop.asked:
        id_, at_s = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
        assert request.headers["webhook-signature"] == sign(SECRET, id_, at_s, request.body)
        assert b"9800000001" not in request.body
    assert len({request.headers["webhook-id"] for request in bench.shop.asked}) == 3


def _down(since: int | None) -> Any:
    pace = start_pace(16, 0)
    return type(pace)(16, pace.bucket, Recovery(OUTAGE_FAILURES, 9, None, since))


async def test_what_is_not_taken_is_tried_again_with_its_id_and_given_up_in_the_end(relay: Any) -> None:
    bench = Bench(relay, Shop(None, 503, 302, *[500] * (len(WAITS_S) + 1)))
    await bench.notifier.look()
    bench.paces = {"gallabox": _down(since=None), "bitespeed": _down(since=2)}
    await bench.notifier.look()
    await bench.run_until(4 + len(WAITS_S) + 1 - 3 + 3)
    ids = [request.headers["webhook-id"] for request in bench.shop.asked]
    assert [ids.count(id_) for id_ in dict.fromkeys(ids)] == [len(WAITS_S) + 1, 4]
    waits = [wait for wait in bench.slept if wait not in (0, LOOK_EVERY_S) or wait == WAITS_S[0]]
    assert set(WAITS_S) <= set(waits)


async def test_what_flaps_is_told_once_a_minute(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(relay, Shop())
    monkeypatch.setattr(type(bench.context.clock), "__call__", lambda _: bench.now)
    await bench.notifier.look()
    for number in range(10):
        bench.paces = {} if number % 2 else {"gallabox": _down(since=2)}
        await bench.notifier.look()
        bench.now += CALM_MS // 20
    bench.now += CALM_MS
    await bench.notifier.look()
    await bench.run_until(2)
    assert [one["type"] for one in bench.shop.told] == ["lane.down", "lane.up"]


async def test_a_source_is_silent_after_a_day_and_heard_again(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await relay.post(COINS)
    bench = Bench(relay, Shop())
    await bench.notifier.look()
    monkeypatch.setattr(type(bench.context.clock), "__call__", lambda _: bench.now)
    bench.now = read_clock() + SILENT_MS + 1
    await bench.notifier.look()
    bench.now += CALM_MS
    await relay.post({**COINS, "user_mobile": "9800000002"})
    await bench.notifier.look()
    await bench.run_until(2)
    assert [one["type"] for one in bench.shop.told] == ["source.silent", "source.heard"]


async def test_an_outbox_that_does_not_answer_ends_nothing(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(relay, Shop())

    async def fail(*_given: Any, **_options: Any) -> Any:
        raise StoreError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.outbox), "read", fail)
        await bench.notifier.look()
    await bench.notifier.look()
    assert bench.shop.asked == []


@pytest.mark.parametrize(
    ("url", "secret", "named"),
    [
        ("https://shop.example/hook", "", "RELAY_NOTIFY_SECRET"),
        ("https://shop.example/hook", "whsec_" + base64.b64encode(b"short").decode(), "RELAY_NOTIFY_SECRET"),
        ("https://shop.example/hook", "whsec_not base64", "RELAY_NOTIFY_SECRET"),
        ("https://shop.example/hook", base64.b64encode(b"a" * 24).decode(), "RELAY_NOTIFY_SECRET"),
        ("shop.example", SECRET, "RELAY_NOTIFY_URL"),
        ("https://user:word@shop.example/hook", SECRET, "RELAY_NOTIFY_URL"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_without_its_value(url: str, secret: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"RELAY_NOTIFY_URL": url, "RELAY_NOTIFY_SECRET": secret})
    assert named in str(caught.value)
    assert not secret or secret not in str(caught.value)


def test_both_or_neither_are_fine() -> None:
    assert read_settings({}).notify_url.get_secret_value() == ""
    assert read_settings(GIVEN).notify_secret.get_secret_value() == SECRET
