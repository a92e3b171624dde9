"""The store on PostgreSQL: equal replicas share it, behind any load balancer."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from app.clock import read_uptime
from app.errors import StoreBroken, StoreError
from app.outbox.batch import QUEUE_LIMIT, Apart
from app.outbox.postgres.link import Connection, DatabaseAway, DatabaseClock, PostgresWriter, ReadNow
from app.outbox.postgres.schema import KEPT, check_server, join, list_doubts
from app.outbox.postgres.tx import PostgresTx
from app.outbox.store import Job, Tx
from app.outbox.values import Replica
from app.values.address import read_postgres

T = TypeVar("T")

COMMIT_TIMEOUT_S = 2.0
# Nector gives up after 10 s. What records an outcome waits on, and so does a person who asked for much at once.
WRITE_TIMEOUT_S = 6.0
START_TIMEOUT_S = 60.0  # whoever starts all at once starts the database, too
SEEN_MS = 30_000  # each replica tells every 5 s that it is there
_SEE = "UPDATE replicas SET last_seen = :now WHERE slot = :slot"
_NOTE = "UPDATE replicas SET last_seen = :now, release = :release, config = :config WHERE slot = :slot AND name = :name"
_LIST = "SELECT name, release, config, last_seen FROM replicas WHERE last_seen > :since AND release <> '' ORDER BY name"


class PostgresStore:
    """A `Store` and a `Fleet`.

    Blocks while it opens, up to a minute for a database that is away. Raises StoreBroken where it cannot be used;
    later nothing of the database ends the process.
    """

    def __init__(
        self,
        url: str,
        queue_limit: int = QUEUE_LIMIT,
        name: str | None = None,
        patience_s: float = START_TIMEOUT_S,
        on_restored: Callable[[int], None] = lambda _unknown: None,
    ) -> None:
        """Open the outbox at `url`, and make it where there is none. `name`: this replica's.

        `on_restored` is told how many deliveries were stopped because the database was put back, whenever it is seen.
        """
        self._on_restored = on_restored
        self.address = read_postgres(url)
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.clock = DatabaseClock(read_uptime)
        self.doubts: Sequence[str] = ()
        self.slot, self._people_key = 0, b""
        self._writer = PostgresWriter(self.address, self.clock, self._greet, self._begin, queue_limit)
        self._open_patiently(patience_s)
        # What takes locks waits for nobody, and nobody for it: one at a time, beside what shares commits.
        self._claimer = PostgresWriter(self.address, self.clock, check_server, self._begin, queue_limit, 1)
        self._reader, self._late_reader = (
            PostgresWriter(self.address, self.clock, lambda _db: None, self._begin, queue_limit, 1, reading=True)
            for _ in range(2)
        )
        for each in (self._writer, self._claimer, self._reader, self._late_reader):
            each.start()

    @property
    def fleet(self) -> PostgresStore:
        """See Store."""
        return self

    async def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> T:
        """See Store. Raises StoreBusy, StoreFull, or what the job raised."""
        if isinstance(job, Apart):
            return await self._claimer.run(job, essential=essential)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S if isinstance(job, Job) and not essential else None):
                return await self._writer.run(job, essential=essential)
        except TimeoutError:
            raise StoreError("the database did not answer in time") from None

    async def read(self, query: Callable[[Tx], T], *, slow: bool = False) -> T:
        """See Store."""
        return await (self._late_reader if slow else self._reader).run(query)

    async def can_commit(self) -> bool:
        """See Store."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._writer.run(lambda tx: tx.run(_SEE, now=tx.now))
        except (StoreError, TimeoutError):
            return False
        return True

    async def empty_log(self) -> bool:
        """See Store. Dead rows, the write-ahead log and standbys keep what was erased: nobody here can empty them."""
        return False

    async def note(self, release: str, config: str) -> Sequence[Replica]:
        """See Fleet."""

        def note(tx: Tx) -> Sequence[Replica]:
            tx.run(_NOTE, now=tx.now, name=self.name, release=release, config=config)
            return [Replica(*row) for row in tx.rows(_LIST, since=tx.now - SEEN_MS)]

        return await self.write(note)

    async def close(self) -> None:
        """See Store. Leaves the slot to whoever comes next."""
        for each in (self._reader, self._late_reader, self._claimer):
            await each.close()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._writer.run(lambda tx: tx.run(_SEE, now=0))
        await self._writer.close()

    def _begin(self, db: Connection, read_now: ReadNow) -> PostgresTx:
        return PostgresTx(db, read_now, self._people_key, self.slot, self.address.schema, KEPT)

    def _greet(self, db: Connection) -> None:
        """Each connection may be to another server than the one before: after a failover, or a restore."""
        check_server(db)
        self.doubts = list_doubts(db)
        self._people_key, self.slot, restored = join(db, self.address.schema, self.name)
        if restored is not None:
            self._on_restored(restored)

    def _open_patiently(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while True:
            try:
                self._writer.transact(())
            except DatabaseAway as error:
                if time.monotonic() >= until:
                    cure = "start it, or check RELAY_DATABASE_URL and the user's password"
                    raise StoreBroken(f"{self.address.place}: {error}; {cure}") from error
                time.sleep(0.2)
            except StoreError as error:
                raise StoreBroken(f"{self.address.place}: {error}") from error
            else:
                return
