"""The replicas that share a store: each writes in its own row what it runs and when it was there."""

from __future__ import annotations

from collections.abc import Sequence

from app.outbox.store import Tx
from app.outbox.values import Replica

SEEN_MS = 30_000  # each tells every 5 s that it is there
_SEE = "UPDATE replicas SET last_seen = :now WHERE slot = :slot"
_NOTE = """
UPDATE replicas SET last_seen = :now, release = :release, config = :config WHERE slot = :slot AND name = :name
"""
_LIST = "SELECT name, release, config, last_seen FROM replicas WHERE last_seen > :since AND release <> '' ORDER BY name"


def see_replica(tx: Tx) -> None:
    """Note that this replica is there."""
    tx.run(_SEE, now=tx.now, slot=tx.slot)


def note_replica(tx: Tx, name: str, release: str, config: str) -> Sequence[Replica]:
    """Note what this replica runs; return all that were there lately."""
    tx.run(_NOTE, now=tx.now, slot=tx.slot, name=name, release=release, config=config)
    return [Replica(*row) for row in tx.rows(_LIST, since=tx.now - SEEN_MS)]


def leave_replicas(tx: Tx) -> None:
    """Note that this replica stops: another may count on in its slot at once."""
    tx.run("UPDATE replicas SET last_seen = 0 WHERE slot = :slot", slot=tx.slot)
