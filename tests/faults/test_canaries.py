"""Ten thousand invented customers and their secrets through every way to go wrong: nothing of them comes out again.

Not in what the relay prints at `debug` (uvicorn's lines too), nor in /metrics, nor in any HTTP answer.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.canaries import SHARED, Canaries

ROOT = Path(__file__).parents[2]
SECRETS = (
    "RELAY_NECTOR_SECRETS",
    "RELAY_ADMIN_TOKEN",
    "GALLABOX_API_KEY",
    "GALLABOX_API_SECRET",
    "GALLABOX_WEBHOOK_SECRET",
    "BITESPEED_WEBHOOK_TOKEN",
)
TOPICS = {"gallabox": "review_create", "bitespeed": "coupon_create"}
# Told apart by what the relay makes of them; what is refused for good in between shows that the provider is up.
FAULTS: list[dict[str, Any]] = [
    {"fault": "status", "status": 422},
    {"fault": "status", "status": 500},
    {"fault": "refuse", "status": 400},
    {"fault": "html", "status": 502},
    {"fault": "latency"},
    {"fault": "status", "status": 401},
    {"fault": "half_answer"},
    {"fault": "refuse", "status": 422, "code": 132000},
    {"fault": "reset_after"},
    {"fault": "latency"},
    {"fault": "hang"},
    {"fault": "status", "status": 200},
]
Post = tuple[bytes, dict[str, str]]


@dataclass
class Wire:
    """A relay in a process of its own; every answer of it is kept."""

    relay: Any
    client: httpx2.AsyncClient
    canaries: Canaries
    secrets: dict[str, str]
    texts: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    async def ask(self, method: str, path: str, *, keep: bool = True, **options: Any) -> httpx2.Response:
        answer = await self.client.request(method, self.relay.url + path, **options)
        if keep:
            self.texts += [answer.text, str(answer.headers)]
            self.statuses.add(answer.status_code)
        return answer

    async def post(self, body: bytes, topic: str = "coupon_create", **changes: str) -> httpx2.Response:
        secret = hashlib.sha256(self.secrets["RELAY_NECTOR_SECRETS"].encode()).hexdigest()
        headers = {"content-type": "application/json", "x-nector-topic": topic, "x-nector-webhook-secret": secret}
        return await self.ask("POST", "/webhooks/nector", content=body, headers=headers | changes)

    async def operate(self, method: str, path: str, *, keep: bool = True, **options: Any) -> httpx2.Response:
        access = {"authorization": f"Bearer {self.secrets['RELAY_ADMIN_TOKEN']}"}
        return await self.ask(method, path, keep=keep, headers=access, **options)


@pytest.fixture
def canaries(seed: int) -> Canaries:
    print(f"seed={seed}")  # noqa: T201  # to be run again
    return Canaries(random.Random(seed))  # noqa: S311  # no secret


@pytest.fixture
async def open_wire(
    environment: dict[str, str], start_relay: Callable[..., Any], canaries: Canaries
) -> AsyncIterator[Callable[..., Any]]:
    secrets = {name: canaries.new_secret() for name in SECRETS}
    yaml = (ROOT / "config/relay.yaml").read_text()
    yaml = yaml.replace("    rate: 16/s", "    rate: 200/s\n    timeout: 1s\n    treat_500_as: unknown")
    yaml = yaml.replace(
        "    user_id: ${BITESPEED_USER_ID}",
        "    user_id: ${BITESPEED_USER_ID}\n    timeout: 1s\n    treat_500_as: unknown",
    )
    given = {**environment, **secrets, "RELAY_CONFIG_YAML": yaml, "RELAY_LOG_LEVEL": "debug"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:

        def open_one(fault: str | None = None) -> Any:
            return start_relay(given, fault), lambda relay: Wire(relay, client, canaries, secrets)

        yield open_one


# -- events -----------------------------------------------------------------------------------------


def write_coupon(canaries: Canaries, **changes: Any) -> dict[str, Any]:
    return {
        "user_name": canaries.new_name(),
        "user_mobile": canaries.new_run(),
        "value": canaries.new_code(),
        "fiat_value": 5,
        "expire": "2099-12-31",
        **changes,
    }


def write_bad(canaries: Canaries) -> Iterator[Post]:
    """Yield events of which nothing can be sent, each with another customer."""

    def encode(**changes: Any) -> bytes:
        return json.dumps(write_coupon(canaries, **changes)).encode()

    name, code, run = canaries.new_name, canaries.new_code, canaries.new_run
    yield encode()[:-1], {}
    yield encode()[:-1] + f', "user_name": "{name()}"}}'.encode(), {}
    yield encode(fiat_value=float("nan")), {}
    yield b"[" + encode() + b"]", {}
    yield encode()[:-1] + b', "note": "\xff"}', {}
    yield encode()[:-1] + b', "note": "\\ud800"}', {}
    yield b'{"note": ' * 40 + encode() + b"}" * 40, {}
    yield encode(padding="x" * 70_000), {}
    yield gzip.compress(encode()), {"content-encoding": "gzip"}
    yield encode(), {"content-type": f"text/{name()}"}
    yield encode(), {"x-nector-topic": ""}
    yield encode(), {"x-nector-webhook-secret": code()}
    yield encode(), {"x-nector-webhook-hmac": code(), "x-nector-timestamp": name(), "x-source": code()}
    yield encode(), {}  # its number is none
    yield encode(user_mobile=f"{name()} {run()}"), {}
    yield encode(user_mobile=SHARED, value=None), {}
    yield encode(user_mobile=SHARED, value=[code()]), {}
    yield encode(user_mobile=SHARED, user_name={"first": name()}), {}
    yield encode(user_mobile=SHARED, expire=f"{name()} {run()}"), {}
    yield encode(user_mobile=SHARED, fiat_value=f"{code()} {name()}"), {}


async def refuse_events(wire: Wire, rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.gather(*[wire.post(body, **changes) for body, changes in write_bad(wire.canaries)])


# -- sends ------------------------------------------------------------------------------------------


async def send_through_faults(wire: Wire, sandbox: Any, rounds: int) -> dict[str, str]:
    """Send messages whose providers repeat all that they were given, and their own keys; return who each is for."""
    names: dict[str, str] = {}
    for _ in range(rounds):
        for fault in FAULTS:
            number = wire.canaries.new_number()
            for vendor, topic in TOPICS.items():
                payload = write_coupon(wire.canaries, user_mobile=number)
                words = list_words(wire, vendor, payload)
                await sandbox.set_fault(vendor, **fault, body=json.dumps({"error": {"message": " ".join(words)}}))
                (delivery,) = (await wire.post(json.dumps(payload).encode(), topic)).json()["deliveries"]
                names[delivery["id"]] = payload["user_name"]
                await wait_until_tried(wire, delivery["id"])
                await sandbox.clear_faults()
            await let_go_on(wire)
    return names


def list_words(wire: Wire, vendor: str, payload: dict[str, Any]) -> list[str]:
    """Return what a provider was given, and so may repeat: its message's values and its own keys."""
    words = [payload["user_name"], f"+91{payload['user_mobile']}"]
    if vendor == "bitespeed":
        return [*words, payload["value"]]  # its access is part of the URL
    return [*words, wire.secrets["GALLABOX_API_KEY"], wire.secrets["GALLABOX_API_SECRET"]]


