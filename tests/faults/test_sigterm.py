"""SIGTERM at random instants, again and again: in time, exit code 0, nothing lost and nothing doubled at all."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.counts import read_count

ACCOUNTS = 4
SLACK_S = 30.0  # beyond the grace period, for a busy machine: a relay that waited for what drips would take a minute
STARTING = 0.15  # of the rounds
ENDS_IN_TIME: Mapping[str, Any] = {"fault": "drip", "drip_ms": 300}
NEVER_ENDS: Mapping[str, Any] = {"fault": "drip", "drip_ms": 60_000, "probability": 0.4}


@dataclass
class Half:
    """A sender that has sent half of a body when the relay is told to stop, and then the rest or nothing more."""

    number: int
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def finish(self) -> str | None:
        """Send the rest; return the delivery's id if the event was acknowledged."""
        try:
            self.writer.write(self.body[len(self.body) // 2 :])
            await self.writer.drain()
            head, _, answer = (await self.reader.read()).partition(b"\r\n\r\n")
        except OSError:
            return None
        if not head.startswith(b"HTTP/1.1 20"):
            return None
        (delivery,) = json.loads(answer)["deliveries"]
        return str(delivery["id"])

    async def hear(self) -> bytes:
        """Return what the relay said to half a body, b"" if it only closed the connection."""
        try:
            return await self.reader.read()
        except OSError:
            return b""


async def send_half(url: str, number: int) -> Half:
    host, _, port = url.removeprefix("http://").partition(":")
    payload = {"user_name": "Riya", "user_mobile": f"98000000{number % 100:02}", "amount": number, "account": 0}
    body = json.dumps(payload).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /webhooks/nector HTTP/1.1\r\nhost: relay.example\r\nconnection: close\r\n"
        b"content-type: application/json\r\nx-nector-topic: walletreward_create\r\n"
        b"x-nector-delivery-id: half-%d\r\ncontent-length: %d\r\n\r\n%b" % (number, len(body), body[: len(body) // 2])
    )
    await writer.drain()
    return Half(number, body, reader, writer)


@dataclass
class Figures:
    """What the rounds came to."""

    codes: dict[int, int] = field(default_factory=dict)
    halves_taken: int = 0
    cut: int = 0  # events that were stored and whose sender got no answer
    left_open: int = 0  # `sending` in the file after the process has ended: nobody knows what became of these
    slowest_s: float = 0.0
    verdict: Any = None


@pytest.fixture
def run_stops(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    open_crowd: Callable[..., Any],
    outbox_tools: Any,
    outbox_path: Path,
    sandbox: Any,
    seed: int,
) -> Callable[..., Any]:
    """Return a function that stops a loaded relay so many times and judges; `stall`: half a body stays half."""

    async def run(
        rounds: int,
        policy: str,
        weather: Mapping[str, Any],
        grace_s: int,
        *,
        stall: bool,
        fault: str | None = None,
        starting: float = STARTING,
        load_s: tuple[float, float] = (0, 0.8),
    ) -> Figures:
        began, draw = time.monotonic(), random.Random(seed)  # noqa: S311  # no secret
        environment = kill_environment(
            (policy,) * ACCOUNTS, RELAY_SETTLE_AFTER="1s", RELAY_SHUTDOWN_GRACE=f"{grace_s}s"
        )
        port = outbox_tools.find_port()
        figures, halves = Figures(), []
        crowd = open_crowd(f"http://127.0.0.1:{port}", draw, ACCOUNTS)
        async with crowd.run():
            for n in range(rounds):
                await sandbox.set_fault("gallabox", **weather)
                async with start_relay(environment, fault, port=port, wait=False) as relay:
                    if draw.random() < starting:
                        await stop_while_starting(relay, draw, figures)
                    else:
                        await crowd.wait_for_answer(relay)
                        await asyncio.sleep(draw.uniform(*load_s))
                        half = await send_half(crowd.url, n)
                        id_ = await stop_under_load(relay, half, draw, figures, stall=stall)
                        halves += [id_] if id_ else []
                    relay.log.write_text("")
                rows = outbox_tools.read_rows(outbox_path) if outbox_path.exists() else {}
                figures.left_open += sum(row.state == "sending" for row in rows.values())
            crowd.ending.set()
            await sandbox.clear_faults()
            async with start_relay(environment, port=port) as relay:
                await wait_until_idle(relay, outbox_tools, outbox_path, crowd)
                assert await relay.stop() == 0
        outbox_tools.check_integrity(outbox_path)
        acknowledged = {**crowd.acknowledged, **{-number: id_ for number, id_ in enumerate(halves, 1)}}
        assert fault or not crowd.forgotten
        figures.halves_taken, figures.cut = len(halves), len(crowd.cut)
        sent = (await sandbox.counts())["deliveries"]
        figures.verdict = outbox_tools.judge(outbox_tools.read_rows(outbox_path), acknowledged, sent)
        print(  # noqa: T201  # the figures that bench/long-runs.md quotes
            f"figures: SIGTERM {fault or ''} on_unknown={policy} stops={rounds} acknowledged={len(acknowledged)} "
            f"{figures.verdict} left_open={figures.left_open} cut={len(crowd.cut)} halves_taken={len(halves)} "
            f"slowest={figures.slowest_s:.1f}s of {grace_s}s grace codes={figures.codes} "
            f"seed={seed} seconds={time.monotonic() - began:.0f}"
        )
        return figures

    return run


async def stop_while_starting(relay: Any, draw: random.Random, figures: Figures) -> None:
    await asyncio.sleep(draw.uniform(0, 1.3))
    relay.tell()
    code = await relay.end()
    # Until our code runs, Python itself ends at the signal.
    assert code == 0 or (code == -signal.SIGTERM and not relay.lines("relay.started"))
    note(figures, code)


async def stop_under_load(relay: Any, half: Half, draw: random.Random, figures: Figures, *, stall: bool) -> str | None:
    """Tell the relay to stop; return the id of the half event's delivery if it was acknowledged after all."""
    told_at = time.monotonic()
    relay.tell()
    taken: str | None = None
    if stall:
        assert b"HTTP/1.1 20" not in await half.hear()
    else:
        await asyncio.sleep(draw.uniform(0, 0.3))
        taken = await half.finish()
    note(figures, await relay.end())
    figures.slowest_s = max(figures.slowest_s, time.monotonic() - told_at)
    half.writer.close()
    return taken


def note(figures: Figures, code: int) -> None:
    figures.codes[code] = figures.codes.get(code, 0) + 1


async def wait_until_idle(relay: Any, outbox_tools: Any, outbox_path: Path, crowd: Any) -> None:
    async with asyncio.timeout(90):
        while True:
            assert relay.process.returncode is None, relay.log.read_text()[-2000:]
            rows = outbox_tools.read_rows(outbox_path).values()
            busy = any(row.state in {"pending", "sending"} or (row.state == "unknown" and row.due) for row in rows)
            if not busy and len(crowd.acknowledged) == crowd.begun:
                return
            await asyncio.sleep(0.2)


async def check_stops_in_time(run_stops: Callable[..., Any], rounds: int) -> None:
    """Every send can end inside the grace period: not one is unknown, so even `resend` never sends again."""
    grace_s = 4
    figures = await run_stops(rounds, "resend", ENDS_IN_TIME, grace_s, stall=False)
    assert set(figures.codes) <= {0, -signal.SIGTERM}
    assert figures.slowest_s < grace_s + SLACK_S
    assert figures.left_open == figures.cut == 0
    verdict = figures.verdict
    assert (verdict.lost, verdict.doubled, verdict.resent, verdict.unknown, verdict.deaths) == ({}, {}, 0, 0, 0)


async def check_stops_with_a_hung_provider(run_stops: Callable[..., Any], rounds: int) -> None:
    """What cannot end is given up and written down as unknown: nothing is left open, nothing sent again."""
    grace_s = 1
    figures = await run_stops(rounds, "hold", NEVER_ENDS, grace_s, stall=True)
    assert set(figures.codes) <= {0, -signal.SIGTERM}
    assert figures.slowest_s < grace_s + SLACK_S
    assert figures.left_open == figures.cut == 0
    verdict = figures.verdict
    assert (verdict.lost, verdict.doubled, verdict.resent) == ({}, {}, 0)
    assert verdict.deaths == verdict.unknown > 0  # without any the test would prove nothing


@pytest.mark.timeout(300)
async def test_sigterm_lets_every_send_that_can_end_do_so(run_stops: Callable[..., Any]) -> None:
    await check_stops_in_time(run_stops, 13)


@pytest.mark.timeout(300)
async def test_sigterm_gives_up_a_send_that_drips_and_a_body_that_stalls(run_stops: Callable[..., Any]) -> None:
    await check_stops_with_a_hung_provider(run_stops, 7)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_350_sigterms_let_every_send_that_can_end_do_so(run_stops: Callable[..., Any]) -> None:
    await check_stops_in_time(run_stops, read_count(350))


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_150_sigterms_give_up_a_send_that_drips_and_a_body_that_stalls(run_stops: Callable[..., Any]) -> None:
    await check_stops_with_a_hung_provider(run_stops, read_count(150))


@pytest.mark.timeout(120)
async def test_the_sigterm_test_notices_a_relay_that_exits_at_once(run_stops: Callable[..., Any]) -> None:
    """The known-bad control: what was open is left open, so the next start must call it unknown."""
    figures = await run_stops(
        2, "hold", ENDS_IN_TIME, 4, stall=False, fault="exit_at_once", starting=0, load_s=(1, 1.2)
    )
    assert figures.left_open > 0
    assert figures.verdict.unknown > 0


@pytest.mark.parametrize(("fault", "code"), [("slow_start", 0), ("slow_start+deaf_start", -signal.SIGTERM)])
async def test_a_sigterm_that_comes_while_the_relay_starts_stops_it_in_order(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_path: Path,
    fault: str,
    code: int,
) -> None:
    """As the first process of a container it would never get a signal that it does not handle.

    The second row is the known-bad control: a relay that listens to signals only once it is open.
    """
    environment = kill_environment(("hold",))
    async with start_relay(environment, fault, script="dying_relay.py", wait=False) as relay:
        async with asyncio.timeout(30):
            while not outbox_path.exists():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert relay.lines("relay.started") == []
        relay.tell()
        assert await relay.end() == code
        assert len(relay.lines("relay.stopped")) == (code == 0)
