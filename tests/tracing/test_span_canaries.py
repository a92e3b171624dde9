"""No customer, no secret and no text of an exception in the bytes that a collector gets, whatever goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import app.main
from app.errors import StoreFull
from app.providers.gallabox import Gallabox
from tests.outbox.methods import break_store

ROOT = Path(__file__).parents[2]
NAME, COUPON, NUMBER = "Canaria", "CANARY-7Q2P", "9800000071"
SECRETS = {
    "RELAY_NECTOR_SECRETS": "canary-nector-secret",
    "RELAY_ADMIN_TOKEN": "canary-admin-token",
    "GALLABOX_API_KEY": "canary-key",
    "GALLABOX_API_SECRET": "canary-secret",
    "GALLABOX_CHANNEL_ID": "canary-channel",
    "BITESPEED_WEBHOOK_TOKEN": "canary-webhook-token",
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=canary-otlp",
}
WORDS = (NAME, COUPON, NUMBER, "canary", "devapi", hashlib.sha256(SECRETS["RELAY_NECTOR_SECRETS"].encode()).hexdigest())
FAULTS: list[dict[str, Any]] = [
    {},
    {"fault": "status", "status": 422},
    {"fault": "status", "status": 500},
    {"fault": "refuse", "status": 400},
    {"fault": "html", "status": 502},
    {"fault": "hang"},
    {"fault": "reset_before"},
    {"fault": "reset_after"},
    {"fault": "half_answer"},
]
EVENT = {"user_name": NAME, "value": COUPON, "fiat_value": 5, "expire": "2099-12-31"}
BODIES: list[tuple[Any, dict[str, str]]] = [
    ({**EVENT, "user_mobile": f"{NAME} {NUMBER}"}, {}),
    ({**EVENT, "user_mobile": NUMBER, "expire": COUPON}, {}),
    ({**EVENT, "user_mobile": NUMBER, "value": None}, {}),
    (b'{"user_name": "Canaria"', {}),
    ({**EVENT, "user_mobile": NUMBER, "padding": "x" * 70_000}, {}),
    ({**EVENT, "user_mobile": NUMBER}, {"topic": f"{NAME}-{NUMBER}"}),
    ({**EVENT, "user_mobile": NUMBER}, {"secret": "canary-wrong"}),
    ({**EVENT, "user_mobile": NUMBER}, {"delivery_id": f"{COUPON}-{NUMBER}"}),
]


def find_canaries(bodies: Sequence[bytes]) -> set[str]:
    data = b"\n".join(bodies).lower()
    return {word for word in WORDS if word.lower().encode() in data}


def fail(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it


def refuse(error: BaseException) -> Callable[..., Any]:
    async def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it


@pytest.fixture
def given(tmp_path: Path, sandbox: Any) -> dict[str, str]:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/relay.yaml"
    text = path.read_text().replace("    rate: 16/s", "    rate: 90/s\n    timeout: 1s")
    path.write_text(text.replace("    user_id: ${BITESPEED_USER_ID}", "    user_id: u\n    timeout: 1s"))
    url = f"{sandbox.url}/bitespeed"
    return {**SECRETS, "RELAY_CONFIG": str(path), "BITESPEED_BASE_URL": url}


async def post_and_wait(relay: Any, sandbox: Any, number: int, fault: dict[str, Any]) -> None:
    """Post an event to each vendor, and see what comes of the first attempts."""
    echo = json.dumps({"error": {"message": f"{NAME} 91{NUMBER} canary-key", "code": 132000}})
    ids = []
    faults = {vendor: {**fault, "body": echo} for vendor in ("gallabox", "bitespeed") if fault}
    assert (await sandbox.client.put(f"{sandbox.url}/sandbox/faults", json=faults)).is_success
    for topic in ("coupon_create", "review_create"):  # the one goes to BiteSpeed, the other to Gallabox
        payload = {**EVENT, "user_mobile": f"98000000{number}"}
        (row,) = (await relay.post(payload, topic, secret=SECRETS["RELAY_NECTOR_SECRETS"])).json()["deliveries"]
        ids.append(row["id"])
    async with asyncio.timeout(40):
        for delivery_id in ids:
            while not await was_tried(relay, delivery_id):
                await release_all(relay)
                await asyncio.sleep(0.02)
    await release_all(relay)


ACCESS = {"authorization": f"Bearer {SECRETS['RELAY_ADMIN_TOKEN']}"}


async def was_tried(relay: Any, delivery_id: str) -> bool:
    found = (await relay.client.get(f"/deliveries/{delivery_id}", headers=ACCESS)).json()
    return bool(found["attempt_list"]) and found["state"] != "sending"


async def release_all(relay: Any) -> None:
    for hold in (await relay.client.get("/holds", headers=ACCESS)).json()["holds"]:
        await relay.client.delete(f"/holds/{quote(hold['scope'], safe='')}", headers=ACCESS)


async def go_wrong(open_traced: Any, sandbox: Any, given: dict[str, str], faults: Sequence[dict[str, Any]]) -> None:
    """Let everything fail that can, with canaries in every place that somebody could quote."""
    error = RuntimeError(f"{NAME} {NUMBER} {COUPON}")
    async with open_traced(**given) as relay:
        relay.client.headers.update({"traceparent": f"{NAME} {NUMBER}", "user-agent": NAME, "baggage": f"a={NAME}"})
        relay.client.params = {"phone": NUMBER, "token": SECRETS["BITESPEED_WEBHOOK_TOKEN"]}
        for body, changes in BODIES:
            await relay.post(body, **{"topic": "coupon_create", "secret": SECRETS["RELAY_NECTOR_SECRETS"], **changes})
        await relay.client.post("/webhooks/bitespeed", json={"phone": NUMBER, "name": NAME})
        for number, fault in enumerate(faults):
            await post_and_wait(relay, sandbox, 10 + number, fault)
            await post_and_wait(relay, sandbox, 30 + number, {})  # five failures in a row would be an outage
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Gallabox, "build_request", fail(error))
            await post_and_wait(relay, sandbox, 90, {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Gallabox, "read_response", fail(error))
            await post_and_wait(relay, sandbox, 91, {})
        with pytest.MonkeyPatch.context() as patch:
            break_store(patch, relay.outbox, refuse(StoreFull(str(error))), "add_events")
            secret = SECRETS["RELAY_NECTOR_SECRETS"]
            assert (await relay.post({**EVENT, "user_mobile": NUMBER}, secret=secret)).status_code == 503
            break_store(patch, relay.outbox, refuse(error), "add_events")
            with pytest.raises(RuntimeError):
                await relay.post({**EVENT, "user_mobile": NUMBER}, secret=secret)


@pytest.mark.timeout(120)
async def test_nothing_of_a_customer_and_no_secret_reaches_the_collector(
    open_traced: Any, sandbox: Any, collector: Any, given: dict[str, str]
) -> None:
    await go_wrong(open_traced, sandbox, given, FAULTS)
    kinds = {span.attributes.get("error.type") for span in collector.spans()}
    assert kinds >= {"timed_out", "connection_lost", "request_unbuilt", "answer_unreadable"}
    assert kinds >= {"parameters_refused", "gateway_failed", "503", "StoreFull", "RuntimeError"}
    assert find_canaries(collector.bodies) == set()
    assert collector.headers[0]["api-key"] == "canary-otlp"  # the control: they were there to be seen
    assert NAME in json.dumps(await sandbox.messages())


def tell_the_exception(step: Any, _kind: Any, error: BaseException | None, _place: Any) -> None:
    if error is not None:
        step.note({"exception.message": str(error)})
    context.detach(step._token)
    step._span.end()


@pytest.mark.parametrize(
    ("place", "worse", "found"),
    [
        ("app.observe.otel._Step.__exit__", tell_the_exception, {NAME, COUPON, NUMBER, "canary"}),
        ("app.providers.client._read_host", str, {"devapi"}),
        ("app.api.webhooks.topic_label", str, {NAME, NUMBER}),
    ],
)
async def test_one_that_tells_more_would_be_noticed(
    open_traced: Any,
    sandbox: Any,
    collector: Any,
    given: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    worse: Any,
    found: set[str],
) -> None:
    monkeypatch.setattr(place, worse)
    await go_wrong(open_traced, sandbox, given, [{"fault": "status", "status": 422}])
    assert find_canaries(collector.bodies) >= found


# -- FastAPI's own --------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "told"), [(True, set()), (False, {"canary"})])
async def test_fastapis_own_spans_which_hold_query_strings_stay_off(
    open_relay: Any, monkeypatch: pytest.MonkeyPatch, own: bool, told: set[str]
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    if not own:  # the control: FastAPI as it comes, beside a provider that some other library set
        bare = app.main.RelayApp
        monkeypatch.setattr(app.main, "RelayApp", lambda **given: bare(**{**given, "telemetry": None}))
    async with open_relay() as relay:
        await relay.client.get("/readyz?token=canary-webhook-token")  # webhooks have doors of their own, past FastAPI
    text = json.dumps([dict(span.attributes or {}) for span in exporter.get_finished_spans()])
    assert find_canaries([text.encode()]) == told