async def let_go_on(wire: Wire) -> None:
    """End every hold, and wait for what it held: what came later would be repeated to another message."""
    held = (await wire.operate("GET", "/deliveries", params={"state": "held"})).json()["deliveries"]
    for hold in (await wire.operate("GET", "/holds")).json()["holds"]:
        await wire.operate("DELETE", f"/holds/{hold['scope']}")
    for row in held:
        await wait_until_tried(wire, row["id"], row["attempts"] + 1)


async def wait_until_tried(wire: Wire, delivery_id: str, attempts: int = 1) -> None:
    async with asyncio.timeout(20):
        while True:
            shown = (await wire.operate("GET", f"/deliveries/{delivery_id}")).json()
            if shown["attempts"] >= attempts and shown["state"] != "sending":
                return
            await asyncio.sleep(0.02)


# -- receipts ---------------------------------------------------------------------------------------


async def report_all(wire: Wire, delivery_id: str, name: str) -> None:
    """Post receipts of all kinds, genuine and forged, that hold what a receipt may hold of its customer."""
    canaries = wire.canaries
    for status in ("sent", "failed", canaries.new_name()):
        body = {
            "id": "msg-1",
            "localMessageId": delivery_id,
            "contact": {"name": canaries.new_name(), "phone": [canaries.new_run()]},
            "wish": canaries.new_name(),
            "whatsapp": {
                "status": status,
                "to": canaries.new_run(),
                "text": {"body": canaries.new_code()},
                "errors": [
                    {"code": 131026, "title": "Message undeliverable", "message": f"to {name}, {canaries.new_run()}"}
                ],
            },
        }
        raw = json.dumps(body).encode()
        for secret in (wire.secrets["GALLABOX_WEBHOOK_SECRET"], canaries.new_secret()):
            signature = base64.b64encode(hmac.digest(secret.encode(), raw, "sha256")).decode()
            headers = {"x-event-name": "Message.WA.Status.Received", "x-gallabox-signature": signature}
            await wire.ask("POST", "/webhooks/gallabox", content=raw, headers=headers)
            await wire.ask("POST", "/webhooks/gallabox", content=raw[:-1], headers=headers)
        await wire.ask("POST", "/webhooks/gallabox", content=gzip.compress(raw), headers={"x-event-name": status})
        for token in (wire.secrets["BITESPEED_WEBHOOK_TOKEN"], canaries.new_secret()):
            await wire.ask("POST", "/webhooks/bitespeed", params={"token": token}, content=raw)
        await wire.ask("POST", f"/webhooks/{canaries.new_name()}", content=raw)
    await wire.operate("GET", f"/deliveries/{delivery_id}")


