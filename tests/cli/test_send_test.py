from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.cli.client import OpsClient

OWN = "+919800000099"


def test_a_test_message_is_sent_and_watched_until_its_receipt(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", OWN)
    assert done.code == 0, done.text
    assert "accepted by gallabox, and then " in done.out.splitlines()[-1]
    assert "receipt" in done.out
    assert "+91******0099" in done.out
    assert "9800000099" not in done.text


def test_another_number_is_refused(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", "+919800000001")
    assert (done.code, done.out) == (1, "")
    assert "this number is not among those of RELAY_TEST_NUMBERS" in done.err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"fault": "status", "status": 400}, "not accepted: dead (request_refused)"),
        ({"fault": "hang"}, "not accepted: "),
    ],
)
def test_a_message_that_is_not_accepted_is_1(
    shop: Any, run: Callable[..., Any], fault: dict[str, Any], told: str
) -> None:
    shop.set_fault(bitespeed=fault)
    done = run("send-test", "coupon-ready", "--to", OWN, "--wait", "7s", "--json")
    shop.set_fault()
    assert done.code == 1
    assert json.loads(done.out)["state"] != "accepted"
    del told


def test_a_wait_that_is_no_duration_says_so(shop: Any, run: Callable[..., Any]) -> None:
    del shop
    done = run("send-test", "coins-earned", "--to", OWN, "--wait", "soon")
    assert (done.code, done.err.startswith("nector-relay: --wait ")) == (1, True)


# -- where no relay runs --------------------------------------------------------------------------


@pytest.fixture
def without_relay(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sandbox, its accounts, and no relay where one is looked for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("RELAY_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    given = {"CHANNEL_ID": "sandbox-channel", "API_KEY": "sandbox-key", "API_SECRET": "sandbox-secret"}
    for name, value in {**given, "BASE_URL": shop.sandbox_url}.items():
        monkeypatch.setenv(f"GALLABOX_{name}", value)
    monkeypatch.setenv("BITESPEED_BASE_URL", f"{shop.sandbox_url}/bitespeed")
    monkeypatch.setenv("BITESPEED_CHANNEL_ID", "sandbox-channel")
    monkeypatch.setenv("BITESPEED_USER_ID", "sandbox-user")
    monkeypatch.setenv("RELAY_TEST_NUMBERS", OWN)
    return shop


def count_sent(shop: Any) -> int:
    return len(httpx2.get(f"{shop.sandbox_url}/sandbox/messages", trust_env=False).json()["messages"])


def test_without_a_relay_it_goes_straight_to_the_provider(without_relay: Any, run: Callable[..., Any]) -> None:
    before = count_sent(without_relay)
    done = run("send-test", "coins-earned", "--to", OWN)
    assert (done.code, done.out.splitlines()[-1]) == (0, "accepted"), done.text
    assert "sent straight to gallabox, without an outbox, so no receipt is waited for:" in done.out
    assert count_sent(without_relay) == before + 1
    told = json.loads(run("send-test", "coins-earned", "--to", OWN, "--json").out)
    assert (told["outcome"], told["provider"], told["reason"]) == ("accepted", "gallabox", None)


def test_without_a_relay_other_numbers_are_refused_too_and_a_refusal_is_1(
    without_relay: Any, run: Callable[..., Any], edit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_sent(without_relay)
    done = run("send-test", "coins-earned", "--to", "+919800000001")
    assert (done.code, "not among those of RELAY_TEST_NUMBERS" in done.err) == (1, True)
    monkeypatch.setenv("GALLABOX_API_KEY", "wrong")
    refused = run("send-test", "coins-earned", "--to", OWN)
    assert (refused.code, "rejected (credentials_refused" in refused.out) == (1, True)
    assert count_sent(without_relay) == before
    monkeypatch.setenv("GALLABOX_API_KEY", "sandbox-key")
    edit("version: 1\n", 'version: 1\nonly: ["+919800000001"]\n')
    assert run("send-test", "coins-earned", "--to", "+919800000001").code == 0


def test_a_relay_that_does_not_answer_in_time_is_not_gone_round(
    without_relay: Any, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have queued the message."""
    before = count_sent(without_relay)
    monkeypatch.setattr("app.cli.client.TIMEOUT_S", 0.2)
    monkeypatch.setattr(OpsClient.send, "__defaults__", (None, 0.2, None))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RELAY_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = run("send-test", "coins-earned", "--to", OWN)
    assert (done.code, "(ReadTimeout)" in done.err) == (1, True)
    assert count_sent(without_relay) == before
