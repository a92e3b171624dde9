"""24 faults of a provider, a thousand messages each, over real sockets: what the client makes of every one.

The fault server runs in a process of its own. What it counted is the oracle: what we call surely not sent never
reached it, and what we call uncertain reached it once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop

from app.model.delivery import Outcome, Retryable, Uncertain
from app.model.message import Message
from app.providers import client, exchange, transport
from app.providers.base import Provider, Request, Response, Sent
from app.providers.client import ProviderClient
from tests.faults.fault_sending import (
    MESSAGE,
    FaultProcess,
    Memory,
    Report,
    build_account,
    find_wrong,
    open_server,
    send_row,
    strip_detail,
)
from tests.faults.fault_server import ANSWERS, answering, open_fault
from tests.faults.fault_table import ACCEPTED, FAULTS, LOST, PATIENT_MS, REDIRECTED, ROWS, TIMED_OUT, UNREADABLE, Row
from tests.providers.client.whole import Whole

FEW, MANY = 200, 1_000  # messages of each fault, shared among its rows
MOST_GROWTH_MB = 60
LATEST_S = 20.0  # beyond a deadline; a second by right, but the machine may be busy


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FaultProcess]:
    async with open_server(tmp_path) as running:
        yield running


# -- the table -------------------------------------------------------------------------------------


def test_the_table_has_every_fault() -> None:
    assert len(FAULTS) == 24
    assert {count % len(rows) for rows in FAULTS.values() for count in (FEW, MANY)} == {0}


async def send_all(
    folder: Path, messages: int
) -> tuple[list[Report], Mapping[str, tuple[int, Mapping[str, int]]], float]:
    """Send so many of every fault; return the reports, what the server counted, and the growth of memory in MB."""
    memory = Memory()
    shares = [(row, messages // len(rows)) for rows in FAULTS.values() for row in rows]
    async with open_server(folder) as server:
        await send_row(Row("taken", ACCEPTED), server, 50)  # what is loaded at the first send is no growth
        async with memory.watched():
            async with asyncio.TaskGroup() as waiting:  # the slow ones only wait: the others need not
                slow = [waiting.create_task(send_row(row, server, share)) for row, share in shares if row.slow]
                reports = [await send_row(row, server, share) for row, share in shares if not row.slow]
            reports += [each.result() for each in slow]
        return reports, await server.count(), memory.growth


@pytest.mark.timeout(300)
def test_24_faults_of_200_messages_each_are_classified_exactly(tmp_path: Path) -> None:
    check_faults(tmp_path, FEW)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_24_faults_of_1000_messages_each_are_classified_exactly(tmp_path: Path) -> None:
    check_faults(tmp_path, MANY)


def check_faults(folder: Path, messages: int) -> None:
    began = time.monotonic()
    # The loop that the relay runs on: asyncio's own keeps half a megabyte for each TLS connection.
    reports, counts, growth = uvloop.run(send_all(folder, messages))
    total, right = sum(report.messages for report in reports), sum(report.right for report in reports)
    uncertain = sum(report.uncertain for report in reports)
    overrun = max(report.overrun_s for report in reports)
    print(  # noqa: T201  # the figures that bench/long-runs.md quotes
        f"figures: provider faults: {right} of {total} classified exactly, {uncertain} uncertain, the latest ended "
        f"{overrun:+.2f} s from its deadline, memory +{growth:.0f} MB, {time.monotonic() - began:.0f} s"
    )
    assert find_wrong(reports, counts) == []
    assert (right, total) == (24 * messages, 24 * messages)
    assert uncertain == sum(report.messages for report in reports if isinstance(report.row.outcome, Uncertain))
    assert overrun < LATEST_S
    assert growth < MOST_GROWTH_MB


@pytest.mark.parametrize("kind", ["bitespeed", "http"])
async def test_another_type_of_provider_says_the_same(server: FaultProcess, kind: str) -> None:
    reports = await asyncio.gather(*(send_row(row, server, 3, kind=kind) for row in ROWS))
    assert find_wrong(reports, await server.count()) == []


async def test_a_certificate_that_is_good_is_accepted(server: FaultProcess) -> None:
    """Else the rows of bad ones would show nothing."""
    report = await send_row(Row("good certificate", ACCEPTED), server, 20)
    assert find_wrong([report], await server.count()) == []


# -- known-bad controls ----------------------------------------------------------------------------


async def test_control_a_quick_try_after_a_timeout_reaches_the_provider_twice(
    server: FaultProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_worth_it(sent: Sent) -> bool:
        return isinstance(sent.outcome, Retryable | Uncertain)

    monkeypatch.setattr(client, "_is_worth_a_quick_try", is_worth_it)
    row = Row("close without an answer", LOST)
    report = await send_row(row, server, 5)
    counts = await server.count()
    assert find_wrong([report], counts)
    assert max(counts[row.answer][1].values()) > 1


@dataclass(frozen=True)
class Trusting:
    """An account that takes every 2xx for a success."""

    real: Provider

    def read_response(self, response: Response) -> Outcome:
        return ACCEPTED if 200 <= response.status < 300 else self.real.read_response(response)

    def build_request(self, message: Message, delivery_id: str) -> Request:
        return self.real.build_request(message, delivery_id)


async def test_control_whoever_takes_any_2xx_for_accepted_is_caught(server: FaultProcess) -> None:
    named = {"204", "HTML 200", "200 with an error", "200 with WhatsApp's error", "200 with half the JSON"}
    named |= {"10 MB, 200", "gzip bomb"}
    adapt: Any = Trusting
    rows = [row for row in ROWS if row.answer in named]
    reports = await asyncio.gather(*(send_row(row, server, 2, adapt=adapt) for row in rows))
    wrong = find_wrong(reports, await server.count())
    assert {line.split(":")[0] for line in wrong} == named


class Following(httpx2.AsyncBaseTransport):
    """Carries a request wherever its answer leads."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._client = httpx2.AsyncClient(transport=transport, follow_redirects=True)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._client.send(request, stream=True)

    async def aclose(self) -> None:
        await self._client.aclose()


