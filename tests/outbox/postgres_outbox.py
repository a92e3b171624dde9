"""The PostgreSQL store with the outbox's functions as methods, and what a test's end holds it to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg

from app.delivery.pace import RECIPIENT_GAP_MS
from app.outbox.batch import QUEUE_LIMIT
from app.outbox.postgres.store import PostgresStore
from tests.outbox.methods import Methods
from tests.outbox.recording_triggers import STANDING, find_unlike

_NAMES = count(1)
_TRIGGERS = """
CREATE TABLE recorded (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq bigint NOT NULL, state text NOT NULL);
CREATE INDEX ON recorded (seq);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    IF TG_OP = 'DELETE' THEN DELETE FROM recorded WHERE seq = OLD.seq; RETURN OLD; END IF;
    IF TG_OP = 'INSERT' OR OLD.state <> NEW.state THEN
        INSERT INTO recorded (seq, state) VALUES (NEW.seq, NEW.state);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER record_states AFTER INSERT OR DELETE OR UPDATE OF state ON deliveries
    FOR EACH ROW EXECUTE FUNCTION record();
"""
_ALL_TOLD = "SELECT delivery_seq, value, cause FROM timeline WHERE kind = 'state' ORDER BY delivery_seq, n"
_KEPT = ("migrations", "keys", "tallies")


class PostgresOutbox(PostgresStore, Methods):
    """The PostgreSQL store with these methods. `recipient_gap_ms`: what a claim and a sweep are asked to keep."""

    def __init__(
        self, url: str, recipient_gap_ms: int = RECIPIENT_GAP_MS, queue_limit: int = QUEUE_LIMIT, **more: Any
    ) -> None:
        super().__init__(url, queue_limit=queue_limit, **more)
        self.gap_ms = recipient_gap_ms


class Place:
    """A schema of a database, made once and emptied between tests: to make its tables takes longer than most tests."""

    def __init__(self, url: str, schema: str, pooled: str = "") -> None:
        self.direct = f"{url}?schema={schema}"
        self.url = f"{pooled or url}?schema={schema}"
        self._db = psycopg.connect(url, autocommit=True)
        with ThreadPoolExecutor(1) as aside:  # whoever asks may run in a loop
            aside.submit(asyncio.run, PostgresStore(self.direct).close()).result()
        self._db.execute(f'SET search_path TO "{schema}"'.encode())
        self._db.execute(_TRIGGERS)
        rows = self._db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        self._tables = [name for (name,) in rows if name not in _KEPT]

    def empty(self) -> None:
        """Leave nothing of the test before."""
        self._db.execute("; ".join(f"DELETE FROM {name}" for name in self._tables).encode())  # noqa: S608  # ours
        self._db.execute("UPDATE tallies SET n = 0")

    def find_faults(self) -> Sequence[str]:
        """Return where the timeline or the counts tell of something else than what was recorded."""
        recorded: dict[int, list[str]] = {}
        for seq, state in self._db.execute("SELECT seq, state FROM recorded ORDER BY n").fetchall():
            recorded.setdefault(seq, []).append(state)
        told: dict[int, list[tuple[str, str | None]]] = {}
        for seq, *row in self._db.execute(_ALL_TOLD).fetchall():
            told.setdefault(seq, []).append((row[0], row[1]))
        counted = self._db.execute("SELECT provider, state, n FROM counts WHERE n <> 0").fetchall()
        return find_unlike(recorded, told, counted, self._db.execute(STANDING.encode()).fetchall())

    def close(self) -> None:
        self._db.close()


@contextmanager
def make_place(url: str, pooled: str = "") -> Iterator[Place]:
    """Yield a schema of its own, which goes with the block."""
    schema = f"test_{next(_NAMES)}_{psycopg.conninfo.conninfo_to_dict(url).get('port', 0)}"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        place = Place(url, schema, pooled)
        try:
            yield place
        finally:
            place.close()
            db.execute(f"DROP SCHEMA {schema} CASCADE".encode())
