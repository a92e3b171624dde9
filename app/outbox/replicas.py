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
NOTICE_MS = 86_400_000  # all see a change within seconds
_TAKE_NOTICE = "INSERT INTO marks VALUES (:name, :now) ON CONFLICT DO NOTHING"
_FORGET_NOTICES = "DELETE FROM marks WHERE name > 'told ' AND name < 'told!' AND at < :before"


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


def take_notice(tx: Tx, what: str) -> bool:
    """Tell whether this replica is the first to tell of something, and so the one to do it."""
    tx.send(_FORGET_NOTICES, [{"before": tx.now - NOTICE_MS}])
    return bool(tx.run(_TAKE_NOTICE, name=f"told {what}", now=tx.now))


def list_differences(replicas: Sequence[Replica]) -> Sequence[str]:
    """Return in what the replicas that are there differ: `release`, `config`."""
    return [what for what in ("release", "config") if len({getattr(each, what) for each in replicas}) > 1]
