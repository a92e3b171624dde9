"""A thread works at PostgreSQL through a connection of its own: it writes, or it reads."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from app.outbox.batch import BATCH_LIMIT, QUEUE_LIMIT, BatchWriter, Waiting, fail, run_together
from app.outbox.move import write_counts
from app.outbox.postgres.link import Connection, Link, ReadNow, explain_failure, is_away, is_conflict
from app.outbox.postgres.tx import PostgresTx

OpenTx = Callable[[Connection, ReadNow], PostgresTx]

TRIES = 5  # of a transaction that meets another one
LONGEST_PAUSE_S = 0.05


class PostgresWriter(BatchWriter):
    """Owns a connection. Whoever waits longer than they can is not waited for: their job is not begun.

    `reading`: each job is on one snapshot, and changes nothing.
    """

    def __init__(
        self,
        link: Link,
        open_tx: OpenTx,
        queue_limit: int = QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
        *,
        reading: bool = False,
    ) -> None:
        super().__init__(queue_limit, batch_limit)
        self._link = link
        self._open_tx = open_tx
        self._reading = reading
        self.start()

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        if wanted := [waiting for waiting in batch if not waiting.future.cancelled()]:
            self._settle(wanted, TRIES)

    def _settle(self, batch: Sequence[Waiting], tries: int) -> None:
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever a job raised belongs to its caller, not to this thread
            failure = explain_failure(error)
            if is_conflict(error) and tries > 1:
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311  # jitter
                self._settle(batch, tries - 1)
            elif len(batch) == 1 or is_away(error) or (failure is not None and failure is not error):
                fail(batch, failure or error)
            else:
                for waiting in batch:
                    self._settle([waiting], TRIES)
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.result = result

    def _transact(self, batch: Sequence[Waiting]) -> list[Any]:
        def work(db: Connection, read_now: ReadNow) -> list[Any]:
            tx = self._open_tx(db, read_now)
            results = run_together(tx, [waiting.job for waiting in batch])
            write_counts(tx)
            return results

        return self._link.run(work, reading=self._reading)

    def _release(self) -> None:
        self._link.drop()
