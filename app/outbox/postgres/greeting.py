"""A new connection is used once its server is seen to keep what it acknowledges, and its tables to be ours."""

from __future__ import annotations

import os
from collections.abc import Sequence

from app.errors import StoreBroken
from app.outbox.close import BACKUP_MARK, settle_restored
from app.outbox.move import write_counts
from app.outbox.postgres.link import Connection, begin
from app.outbox.postgres.schema import AS_BYTES, STEPS
from app.outbox.postgres.tx import PostgresTx, hash_lock

OLDEST_SERVER = 140_000
_ALIVE_MS = 60_000  # a replica that was not seen for so long has left its slot to others
_PROMISES = {
    "synchronous_commit": "set it to on, for this user, too (ALTER ROLE … SET synchronous_commit = on)",
    "fsync": "set it to on in postgresql.conf and restart the server",
    "full_page_writes": "set it to on in postgresql.conf and reload the server",
}
_STANDBYS = "SELECT current_setting('synchronous_standby_names'), count(*) FROM pg_stat_replication"
_ARE_THERE = """SELECT to_regclass(format('%%I.%%I', %(schema)s::text, name)) IS NOT NULL
FROM unnest(ARRAY['migrations', 'deliveries', 'events', 'holds', 'lanes']) AS name"""
_VERSION = "SELECT coalesce(max(version), 0), coalesce(max(oldest), 0) FROM migrations"
_MIGRATIONS = "CREATE TABLE migrations (version bigint PRIMARY KEY, oldest bigint NOT NULL, at bigint NOT NULL)"
# A dump that was put back has other tables, or another server. A server that was wound back to an instant looks like
# one after a failover: it has to be told by hand.
_HOME = """SELECT concat_ws('/', d.oid, CAST(CAST('deliveries' AS regclass) AS oid)) AS place,
has_function_privilege('pg_control_system()', 'EXECUTE') AS tells_server
FROM pg_database d WHERE d.datname = current_database()"""
_SERVER = "SELECT CAST(system_identifier AS TEXT) AS name FROM pg_control_system()"
_READ_HOME = "SELECT at FROM marks WHERE name = 'home'"
_MARK = "INSERT INTO marks VALUES (:name, :at) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
_FREE_SLOT = """SELECT slot FROM replicas WHERE last_seen <= %s OR name = %s ORDER BY name = %s DESC, slot LIMIT 1"""
_TAKE_SLOT = """INSERT INTO replicas (slot, name, last_seen) VALUES (%s, %s, %s)
ON CONFLICT (slot) DO UPDATE SET name = excluded.name, last_seen = excluded.last_seen"""


def check_server(db: Connection) -> None:
    """Raise StoreBroken where the server may lose what it has acknowledged: then no 2xx would be true."""
    if db.info.server_version < OLDEST_SERVER:
        raise StoreBroken(f"the server is PostgreSQL {db.info.server_version // 10_000}; this needs 14 or newer")
    for name, cure in _PROMISES.items():
        (value,) = db.execute(f"SHOW {name}").fetchone() or ("",)
        if value == "off":
            raise StoreBroken(f"the server's {name} is off, so that it may lose what it has acknowledged; {cure}")


def list_doubts(db: Connection) -> Sequence[str]:
    """Return what of the promise holds less far than it looks."""
    row = db.execute(_STANDBYS).fetchone()
    if row is None or row[0] or not row[1]:
        return ()
    return ("it is replicated, but no standby is synchronous: a failover may lose what was acknowledged just before",)


def join(db: Connection, schema: str, name: str) -> tuple[bytes, int, int | None]:
    """Make the tables, or bring an earlier release's forward, and take a slot to count in: one replica at a time.

    Return the outbox's key, the slot, and how many deliveries were stopped because the database was put back, None if
    it was not. Raises StoreBroken where the tables are not ours, or of a release that this one cannot work beside.
    """
    try:
        now = int(begin(db, schema).fetchall()[0][-1])
        db.execute("SELECT pg_advisory_xact_lock(%s)", (hash_lock(schema, "migrations"),))
        _prepare_tables(db, schema, now)
        db.execute("INSERT INTO keys VALUES ('people', %s) ON CONFLICT DO NOTHING", (os.urandom(32),))
        (key,) = db.execute("SELECT value FROM keys WHERE name = 'people'").fetchone() or (b"",)
        found = db.execute(_FREE_SLOT, (now - _ALIVE_MS, name, name)).fetchone()
        found = found or db.execute("SELECT coalesce(max(slot), 0) + 1 FROM replicas").fetchone() or (1,)
        db.execute(_TAKE_SLOT, (found[0], name, now))
        tx = PostgresTx(db, lambda: now, bytes(key), int(found[0]), schema)
        restored = _settle_moved(tx)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return bytes(key), int(found[0]), restored


def _settle_moved(tx: PostgresTx) -> int | None:
    """Stop what had not ended, if the tables are not where they were, or somebody has marked them."""
    found = tx.rows(_HOME)[0]
    # A hosted server may keep its name to itself: then the tables' own numbers have to do.
    server = tx.rows(_SERVER)[0].name if found.tells_server else ""
    home = hash_lock(f"{server}/{found.place}".lstrip("/"), "home")
    known = tx.rows(_READ_HOME)
    if not known or known[0].at != home:
        tx.run(_MARK, name="home", at=home)
        if known:
            tx.run(_MARK, name=BACKUP_MARK, at=tx.now)
    restored = settle_restored(tx)
    write_counts(tx)
    return restored


def _prepare_tables(db: Connection, schema: str, now: int) -> None:
    is_ours, *others = [row[0] for row in db.execute(_ARE_THERE, {"schema": schema}).fetchall()]
    if not is_ours:
        if any(others):
            raise StoreBroken(f"schema {schema} has tables of somebody else; give this relay one: ?schema=NAME")
        if not db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
            db.execute(f'CREATE SCHEMA "{schema}"')
        db.execute(_MIGRATIONS)
    version, oldest = db.execute(_VERSION).fetchone() or (0, 0)
    if oldest > len(STEPS):
        raise StoreBroken(
            f"the outbox was brought forward by a newer nector-relay (schema {version}, this one knows "
            f"{len(STEPS)}), which this one cannot work beside; start that release"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        db.execute(step.script.replace(*AS_BYTES))
        db.execute("INSERT INTO migrations VALUES (%s, %s, %s)", (number, step.oldest, now))