# -- the ops API ------------------------------------------------------------------------------------


async def operate_wrongly(wire: Wire) -> None:
    """Ask for what is not there, by the names and numbers of customers, as somebody in a hurry does."""
    for word in (wire.canaries.new_name(), wire.canaries.new_code(), wire.canaries.new_run()):
        for query in ("state", "route", "provider", "event_id", "provider_message_id", "limit", "cursor"):
            await wire.operate("GET", "/deliveries", params={query: word})
        for method, path in (
            ("GET", f"/deliveries/{word}"),
            ("POST", f"/deliveries/{word}/retry"),
            ("GET", f"/deliveries/reasons?state={word}"),
            ("PUT", f"/holds/route:{word}"),
            ("PUT", f"/holds/{word}"),
            ("DELETE", f"/holds/template:gallabox/{word}"),
            ("GET", f"/{word}"),
            (word, "/deliveries"),
            ("GET", f"/report?since={word}"),
            ("GET", f"/suppressions?cursor={word}"),
        ):
            await wire.operate(method, path)
        # Which of the given ids were not retried, and why, is the answer itself.
        await wire.operate("POST", "/deliveries/retry", json={"ids": [word]}, keep=False)
        for path, body in (
            ("/deliveries/retry", {"state": word}),
            ("/deliveries/retry", [word]),
            ("/replay", {"events": [word]}),
            ("/replay", {"apply": word}),
            ("/replay", {"topic": word}),
            ("/replay", {"route": word}),
            ("/replay", {"since": word}),
            ("/send-test", {"route": word, "to": word}),
            ("/send-test", {"route": "coins-earned", "to": word}),
            ("/erase", {"phone": word}),
            ("/erase", {"phone": [word]}),
            ("/export", {"phone": word}),
            ("/suppressions", {"phones": [word, 1]}),
            ("/suppressions", {"phones": [word], "reason": word}),
            ("/suppressions", {"phones": [SHARED, word]}),
            ("/suppressions/remove", {"phones": [word]}),
        ):
            await wire.operate("POST", path, json=body)
        await wire.operate("POST", "/replay", content=f'{{"events": "{word}'.encode())
        for access in (f"Bearer {word}", f"Basic {word}", word):
            await wire.ask("GET", "/deliveries", headers={"authorization": access})
        for line in (f"GET /{word} HTTP/1.1\r\n{word}: {word}\r\nhost {word}\r\n\r\n", f"{word}\r\n\r\n"):
            wire.texts.append(await send_raw(wire.relay.url, line.encode()))


