"""The clocks of the machine, and a wall clock that is set while the relay answers."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from app.clock import WatchedClock, read_clock, read_uptime

BASE = 1_790_000_000_000
HOUR = 3_600_000


def test_the_machines_clocks_are_read_in_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: BASE * 1_000_000 + 999_999)
    assert read_clock() == BASE
    assert 0 <= read_uptime() - read_uptime() + 1 <= 1_000


def test_a_watched_clock_remembers_the_latest_that_it_has_shown() -> None:
    shown = iter([BASE, BASE - HOUR, BASE - HOUR + 1])
    clock = WatchedClock(lambda: next(shown))
    assert [(clock(), clock.newest), (clock(), clock.newest)] == [(BASE, BASE), (BASE - HOUR, BASE)]
    clock.forget(BASE - HOUR)
    assert (clock(), clock.newest) == (BASE - HOUR + 1, BASE - HOUR + 1)


async def test_setting_the_wall_clock_does_not_make_a_relay_look_dead(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_time = time.time_ns
    for by_ms in (HOUR, -HOUR, 240 * HOUR):
        monkeypatch.setattr("app.clock.time.time_ns", lambda by_ms=by_ms: read_time() + by_ms * 1_000_000)
        assert (await relay.client.get("/healthz")).status_code == 200
        assert (await relay.client.get("/readyz")).status_code == 200


async def test_a_stuck_lane_is_noticed_while_the_wall_clock_stands_still(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = relay.clock()
    monkeypatch.setattr("app.clock.time.time_ns", lambda: standing * 1_000_000)
    (lane, *_) = relay.relay.dispatcher.lanes.values()
    lane.looked_at -= 61
    assert (await relay.client.get("/healthz")).status_code == 503


async def test_a_late_retry_of_nectors_is_taken_and_known_again(relay: Any) -> None:
    """Nector may stamp a retry with the first try's time, an hour or a day ago, in s or ms: none is refused."""
    body = b'{"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}'
    headers = {
        "content-type": "application/json",
        "x-nector-topic": "walletreward_create",
        "x-nector-delivery-id": "late",
        "x-nector-webhook-secret": hashlib.sha256(b"test-secret").hexdigest(),
    }
    answers = [
        await relay.client.post("/webhooks/nector", content=body, headers={**headers, "x-nector-timestamp": stamp})
        for stamp in ("1790000000", "1790000000000", "946684800", "7258118399", "soon", "")
    ]
    assert [answer.status_code for answer in answers] == [202, *[200] * 5]
    assert len({answer.json()["event_id"] for answer in answers}) == 1
