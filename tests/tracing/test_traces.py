"""One trace from the webhook through the outbox to the provider's answer, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.errors import StoreFull
from tests.outbox.methods import break_store

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
SERVER, COMMIT, ATTEMPT, REQUEST = "POST /webhooks/nector", "outbox.commit", "delivery.attempt", "POST gallabox"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ENDED = ("accepted", "dead", "unknown", "expired")


async def post_one(relay: Any, **headers: str) -> str:
    """Post one event; return its one delivery's id."""
    relay.client.headers.update(headers)
    (row,) = (await relay.post(COINS)).json()["deliveries"]
    return str(row["id"])


async def test_a_sent_message_is_one_trace_from_the_webhook_to_the_request(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        delivery = await relay.wait_for(await post_one(relay), *ENDED)
    (server,), (commit,), (attempt,), (request,) = map(collector.wait_for, (SERVER, COMMIT, ATTEMPT, REQUEST))
    assert [span.kind for span in (server, commit, attempt, request)] == [2, 1, 1, 3]
    assert {span.trace_id for span in collector.spans()} == {server.trace_id}
    assert [commit.parent_id, attempt.parent_id, request.parent_id] == [server.id, server.id, attempt.id]
    assert server.parent_id == ""
    assert not any(span.failed for span in collector.spans())
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/webhooks/nector",
        "http.response.status_code": 202,
        "relay.event_id": delivery["event_id"],
        "relay.topic": "walletreward_create",
        "relay.result": "accepted",
    }
    assert commit.attributes == {"relay.deliveries": 1}
    assert attempt.attributes == {
        "relay.delivery_id": delivery["id"],
        "relay.event_id": delivery["event_id"],
        "relay.route": "coins-earned",
        "relay.provider": "gallabox",
        "relay.attempt": 1,
        "relay.outcome": "accepted",
        "relay.state": "accepted",
    }
    assert request.attributes == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "http.response.status_code": 202,
        "relay.try": 1,
    }
    assert server.resource["service.name"] == "nector-relay"


async def test_a_line_of_the_log_names_the_trace_that_it_is_of(
    open_traced: Any, collector: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay), *ENDED)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    named = {line["event"]: line["trace_id"] for line in lines if "trace_id" in line}
    (server,) = collector.wait_for(SERVER)
    assert {named["event.received"], named["delivery.attempted"]} == {server.trace_id}
    assert not {"tracing.on", "relay.started", "outbox.opened"} & named.keys()


async def test_without_a_collector_no_line_has_one(open_relay: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_relay() as relay:
        await relay.wait_for(await post_one(relay), *ENDED)
    told = capsys.readouterr().out
    assert "delivery.attempted" in told
    assert "trace_id" not in told


async def test_a_retry_is_a_second_attempt_in_the_same_trace(open_traced: Any, sandbox: Any, collector: Any) -> None:
    await sandbox.set_fault("gallabox", fault="status", status=500, times=1)
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay), *ENDED)
    first, second = collector.wait_for(ATTEMPT, 2)
    (server,) = collector.wait_for(SERVER)
    assert {first.trace_id, second.trace_id} == {server.trace_id}
    assert (first.failed, first.attributes["relay.reason"], first.attributes["relay.state"]) == (
        True,
        "server_error",
        "pending",
    )
    assert (second.failed, second.attributes["relay.attempt"], second.attributes["relay.state"]) == (
        False,
        2,
        "accepted",
    )
    refused, taken = collector.wait_for(REQUEST, 2)
    assert [refused.parent_id, taken.parent_id] == [first.id, second.id]
    assert (refused.failed, refused.attributes["http.response.status_code"]) == (True, 500)


async def test_each_quick_try_is_a_span_of_its_own(open_traced: Any, collector: Any) -> None:
    async with open_traced(GALLABOX_BASE_URL="http://127.0.0.1:9") as relay:
        await post_one(relay)
        await asyncio.to_thread(collector.wait_for, ATTEMPT)
    (attempt,) = collector.spans(ATTEMPT)
    tries = [span for span in collector.spans(REQUEST) if span.parent_id == attempt.id]
    assert [span.attributes["relay.try"] for span in tries] == [1, 2, 3]
    assert {span.attributes["error.type"] for span in tries} == {"connect_failed"}


async def test_an_unknown_is_an_attempt_that_failed(open_traced: Any, sandbox: Any, collector: Any) -> None:
    await sandbox.set_fault("gallabox", fault="reset_after", times=1)
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay), "unknown")
    (attempt,), (request,), (server,) = map(collector.wait_for, (ATTEMPT, REQUEST, SERVER))
    assert attempt.trace_id == request.trace_id == server.trace_id
    assert (attempt.attributes["relay.state"], attempt.attributes["error.type"]) == ("unknown", "connection_lost")
    assert "http.response.status_code" not in request.attributes


