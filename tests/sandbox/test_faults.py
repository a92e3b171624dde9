from __future__ import annotations

from typing import Any

import httpx2
import pytest

from app.errors import ConfigError
from app.sandbox.faults import Fault, FaultSwitch, parse_faults

BODY = {
    "channelId": "channel-2",
    "userId": "user-2",
    "templateId": "tpl_1",
    "phone": "919800000001",
    "variables": ["Riya"],
    "deliveryId": "delivery-1",
}


def send(sandbox: Any, timeout: float = 5) -> httpx2.Response:
    response: httpx2.Response = sandbox.client.post("/", json=BODY, timeout=timeout)
    return response


def test_control_without_a_fault_the_request_is_accepted(sandbox: Any) -> None:
    assert send(sandbox).status_code == 200
    assert sandbox.count("deliveries") == {"delivery-1": 1}


@pytest.mark.parametrize(
    ("fault", "status", "headers", "text"),
    [
        ({"fault": "status", "status": 503, "retry_after": 2}, 503, {"retry-after": "2"}, '"success":false'),
        ({"fault": "status"}, 500, {}, '"success":false'),
        ({"fault": "status", "status": 429, "body": "slow down"}, 429, {}, "slow down"),
        ({"fault": "refuse"}, 400, {"content-type": "application/json"}, '"code":131026'),
        ({"fault": "refuse", "status": 422, "code": 131049, "body": "capped"}, 422, {}, '"capped"'),
        ({"fault": "html"}, 200, {"content-type": "text/html; charset=utf-8"}, "<html>"),
        ({"fault": "html", "status": 502, "body": "<p>x"}, 502, {}, "<p>x"),
    ],
)
def test_answered_fault_accepts_nothing(
    sandbox: Any, fault: dict[str, Any], status: int, headers: dict[str, str], text: str
) -> None:
    sandbox.put_faults(bitespeed=fault)
    answer = send(sandbox)
    assert answer.status_code == status
    assert text in answer.text
    assert {name: answer.headers[name] for name in headers} == headers
    assert sandbox.count("accepted") == {}
    assert sandbox.count("seen") == {"bitespeed": 1}


@pytest.mark.parametrize(
    ("fault", "error", "accepted"),
    [
        # The reset may meet the client while it still writes: then it reads an end and no error.
        ("reset_before", (httpx2.ReadError, httpx2.RemoteProtocolError), {}),
        ("reset_after", httpx2.ReadError, {"delivery-1": 1}),
        ("hang", httpx2.ReadTimeout, {"delivery-1": 1}),
        ("half_answer", httpx2.RemoteProtocolError, {"delivery-1": 1}),
    ],
)
def test_unanswered_fault_breaks_the_connection(sandbox: Any, fault: str, error: Any, accepted: dict[str, int]) -> None:
    sandbox.put_faults(bitespeed={"fault": fault})
    with pytest.raises(error):
        send(sandbox, timeout=0.05 if fault == "hang" else 20)
    assert sandbox.count("deliveries") == accepted


def test_hang_ends_with_a_reset(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"fault": "hang"})
    with pytest.raises(httpx2.ReadError):
        send(sandbox)


def test_half_answer_starts_like_a_whole_one(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"fault": "half_answer"})
    with sandbox.client.stream("POST", "/", json=BODY) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            answer.read()


def test_dripping_answer_is_whole_and_its_message_accepted_before_it_ends(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"fault": "drip", "drip_ms": 200})
    with sandbox.client.stream("POST", "/", json=BODY) as answer:
        assert sandbox.count("deliveries") == {"delivery-1": 1}
        answer.read()
    assert answer.json()["success"] is True
    assert answer.elapsed.total_seconds() >= 0.2


def test_latency_delays_an_ordinary_answer(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"latency_ms": 60})
    answer = send(sandbox)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.06


def test_fault_of_one_vendor_leaves_the_other_alone(sandbox: Any) -> None:
    sandbox.put_faults(gallabox={"fault": "status", "status": 503})
    assert send(sandbox).status_code == 200
    answer = sandbox.client.post("/devapi/messages/whatsapp")
    assert (answer.status_code, answer.json()) == (503, {"message": "Switched on as a fault"})


def test_times_counts_down_and_ends(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"fault": "status", "status": 503, "times": 2})
    assert [send(sandbox).status_code for _ in range(3)] == [503, 503, 200]


def test_put_replaces_and_delete_ends_all_faults(sandbox: Any) -> None:
    sandbox.put_faults(bitespeed={"fault": "hang"})
    sandbox.put_faults(gallabox={"fault": "html"})
    assert list(sandbox.client.get("/sandbox/faults").json()) == ["gallabox"]
    assert sandbox.client.delete("/sandbox/faults").json() == {}
    assert sandbox.client.get("/sandbox/faults").json() == {}


@pytest.mark.parametrize(
    "faults",
    [
        {"other": {"fault": "hang"}},
        {"bitespeed": {"fault": "nosuch"}},
        {"bitespeed": {"fault": "hang", "extra": 1}},
        {"bitespeed": {"fault": "status", "status": 99}},
        [],
    ],
)
def test_unknown_fault_is_refused_and_changes_nothing(sandbox: Any, faults: Any) -> None:
    sandbox.put_faults(gallabox={"fault": "html"})
    answer = sandbox.client.put("/sandbox/faults", json=faults)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert list(sandbox.client.get("/sandbox/faults").json()) == ["gallabox"]


def test_fault_in_force_from_the_start(start_sandbox: Any) -> None:
    with start_sandbox(faults="bitespeed=500:1") as sandbox:
        assert [send(sandbox).status_code for _ in range(2)] == [500, 200]


def test_probability_is_drawn_for_each_request() -> None:
    draws = iter([0.2, 0.3, 0.29])
    switch = FaultSwitch({"gallabox": Fault(fault="hang", probability=0.3)}, lambda: next(draws))
    assert [switch.take("gallabox").fault for _ in range(3)] == ["hang", "latency", "hang"]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", {}),
        (
            "gallabox=500, bitespeed=hang",
            {"gallabox": Fault(fault="status", status=500), "bitespeed": Fault(fault="hang")},
        ),
        ("bitespeed=reset_after:3,", {"bitespeed": Fault(fault="reset_after", times=3)}),
    ],
)
def test_faults_are_read_from_a_text(text: str, faults: dict[str, Fault]) -> None:
    assert parse_faults(text) == faults


@pytest.mark.parametrize(
    "text", ["gallabox", "gallabox=", "other=hang", "gallabox=nosuch", "gallabox=hang:x", "gallabox=42"]
)
def test_faults_that_are_not_understood_are_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is not understood; write gallabox=503"):
        parse_faults(text)
