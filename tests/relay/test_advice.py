"""The promise against every kind of answer: whatever the relay advises is followed, nobody is written to twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest

from app.cli.deliveries import advise
from app.model.delivery import Scope
from tests.providers.test_field_answers import ROWS, Row, write

# One provider and one route each, so that no hold hides another case. What names no time to wait would keep the lane
# for half a minute: the plain refusals and acceptances are what advice is given for.
CASES = [row for row in ROWS if row.kind[0] != "retryable"]


def was_perhaps_taken(row: Row) -> bool:
    """Tell whether a fake that answers so may have taken the message."""
    return (row.status < 300 and row.kind[2] not in (Scope.PROVIDER, Scope.TEMPLATE)) or row.kind[0] in (
        "accepted",
        "uncertain",
    )


class Fake:
    """Answers `POST /c/N/…` with case N; counts the requests of each."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        number = int(head.split(b" ")[1].split(b"/")[2])
        self.counts[number] += 1
        row, body = CASES[number], write(CASES[number].body)
        lines = [f"HTTP/1.1 {row.status} X", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in row.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if row.status == 204 else body))
        await writer.drain()
        writer.close()


def write_yaml(port: int) -> str:
    providers, routes = {}, {}
    for number in range(len(CASES)):
        providers[f"p{number}"] = {
            "type": "gallabox",
            "channel_id": "c",
            "api_key": "${GALLABOX_API_KEY}",
            "api_secret": "${GALLABOX_API_SECRET}",
            "base_url": f"http://127.0.0.1:{port}/c/{number}",
        }
        routes[f"r{number}"] = {"event": f"case_{number}", "provider": f"p{number}", "template": "t"}
    return json.dumps({"version": 1, "providers": providers, "routes": routes})


@asynccontextmanager
async def open_world(open_relay: Callable[..., Any]) -> AsyncIterator[tuple[Any, Fake]]:
    fake = Fake()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    yaml = write_yaml(server.sockets[0].getsockname()[1])
    # Without the gap: what is sent again shows at once, and not only where a busy machine has let it pass already.
    with mock.patch("app.relay.lane.RECIPIENT_GAP_MS", 0), mock.patch("app.delivery.pace.RECIPIENT_GAP_MS", 0):
        async with server, open_relay(RELAY_CONFIG_YAML=yaml) as relay:
            for number in range(len(CASES)):
                event = {"user_name": "Riya", "user_mobile": f"98000000{number % 100:02}"}
                assert (await relay.post(event, f"case_{number}")).status_code == 202
            await settle(fake, len(CASES))
            yield relay, fake
            server.close()


async def settle(fake: Fake, at_least: int) -> None:
    """Wait until every case was asked, and then until nothing more is asked."""
    async with asyncio.timeout(120):
        before = Counter[int]()
        while len(fake.counts) < at_least or fake.counts != before:
            before = fake.counts.copy()
            await asyncio.sleep(1.5)


async def list_deliveries(relay: Any) -> list[dict[str, Any]]:
    page = (await relay.ops("GET", "/deliveries", params={"limit": 500})).json()["deliveries"]
    return [(await relay.ops("GET", f"/deliveries/{each['id']}")).json() for each in page]


async def test_following_any_advice_writes_to_nobody_twice(open_relay: Callable[..., Any]) -> None:
    async with open_world(open_relay) as (relay, fake):
        for told in await list_deliveries(relay):
            number, (standing, cure) = int(told["route"][1:]), advise(told)
            if was_perhaps_taken(CASES[number]) and told["state"] != "accepted":
                assert "look at" in cure, (CASES[number], standing, cure)
        left = (await relay.ops("POST", "/deliveries/retry", json={"state": "dead"})).json()
        plan = (await relay.ops("POST", "/replay", json={"state": "dead"})).json()
        await relay.ops("POST", "/replay", json={"apply": plan["plan_id"]})
        for hold in (await relay.ops("GET", "/holds")).json()["holds"]:
            await relay.ops("DELETE", f"/holds/{hold['scope']}")
        await settle(fake, len(CASES))
    twice = [row for number, row in enumerate(CASES) if was_perhaps_taken(row) and fake.counts[number] > 1]
    assert twice == []
    assert set(left["why"].values()) == {"perhaps_taken"}
    assert left["retried"], "what surely was refused is sent again"
    assert max(fake.counts.values()) > 1


async def test_control_who_sends_all_that_is_dead_again_writes_twice(open_relay: Callable[..., Any]) -> None:
    async with open_world(open_relay) as (relay, fake):
        dead = [told["id"] for told in await list_deliveries(relay) if told["state"] == "dead"]
        await relay.ops("POST", "/deliveries/retry", json={"ids": dead})
        taken = [number for number, row in enumerate(CASES) if was_perhaps_taken(row)]
        async with asyncio.timeout(120):  # a busy machine may send the first of them late
            while not any(fake.counts[number] > 1 for number in taken):
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("accepted", ["", "accepted: {path: data.id}, "])
async def test_the_first_answers_are_shown_by_their_keys_where_nobody_described_them(
    open_relay: Callable[..., Any], accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"data": {"id": "m-1", "note": "Riya"}}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    at = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = f"{{type: http, base_url: '{at}', {accepted}body: {{to: $phone}}}}"
    route = "{event: case, provider: api, template: t}"
    yaml = f"version: 1\nproviders:\n  api: {provider}\nroutes:\n  a: {route}\n"
    async with server, open_relay(RELAY_CONFIG_YAML=yaml) as relay:
        for number in range(5):
            (made,) = (await relay.post({"user_mobile": f"980000000{number}"}, "case")).json()["deliveries"]
            await relay.wait_for(made["id"], "accepted")
        server.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "answer.shape" in line]
    assert [line["keys"] for line in lines] == ([] if accepted else [["data", "data.id", "data.note"]] * 3)
