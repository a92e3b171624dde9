"""Playing a world from its seed, and what it came to."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from unittest.mock import patch

from tests.faults.simulation.loop import VirtualLoop
from tests.faults.simulation.world import World

DAYS = 3.0
# The real process looks up every 5 s, whether there is something to do or not; that would be most of the work here.
NAP_S = 3_600.0
SWEEP_S = 600.0
WIPE_EVERY_SWEEPS = 36
TELL_EVERY = 250


@dataclass(frozen=True)
class Played:
    """How a seed went. `tail`: the last of what happened, if an invariant broke."""

    seed: int
    digest: str
    breaks: tuple[str, ...]
    tail: tuple[str, ...]
    tally: Counter[str]
    cpu_s: float

    def explain(self) -> str:
        """Return what a person needs to look into a broken invariant."""
        lines = [f"seed {self.seed} (run it alone with RELAY_TEST_SEED={self.seed}):", *self.breaks]
        return "\n".join([*lines, "the last of what happened:", *self.tail])


def play_seed(seed: int, days: float = DAYS) -> Played:
    """Play one world from its seed."""
    began = time.process_time()
    with (
        patch("app.relay.lane.LONGEST_NAP_S", NAP_S),
        patch("app.relay.dispatcher.SWEEP_EVERY_S", SWEEP_S),
        patch("app.relay.dispatcher.WIPE_EVERY_SWEEPS", WIPE_EVERY_SWEEPS),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        world = runner.run(_play(seed, days))
    breaks = tuple(world.breaks)
    tail = tuple(world.trace.last) if breaks else ()
    tally = world.tally + Counter(
        seeds=1,
        events=len(world.webhooks),
        posts=world.nector.posts,
        requests=world.oracle.requests,
        faults=world.faults.met,
        breaks=len(breaks),
    )
    return Played(seed, world.trace.digest, breaks, tail, tally, time.process_time() - began)


async def _play(seed: int, days: float) -> World:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    world = World(loop, seed, days)
    await world.live()
    return world


def play_seeds(first: int, count: int, processes: int = 1) -> tuple[Counter[str], list[Played]]:
    """Play seeds in turn, or spread over processes; return what they came to, and those that broke an invariant."""
    seeds = range(first, first + count)
    if processes == 1:
        return _collect(map(play_seed, seeds))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return _collect(pool.imap_unordered(play_seed, seeds, chunksize=10))


def _collect(played: Iterable[Played]) -> tuple[Counter[str], list[Played]]:
    total, broken = Counter[str](), []
    for one in played:
        total += one.tally
        if one.breaks:
            broken.append(one)
            print(one.explain(), flush=True)  # noqa: T201 - a long run tells at once
        if total["seeds"] % TELL_EVERY == 0:
            print(f"so far: {total['seeds']} seeds, {len(broken)} broke an invariant", flush=True)  # noqa: T201 - as above
    return total, broken