async def test_control_whoever_follows_redirects_is_caught() -> None:
    """The redirects of the table lead to the metadata address; these lead to a trap that counts."""
    for following in (True, False):
        async with open_fault(ANSWERS["taken"]) as trap:
            moved = f"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{trap.port}/\r\ncontent-length: 0\r\n\r\n"
            async with open_fault(answering(moved.encode())) as server:
                sender = ProviderClient(timeout_ms=PATIENT_MS, concurrency=1)
                if following:
                    sender._transport = Whole(Following(sender._transport), traced=True)
                sent = await sender.send(build_account("gallabox", f"http://127.0.0.1:{server.port}"), MESSAGE, "d-1")
                await sender.close()
                assert len(server.requests) == 1
            assert len(trap.requests) == following
            assert strip_detail(sent.outcome) == (ACCEPTED if following else REDIRECTED)


async def test_control_a_timeout_for_each_read_alone_is_seen_to_be_late(
    server: FaultProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(transport, "_end", ended.append)
    # Twenty bytes, each well within the timeout, and a second altogether.
    report = await send_row(Row("short body drip", TIMED_OUT, short_ms=600), server, 1)
    assert len(ended) == 1
    assert report.overrun_s > 0.2
    assert find_wrong([report], await server.count())


async def test_control_whoever_reads_an_answer_to_its_end_is_seen_in_memory(
    server: FaultProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = exchange.Connection.ask

    def ask_for_all(self: Any, data: bytes, _longest: int, **more: bool) -> Any:
        return ask(self, data, 10**9, **more)

    monkeypatch.setattr(exchange.Connection, "ask", ask_for_all)
    memory = Memory()
    async with memory.watched():
        await send_row(Row("10 MB, 200", UNREADABLE), server, 20)
    assert memory.growth > MOST_GROWTH_MB