async def test_a_send_after_a_restart_belongs_to_its_webhooks_trace(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        await relay.ops("PUT", "/holds/provider:gallabox")
        delivery_id = await post_one(relay)
    (server,) = collector.wait_for(SERVER)
    assert collector.spans(ATTEMPT) == []
    async with open_traced() as relay:
        await relay.ops("DELETE", "/holds/provider:gallabox")
        await relay.wait_for(delivery_id, "accepted")
    (attempt,) = collector.wait_for(ATTEMPT)
    assert (attempt.trace_id, attempt.parent_id) == (server.trace_id, server.id)


async def test_what_was_taken_without_tracing_begins_a_trace_when_it_is_sent(
    open_relay: Any, open_traced: Any, collector: Any
) -> None:
    async with open_relay() as relay:
        await relay.ops("PUT", "/holds/provider:gallabox")
        delivery_id = await post_one(relay)
    async with open_traced() as relay:
        await relay.ops("DELETE", "/holds/provider:gallabox")
        await relay.wait_for(delivery_id, "accepted")
    (attempt,), (request,) = map(collector.wait_for, (ATTEMPT, REQUEST))
    assert (attempt.parent_id, request.trace_id) == ("", attempt.trace_id)


async def test_a_duplicate_is_a_trace_of_its_own_that_sends_nothing(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        first = await relay.post(COINS, delivery_id="twice")
        again = await relay.post(COINS, delivery_id="twice")
        await relay.wait_for(first.json()["deliveries"][0]["id"], "accepted")
    assert again.json()["status"] == "duplicate"
    one, other = collector.wait_for(SERVER, 2)
    (attempt,) = collector.wait_for(ATTEMPT)
    assert other.attributes["relay.result"] == "duplicate"
    assert other.attributes["relay.event_id"] == one.attributes["relay.event_id"]
    assert attempt.trace_id == one.trace_id != other.trace_id


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        (f"00-{TRACE_ID}-00f067aa0ba902b7-01", True),
        (f"00-{TRACE_ID}-0000000000000000-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("+919800000001", False),
        ("", False),
    ],
)
async def test_a_webhook_goes_on_with_the_trace_that_it_names(
    open_traced: Any, collector: Any, given: str, continued: bool
) -> None:
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay, traceparent=given, tracestate="a=canary"), *ENDED)
    (server,), (attempt,) = map(collector.wait_for, (SERVER, ATTEMPT))
    assert (server.trace_id == TRACE_ID) is continued
    assert server.parent_id == ("00f067aa0ba902b7" if continued else "")
    assert attempt.trace_id == server.trace_id
    assert b"canary" not in b"".join(collector.bodies)


async def test_a_trace_that_its_sender_does_not_sample_is_not_sampled_here(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay, traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-00"), *ENDED)
        await relay.wait_for(await post_one(relay, traceparent=""), *ENDED)
    assert {span.trace_id for span in collector.wait_for(REQUEST)} != {TRACE_ID}
    assert TRACE_ID not in {span.trace_id for span in collector.spans()}


async def test_with_sampling_off_nothing_is_sent_to_the_collector(open_traced: Any, collector: Any) -> None:
    async with open_traced(OTEL_TRACES_SAMPLER="always_off") as relay:
        assert (await relay.wait_for(await post_one(relay), *ENDED))["state"] == "accepted"
    assert collector.bodies == []


async def test_the_vendor_gets_no_traceparent(open_traced: Any, sandbox: Any) -> None:
    async with open_traced() as relay:
        await relay.wait_for(await post_one(relay, traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01"), *ENDED)
    (message,) = await sandbox.messages()
    assert TRACE_ID not in str(message)


async def test_a_stranger_leaves_no_span(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        assert (await relay.post(COINS, secret="wrong")).status_code == 401
        assert (await relay.post(b"{", topic="coupon_create")).status_code == 400
    (span,) = collector.wait_for(SERVER)
    assert (span.attributes["http.response.status_code"], span.failed) == (400, False)


async def test_what_could_not_be_committed_is_a_span_that_failed(
    open_traced: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise StoreFull("no space for +919800000001")

    async with open_traced() as relay:
        break_store(monkeypatch, relay.outbox, fail, "add_events")
        assert (await relay.post(COINS)).status_code == 503
    (server,), (commit,) = map(collector.wait_for, (SERVER, COMMIT))
    assert (commit.failed, commit.attributes["error.type"]) == (True, "StoreFull")
    assert (server.failed, server.attributes["http.response.status_code"]) == (True, 503)


async def test_an_unknown_topic_is_other(open_traced: Any, collector: Any) -> None:
    async with open_traced() as relay:
        await relay.post(COINS, topic="Riya-9800000001")
    (server,) = collector.wait_for(SERVER)
    assert (server.attributes["relay.topic"], server.attributes["relay.result"]) == ("other", "unrouted")


@pytest.mark.parametrize(
    ("fault", "outcome", "failed"),
    [
        ({}, "accepted", False),
        ({"fault": "status", "status": 503}, "retryable", True),
        ({"fault": "reset_after"}, "uncertain", True),
    ],
)
async def test_the_stateless_mode_is_one_trace_too(
    open_traced: Any, sandbox: Any, collector: Any, fault: dict[str, Any], outcome: str, failed: bool
) -> None:
    await sandbox.set_fault("gallabox", **fault)
    async with open_traced(RELAY_DATABASE_URL="none") as relay:
        answer = await relay.post(COINS)
    (server,), (attempt,), (request,) = map(collector.wait_for, (SERVER, ATTEMPT, REQUEST))
    assert {span.trace_id for span in collector.spans()} == {server.trace_id}
    assert [attempt.parent_id, request.parent_id] == [server.id, attempt.id]
    assert (attempt.attributes["relay.outcome"], attempt.failed) == (outcome, failed)
    assert (server.attributes["http.response.status_code"], server.failed) == (answer.status_code, failed)


async def test_a_stateless_repeat_sends_nothing_and_is_its_own_trace(open_traced: Any, collector: Any) -> None:
    async with open_traced(RELAY_DATABASE_URL="none") as relay:
        for _ in range(2):
            assert (await relay.post(COINS, delivery_id="same")).status_code == 200
    one, other = collector.wait_for(SERVER, 2)
    (attempt,) = collector.wait_for(ATTEMPT)
    assert attempt.trace_id == one.trace_id != other.trace_id
