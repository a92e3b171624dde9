"""A full disk under a whole relay: only 503s, no request that nothing stands for, and it goes on by itself.

The disk is a tmpfs of 12 MiB. Where nobody may mount one, writes of the outbox's files fail as on a full disk;
then the reserve cannot help, and outcomes are recorded once there is space again.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOR_EVER = 2**62
REFUSED = 51
DISK = "12m"
HANG = {"fault": "hang"}  # accepted, never answered: what is open has surely been sent


@dataclass(frozen=True)
class Disk:
    """A place for the outbox that can be filled up and freed while the relay runs."""

    path: Path
    environment: Mapping[str, str]
    name: str
    fill: Callable[[], None]
    free: Callable[[], None]


def fill_up(ballast: Path) -> None:
    """Take all space that is left."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            while True:
                try:
                    if file.write(bytes(size)) < size:
                        break
                except OSError:
                    break


@pytest.fixture
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, failing_disk: Callable[..., Any], disk_words: Any
) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount") if getattr(request, "param", "tmpfs") == "tmpfs" else None
    mounted = mount is not None and not subprocess.call(
        [mount, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], stderr=subprocess.DEVNULL
    )
    if mounted:
        ballast = place / "ballast"
        yield Disk(place / "relay.db", {}, "tmpfs", lambda: fill_up(ballast), ballast.unlink)
        subprocess.check_call(["umount", "--lazy", str(place)])
    else:
        failing = failing_disk(place / "relay.db")
        yield Disk(
            place / "relay.db",
            failing.environment,
            "failing writes",
            lambda: failing.arm(disk_words.WRITES, errno.ENOSPC, 1, FOR_EVER),
            lambda: failing.arm(disk_words.WRITES, 0),
        )


@dataclass(frozen=True)
class Found:
    """What a full disk came to. `unattempted`: requests that no committed attempt stood for when they were seen."""

    during: list[Any]
    unattempted: set[str]
    refused_since: int
    verdict: Any
    broken: Mapping[str, Any]


@pytest.fixture
def run_full(
    disk: Disk,
    start_relay: Callable[..., Any],
    storage_environment: Mapping[str, str],
    storage_tools: Any,
    outbox_tools: Any,
    sandbox: Any,
) -> Callable[..., Any]:
    """Return a function that fills the disk under load for so long, frees it, lets the relay drain, and judges.

    With `killed` the relay is killed while the disk is full, and started again when it is free.
    """

    async def watch(seconds: float) -> set[str]:
        """Compare, again and again, what the provider has seen with what is committed."""
        found: set[str] = set()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            sent = (await sandbox.counts())["deliveries"]
            found.update(storage_tools.find_unattempted(disk.path, sent))
            await asyncio.sleep(0.2)
        return found

    async def run(seconds: float, broken: str | None = None, *, killed: bool = False, **weather: Any) -> Found:
        await sandbox.set_fault("gallabox", **(weather or {"latency_ms": 300}))
        environment = {**storage_environment, **disk.environment, "RELAY_DATABASE_URL": f"sqlite:///{disk.path}"}
        port = outbox_tools.find_port()
        senders = storage_tools.senders(f"http://127.0.0.1:{port}")
        async with senders.run():
            async with start_relay(environment, broken, port=port) as relay:
                await senders.wait_for(60)
                disk.fill()
                full_at = time.monotonic()
                unattempted = await watch(seconds)
                if broken is None:
                    await senders.wait_for_refusals(REFUSED, full_at)
                if killed:
                    await relay.kill()
                await sandbox.clear_faults()
                disk.free()
                freed_at = time.monotonic()
                if not killed:
                    await senders.wait_for(len(senders.acknowledged) + 30)
                    await senders.end()
                    if broken is None:
                        await storage_tools.drain(outbox_tools, disk.path)
                    assert relay.process.returncode is None
                    assert await relay.stop() == 0
            if killed:
                async with start_relay(environment, port=port) as relay:
                    await senders.wait_for(len(senders.acknowledged) + 30)
                    await senders.end()
                    await storage_tools.drain(outbox_tools, disk.path)
                    assert await relay.stop() == 0
        sent = (await sandbox.counts())["deliveries"]
        during = [answer for answer in senders.since(full_at) if answer.began < freed_at]
        refused_since = sum(each.status == 503 for each in senders.since(freed_at))
        verdict = outbox_tools.judge(outbox_tools.read_rows(disk.path), senders.acknowledged, sent)
        print(  # noqa: T201  # bench/long-runs.md quotes it
            f"figures: disk full ({disk.name}) for {seconds:.0f} s {broken or ''} {'killed' if killed else ''} "
            f"answers={len(during)} refused={sum(each.status == 503 for each in during)} "
            f"unattempted={len(unattempted)} refused_since={refused_since} {verdict}"
        )
        return Found(during, unattempted, refused_since, verdict, storage_tools.find_broken(disk.path))

    return run


def judge_full(found: Found) -> None:
    assert {answer.status for answer in found.during} <= {200, 202, 503}
    assert all(answer.retry_after for answer in found.during if answer.status == 503)
    assert found.unattempted == set()
    assert (found.verdict.lost, found.verdict.doubled, found.verdict.open, found.broken) == ({}, {}, 0, {})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("disk", ["tmpfs", pytest.param("failing writes", marks=pytest.mark.long)], indirect=True)
async def test_a_disk_that_is_full_for_6_s_costs_only_503s(run_full: Callable[..., Any]) -> None:
    found = await run_full(6)
    judge_full(found)
    assert sum(answer.status == 503 for answer in found.during) >= REFUSED
    assert found.verdict.unknown == 0, "every outcome was recorded"
    assert found.refused_since == 0


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_disk_that_is_full_for_60_s_costs_only_503s(run_full: Callable[..., Any]) -> None:
    found = await run_full(60)
    judge_full(found)
    assert sum(answer.status == 503 for answer in found.during) > 1_000
    assert found.verdict.unknown == 0
    assert found.refused_since == 0


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_relay_that_is_killed_while_its_disk_is_full_sends_nothing_twice(run_full: Callable[..., Any]) -> None:
    found = await run_full(2, killed=True)
    judge_full(found)


@pytest.mark.timeout(120)
async def test_a_relay_that_sends_before_it_commits_the_attempt_is_noticed(run_full: Callable[..., Any]) -> None:
    """The known-bad control."""
    found = await run_full(2, "commit_after_send", killed=True, **HANG)
    assert found.unattempted
    assert found.verdict.doubled