async def send_raw(url: str, data: bytes) -> str:
    """Return what the relay answers to bytes that are no HTTP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer.decode("latin-1")


async def read_all(wire: Wire) -> None:
    """Read everything there is to be read."""
    cursor: str | None = None
    while True:
        query = {"limit": 500, **({"cursor": cursor} if cursor else {})}
        page = (await wire.operate("GET", "/deliveries", params=query)).json()
        for row in page["deliveries"][::25]:
            await wire.operate("GET", f"/deliveries/{row['id']}")
        if (cursor := page["next_cursor"]) is None:
            break
    for path in ("/metrics", "/holds", "/openapi.json", "/docs", "/readyz", "/healthz", "/report"):
        await wire.operate("GET", path)
    # What is kept of a person is shown to whoever may ask for it; erasing it tells nothing.
    await wire.operate("POST", "/export", json={"phone": "9800000021"}, keep=False)
    await wire.operate("POST", "/erase", json={"phone": "9800000021"})
    await wire.operate("POST", "/deliveries/retry", json={"state": "dead"})
    await wire.operate("POST", "/replay", json={"state": "dead"})
    await wire.operate("POST", "/reload")


async def go_wrong(wire: Wire, sandbox: Any, *, bad: int, sends: int) -> set[str]:
    """Let everything go wrong; return the canaries that came out."""
    async with asyncio.TaskGroup() as group:
        group.create_task(refuse_events(wire, bad))
        names = await send_through_faults(wire, sandbox, sends)
    for delivery_id, name in list(names.items())[:: len(FAULTS)]:
        await report_all(wire, delivery_id, name)
    for _ in range(3):
        await operate_wrongly(wire)
    await read_all(wire)
    assert await wire.relay.stop() == 0
    return wire.canaries.find([*wire.texts, wire.relay.log.read_text()])


@pytest.mark.timeout(180)
async def test_nothing_of_ten_thousand_customers_comes_out(open_wire: Any, sandbox: Any) -> None:
    starting, watch = open_wire()
    async with starting as relay:
        wire = watch(relay)
        assert await go_wrong(wire, sandbox, bad=150, sends=2) == set()
    print(f"figures: {wire.canaries.count} canaries, {len(wire.texts)} texts")  # noqa: T201
    assert wire.canaries.count >= 10_000
    assert wire.statuses >= {200, 202, 204, 400, 401, 404, 413, 415, 422}
    assert '"delivery.attempted"' in relay.log.read_text()
    seen = wire.canaries.find(message["text"] or "" for message in await sandbox.messages())
    assert len(seen) >= 20, "the control: they were there to be seen"


@pytest.mark.timeout(120)
async def test_a_relay_that_redacts_nothing_is_noticed(open_wire: Any, sandbox: Any) -> None:
    starting, watch = open_wire("show_everything")
    async with starting as relay:
        found = await go_wrong(watch(relay), sandbox, bad=2, sends=1)
    assert {"word": any(each.startswith("qzx") for each in found), "number": any(map(str.isdecimal, found))} == {
        "word": True,
        "number": True,
    }


@pytest.mark.parametrize("shape", ["{}", "Dear {}!", "a{}b", "code={}\n"])
def test_a_canary_is_found_wherever_it_stands(canaries: Canaries, shape: str) -> None:
    given = [canaries.new_name().upper(), canaries.new_code().lower(), canaries.new_run(), canaries.new_number()]
    spaced = " ".join(given[2][at : at + 4] for at in range(0, 12, 4))
    assert len(canaries.find(shape.format(each) for each in given)) == 4
    assert canaries.find([shape.format(spaced)]) == {given[2]}
    assert canaries.find(["nothing", "qzx", "000", "12345678901234"]) == set()
