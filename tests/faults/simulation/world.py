"""Three days of a shop: customers, Nector, two providers, handsets, and a relay process to which everything happens."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine
from contextvars import copy_context
from random import Random
from typing import Any

from app.errors import Refusal, StoreError
from app.mapping.provider import ProviderSettings
from app.observe.metrics import Metrics
from app.relay.intake import Answer
from tests.faults.simulation.handset import Webhook as HandsetWebhook
from tests.faults.simulation.handset import build_receipt, build_word, draw_code, draw_story
from tests.faults.simulation.loop import VirtualLoop
from tests.faults.simulation.nector import Nector
from tests.faults.simulation.operating import Operator
from tests.faults.simulation.oracle import Oracle
from tests.faults.simulation.process import Process, Surroundings
from tests.faults.simulation.rules import CUSTOMERS, VERSIONS, Webhook, draw_webhooks, load_rules
from tests.faults.simulation.store import InlineWriter, MemoryOutbox, StoreFaults, open_memory
from tests.faults.simulation.trace import Trace
from tests.faults.simulation.vendor import Vendor

BASE_MS = 1_793_000_000_000  # 26 Oct 2026
DAY_S = 86_400.0
# After the last day nothing goes wrong any more, and what may still wait is a cap of 24 h.
SETTLING_S = 30 * 3_600.0
TROUBLES = {
    "crash": 5,
    "stop": 3,
    "stall": 4,
    "reload": 3,
    "hold": 2,
    "release": 3,
    "retry": 4,
    "word": 6,
    "late end": 8,
    "storm": 4,
    "step": 4,
}
# How far the machine's clock may be off after it was set; right again more often than not.
SKEWS_MS = (0, 0, 0, 0, 300_000, -300_000, 3_600_000, -3_600_000, 10 * 86_400_000)


class World:
    """Made of a seed alone. `live` plays it; then `breaks` says what was wrong, [] if nothing."""

    def __init__(self, loop: VirtualLoop, seed: int, days: float) -> None:
        self.loop = loop
        self.random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.days = days
        self.trace = Trace(loop.time)
        self.breaks: list[str] = []
        self.tally: Counter[str] = Counter()
        self.db = open_memory()
        self.faults = StoreFaults(self.random)
        rates = {name: settings.rate_per_s for name, settings in load_rules(0).config.providers.items()}
        self.oracle = Oracle(
            self.db, self.read_wall, self.read_true, self.read_true_at, rates, self.fail, self.trace.add
        )
        self.vendors = {
            name: Vendor(name, self.random, days, self.oracle, self.trace, self._tell_receipts) for name in rates
        }
        self.nector = Nector(self.random, self.trace, self._post, self.fail)
        self.webhooks = draw_webhooks(self.random, days, BASE_MS)
        self._operator = Operator(self.db, self.random, self.oracle, self.read_wall)
        self._process: Process | None = None
        self._version = 0
        self._skew_ms = 0
        self._broken = asyncio.Event()
        self._outside: set[asyncio.Task[Any]] = set()
        self._context = copy_context()  # in which no process runs
        self._ids = itertools.count(1)
        self._around = Surroundings(
            loop,
            self.trace,
            Metrics(),
            self.read_wall,
            self._new_id,
            self.random.random,
            self._open_sender,
            self.fail,
        )

    def read_true(self) -> int:
        """Return the true time in ms."""
        return self.read_true_at(self.loop.time())

    def read_true_at(self, seconds: float) -> int:
        """Return the true time at a time of the loop."""
        return BASE_MS + int(seconds * 1000)

    def read_wall(self) -> int:
        """Return what the machine's clock shows."""
        return self.read_true() + self._skew_ms

    def fail(self, what: str) -> None:
        """Note a broken invariant and end the world."""
        self.trace.add(f"BROKEN {what}")
        self.breaks.append(what)
        self._broken.set()

    async def live(self) -> None:
        """Play every day, then the calm after, then look at what is left."""
        self.loop.set_exception_handler(self._note_stray)
        playing = self._start(self._play())
        broken = self._start(self._broken.wait())
        await asyncio.wait({playing, broken}, return_when=asyncio.FIRST_COMPLETED)
        if self._process is not None:
            self._process.kill()
        if playing.done():
            playing.result()
            self._check_end()
        for task in list(self._outside):
            task.cancel()
        await asyncio.gather(*self._outside, return_exceptions=True)
        self.db.close()

    # -- the play ---------------------------------------------------------------------------------

    async def _play(self) -> None:
        self._start(self._keep_running())
        feeding = self._start(self.nector.feed(self.webhooks))
        for at_s, trouble in self._draw_troubles():
            await asyncio.sleep(max(at_s - self.loop.time(), 0))
            self.trace.add(f"trouble {trouble}")
            self.tally[trouble] += 1
            await self._make(trouble)
        await asyncio.sleep(max(self.days * DAY_S - self.loop.time(), 0))
        await feeding
        self.trace.add("calm")
        self.faults.share = 0
        self._set_clock(0)
        for vendor in self.vendors.values():
            vendor.calm = True
        await asyncio.sleep(600)  # the last process starts
        await self._operator.release_all(self._running())
        await asyncio.sleep(SETTLING_S)
        self.oracle.check_counts(await self._running().outbox.count_deliveries())

    def _check_end(self) -> None:
        self.oracle.check_events(self.nector.acknowledged)
        self.oracle.check_timelines()
        self.oracle.check_truth()
        self.oracle.check_withheld()
        self.oracle.check_nothing_waits(self.read_true() - 1_800_000)
        query = "SELECT count(*) FROM timeline WHERE kind = 'state' AND value = 'unknown'"
        withheld = "SELECT count(*) FROM timeline WHERE value = 'suppressed' AND reason = 'recipient_opted_out'"
        self.tally["withheld"] = self.db.execute(withheld).fetchone()[0]
        self.tally["unknowns"] = self.db.execute(query).fetchone()[0]

    async def _keep_running(self) -> None:
        """Start a process, and another one whenever it has ended."""
        for number in itertools.count(1):
            writer = InlineWriter(self.db, self.faults, self.oracle.observe, self._on_broken, self.read_wall)
            process = self._process = Process(number, self._version, MemoryOutbox(self.db, writer), self._around)
            were_open = self.oracle.list_open()
            opening = process.run(process.open())
            await asyncio.wait({opening})
            if opening.cancelled() or isinstance(opening.exception(), StoreError):
                self.trace.add(f"process {number} could not start")
                process.kill()
            else:
                opening.result()
                self.oracle.check_recovered(were_open)
                self.trace.add(f"process {number} listens, {len(were_open)} were open")
                self.oracle.restarted_at = self.read_true()
                process.listening = True
                await process.ended.wait()
            self.tally["processes"] += 1
            await asyncio.sleep(self.random.choice((0.2, 1, 5, 30, 300)))

    def _draw_troubles(self) -> list[tuple[float, str]]:
        """Return troubles in the order of their time, most of them where there is work in flight."""
        troubles = []
        for _ in range(self.random.randint(15, 30)):
            near = self.random.choice(self.webhooks).at_s + self.random.uniform(0, 15)
            at_s = near if self.random.random() < 0.7 else self.random.uniform(0, self.days * DAY_S)
            troubles.append((at_s, self.random.choices(list(TROUBLES), list(TROUBLES.values()))[0]))
        return sorted(troubles)

    def _set_clock(self, skew_ms: int) -> None:
        if skew_ms != self._skew_ms:
            self.trace.add(f"clock set by {skew_ms - self._skew_ms}")
            self.oracle.latest = max(self.oracle.latest, self.read_wall())
            self._skew_ms = skew_ms
            self.oracle.excuse_waits()

    # -- troubles ---------------------------------------------------------------------------------

    async def _make(self, trouble: str) -> None:
        match trouble:
            case "stop":
                await asyncio.wait({self._start(self._running().stop())})
            case "hold":
                await self._operator.hold_something(self._running())
            case "release":
                await self._operator.release_all(self._running())
            case "retry":
                await self._operator.retry_some(self._running())
            case _:
                self._make_at_once(trouble)

    def _make_at_once(self, trouble: str) -> None:
        match trouble:
            case "crash":
                self._running().kill()
            case "stall":
                self.loop.stall(self.random.choice((1, 7, 30, 120, 1_500)))
            case "reload":
                self._version = self.random.randrange(VERSIONS)
                self._running().reload(self._version)
            case "word":
                number = f"+9198000000{self.random.randrange(CUSTOMERS):02}"
                word = self.random.choice(("STOP", "Stop promotions", "resume", "where is my order?"))
                self._start(self._say(number, word))
            case "late end":
                self._operator.end_late()
            case "step":
                self._set_clock(self.random.choice(SKEWS_MS))
            case "storm":
                self.faults.share = self.random.choice((0.05, 0.3, 0.8))
                self._start(self._calm_store(self.random.choice((20, 300))))

    async def _calm_store(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.faults.share = 0

    def _on_broken(self) -> None:
        """End the process whose disk failed, as its dispatcher or its health check would within moments."""
        process = self._running()
        self.tally["broken store"] += 1
        self.loop.call_later(0.5, process.kill)

    # -- the world around the process -------------------------------------------------------------

    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    def _post(self, webhook: Webhook) -> asyncio.Task[Answer | Refusal] | None:
        process = self._process
        return process.post(webhook) if process is not None and process.listening else None

    async def _open_sender(self, settings: ProviderSettings) -> Vendor:
        return self.vendors["main" if settings.type == "gallabox" else "second"]

    def _new_id(self, _now: int) -> str:
        return f"id-{next(self._ids):05}"

    def _tell_receipts(self, provider: str, delivery_id: str, message_id: str) -> None:
        for after_s, status in draw_story(self.random):
            self._start(self._post_receipt(after_s, provider, delivery_id, message_id, status))

    async def _post_receipt(
        self, after_s: float, provider: str, delivery_id: str, message_id: str, status: str
    ) -> None:
        await asyncio.sleep(after_s)
        webhook = build_receipt(provider, delivery_id, message_id, status, draw_code(self.random))
        self.oracle.receipts.add(delivery_id)
        await self._insist(provider, webhook)

    async def _say(self, number: str, word: str) -> None:
        """A customer writes or chooses something; the provider may tell of it twice, and much later again."""
        at_s = self.read_true() // 1000
        webhook = build_word(number, word, at_s)
        wish = "resume" if word == "resume" else "stop" if "top" in word.lower() else None
        self.oracle.note_wish(number, wish, at_s * 1000, heard=False)
        for after_s in (0, *self.random.choice(((), (1,), (30_000,)))):
            await asyncio.sleep(after_s)
            if await self._insist("main", webhook):
                self.oracle.note_wish(number, wish, at_s * 1000, heard=True)

    async def _insist(self, provider: str, webhook: HandsetWebhook) -> bool:
        """Post a provider's webhook up to three times; return whether it was answered 200."""
        for _ in range(3):
            process = self._process
            if process is not None and process.listening:
                task = process.post_receipt(provider, webhook)
                await asyncio.wait({task})
                if not task.cancelled() and not isinstance(task.exception(), StoreError):
                    if task.result() != 200:
                        self.fail(f"a webhook of {provider} was answered {task.result()}")
                    return True
            await asyncio.sleep(60)
        return False

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something outside every process."""
        task = self.loop.create_task(work, context=self._context)
        self._outside.add(task)
        task.add_done_callback(self._outside.discard)
        return task

    def _note_stray(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fail(f"nobody looked at an exception: {context.get('exception')!r} {context['message']}")
