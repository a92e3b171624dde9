"""A collector that is down, slow or mad costs spans: no webhook, send or stop waits for it, and the log stays calm."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from app.observe import wants_tracing
from app.observe.logs import configure_logs
from app.observe.otel import SAY_AGAIN_MS, OtelTracer, RareHandler

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
SMALL = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
EVENTS = 12
# So long an export waits for an answer, and less than that: more than a busy machine needs. A control waits for less.
SLOW, PATIENCE_S = {"OTEL_EXPORTER_OTLP_TIMEOUT": "60"}, 50.0
CONTROL, WAITED_S = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3"}, 2.0


def read_lines(out: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def measure_slowest(relay: Any) -> float:
    """Return how long the slowest of some webhooks waited, and see that what they ask for is sent."""
    slowest = 0.0
    for number in range(EVENTS):
        begun = time.monotonic()
        answer = await relay.post({**COINS, "user_mobile": f"98000000{number:02}"})
        slowest = max(slowest, time.monotonic() - begun)
        assert answer.status_code == 202
        await relay.wait_for(answer.json()["deliveries"][0]["id"], "accepted")
    return slowest


# -- while it runs --------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["busy", "refuse", "garbage", "hang"])
async def test_a_bad_collector_delays_no_webhook_and_no_send(
    open_traced: Any, collector: Any, mood: str, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.mood = mood
    async with open_traced(**SMALL, **SLOW) as relay:
        assert await measure_slowest(relay) < PATIENCE_S
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 4 * EVENTS
    assert len(read_lines(out, "tracing.failed")) <= 6  # a kind of failure each
    assert "canary" not in out
    assert "Traceback" not in out


async def test_a_collector_that_is_not_there_is_told_once(
    open_traced: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:7")  # the relay's own settings count
    async with open_traced(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://canary:canary@127.0.0.1:9/v1/traces?key=canary"
    ) as relay:
        assert await measure_slowest(relay) < PATIENCE_S
    out = capsys.readouterr().out
    (line,) = read_lines(out, "tracing.on")
    assert line["collector"] == "http://127.0.0.1:9"
    told = read_lines(out, "tracing.failed")
    assert {line["detail"] for line in told} >= {"Failed to export"}
    assert len(told) == len({line["detail"] for line in told})
    assert "canary" not in out


async def test_one_that_exports_where_it_stands_would_be_noticed(
    open_traced: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.observe.otel.BatchSpanProcessor", SimpleSpanProcessor)
    collector.mood = "hang"
    async with open_traced(**CONTROL) as relay:
        begun = time.monotonic()
        await relay.post(COINS)
        assert time.monotonic() - begun > WAITED_S


async def test_it_goes_on_once_the_collector_is_back(open_traced: Any, collector: Any) -> None:
    collector.mood = "refuse"
    async with open_traced() as relay:
        await relay.post(COINS)
        await asyncio.sleep(0.1)
        assert collector.bodies == []
        collector.mood = "ok"
        await relay.post({**COINS, "user_mobile": "9800000002"})
        await asyncio.to_thread(collector.wait_for, "delivery.attempt")


# -- when it ends ---------------------------------------------------------------------------------


async def test_what_waits_is_sent_before_the_end(open_traced: Any, collector: Any) -> None:
    async with open_traced(OTEL_BSP_SCHEDULE_DELAY="60000") as relay:
        await relay.post(COINS)
        assert collector.bodies == []
    assert len(collector.spans("POST /webhooks/nector")) == 1


async def stop_with_a_hanging_collector(open_traced: Any, collector: Any, **settings: str) -> float:
    collector.mood = "hang"
    async with open_traced(**settings) as relay:
        await relay.post(COINS)
        await asyncio.sleep(0.1)
        begun = time.monotonic()
    return time.monotonic() - begun


async def test_a_hanging_collector_does_not_hold_up_the_end(
    open_traced: Any, collector: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.relay.FLUSH_S", 0.3)
    assert await stop_with_a_hanging_collector(open_traced, collector, **SLOW) < PATIENCE_S
    out = capsys.readouterr().out
    assert len(read_lines(out, "tracing.cut")) == len(read_lines(out, "relay.stopped")) == 1


async def test_an_end_that_waits_for_it_would_be_noticed(
    open_traced: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def close(tracer: OtelTracer, _within_s: float) -> None:
        await asyncio.to_thread(tracer._provider.shutdown)

    monkeypatch.setattr(OtelTracer, "close", close)
    assert await stop_with_a_hanging_collector(open_traced, collector, **CONTROL) > WAITED_S


# -- settings -------------------------------------------------------------------------------------


async def test_what_the_sdk_reads_comes_from_the_relays_settings(open_traced: Any, collector: Any) -> None:
    before = dict(os.environ)
    async with open_traced(OTEL_EXPORTER_OTLP_HEADERS="x-api-key=secret-1", OTEL_SERVICE_NAME="shop") as relay:
        assert dict(os.environ) == before
        await relay.post(COINS)
    assert collector.headers[0]["x-api-key"] == "secret-1"
    assert collector.spans()[0].resource["service.name"] == "shop"


async def test_the_service_may_be_named_among_its_attributes(open_traced: Any, collector: Any) -> None:
    named = {"OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,deployment.environment=test"}
    async with open_traced(**named) as relay:
        await relay.post(COINS)
    resource = collector.spans()[0].resource
    assert (resource["service.name"], resource["deployment.environment"]) == ("shop", "test")


AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (AT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({**AT, "OTEL_SDK_DISABLED": "True"}, False),
        ({**AT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_a_collector_that_is_named_switches_it_on(given: dict[str, str], wanted: bool) -> None:
    assert wants_tracing(given) is wanted


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: write http://HOST:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:99999"}, "OTEL_EXPORTER_OTLP_ENDPOINT: write http://HOST:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "OTEL_EXPORTER_OTLP_ENDPOINT: write http://HOST:4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER: write otlp or none"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "a setting named OTEL_… is wrong (ValueError)"),
    ],
)
async def test_a_wrong_setting_is_named_and_stops_nothing(
    open_traced: Any, collector: Any, given: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_traced(**given) as relay:
        assert (await relay.post(COINS)).status_code == 202
    (line,) = read_lines(capsys.readouterr().out, "tracing.off")
    assert line["detail"].startswith(named)
    assert collector.bodies == []


async def test_without_the_extra_one_line_says_how_to_get_it(
    open_traced: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "app.observe.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    async with open_traced() as relay:
        answer = await relay.post(COINS)
        await relay.wait_for(answer.json()["deliveries"][0]["id"], "accepted")
    (line,) = read_lines(capsys.readouterr().out, "tracing.off")
    assert "[otel]" in line["cure"]


HEAVY = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests", "urllib3", "app.observe.otel")
PROGRAM = """
import sys
from app.main import create_app
create_app()
sys.stdout.write(str([name for name in {heavy} if name in sys.modules]) + "\\n")
"""


@pytest.mark.parametrize(("endpoint", "expected"), [("", "[]"), ("http://127.0.0.1:9", str(list(HEAVY)))])
def test_without_a_collector_nothing_of_it_is_imported(
    example_environment: dict[str, str], tmp_path: Any, endpoint: str, expected: str
) -> None:
    given = {**os.environ, **example_environment, "RELAY_DATABASE_URL": f"sqlite:///{tmp_path}/relay.db"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY)],
        env={**given, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        check=True,
    )
    assert expected in done.stdout.splitlines()  # before or behind a line of the log, which a thread writes


# -- what the SDK says ----------------------------------------------------------------------------


def make_record(words: str, *values: Any) -> logging.LogRecord:
    return logging.LogRecord("opentelemetry.x", logging.ERROR, __file__, 1, words, values, None)


def test_the_sdks_words_come_now_and_then_and_without_what_it_fills_in(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    handler = RareHandler(configure_logs("info", "json"), lambda: now)
    record = make_record("Failed to export %s batch code: %s, reason: %s", "spans", 401, OSError("key=canary"))
    for _ in range(100):
        handler.emit(record)
    handler.emit(make_record("Queue full, dropping %s.", "Span"))
    now = SAY_AGAIN_MS / 1000
    handler.emit(record)
    out = capsys.readouterr().out
    lines = read_lines(out, "tracing.failed")
    assert [(line["detail"], line["http_status"], line["error_type"], line["untold"]) for line in lines] == [
        ("Failed to export", 401, "OSError", 0),
        ("Queue full, dropping", None, None, 0),
        ("Failed to export", 401, "OSError", 99),
    ]
    assert "canary" not in out
