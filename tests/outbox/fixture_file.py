"""The outbox that release b3d2abe left behind when it was killed: unpacked, brought to today, opened and let go."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.outside import ROOT, FakeProvider, Running, read_ids, read_rows, run_provider, run_relay

FOLDER = ROOT / "tests/fixtures/outbox"
ARCHIVE, DESCRIPTION, EMPTY = FOLDER / "b3d2abe.tar.gz", FOLDER / "b3d2abe.json", FOLDER / "version-3.sql"
YAML = FOLDER / "relay.yaml"
QUIET_S = 3
# Every column of schema version 3 that holds an instant.
INSTANTS: Mapping[str, tuple[str, ...]] = {
    "events": ("received_at",),
    "deliveries": ("due_at", "deadline_at", "created_at", "updated_at", "last_attempt_at", "lease_until"),
    "attempts": ("started_at", "ended_at"),
    "timeline": ("at",),
    "receipts": ("at", "received_at"),
    "early_receipts": ("at", "received_at"),
    "dedup_keys": ("seen_at",),
    "recipient_turns": ("last_at",),
    "holds": ("since", "probe_at"),
    "lanes": ("last_claim_at", "paused_until", "probe_at", "resumed_at"),
    "plans": ("created_at", "applied_at"),
    "recordings": ("at",),
    "marks": ("at",),
    "suppressions": ("since",),
    "lifted_suppressions": ("at",),
    "unreachable": ("since",),
    "clicks": ("at",),
    "acts": ("at",),
    "hold_changes": ("at",),
}


def read_description() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return found


def unpack(folder: Path, made_at: int) -> Path:
    """Return the file in a new folder, with its log, as if the relay had been killed some seconds ago.

    Deadlines and retention would else have passed long since: every instant moves by as much.
    """
    (folder / "aside").mkdir(parents=True)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder / "aside", filter="data")
    path, aside = folder / "relay.db", folder / "aside/relay.db"
    by_ms = int(time.time() * 1000) - made_at
    with closing(sqlite3.connect(aside, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("BEGIN")
        for table, names in INSTANTS.items():
            changes = ", ".join(f"{name} = {name} + iif({name} > 0, {by_ms}, 0)" for name in names)
            db.execute(f"UPDATE {table} SET {changes}")  # noqa: S608  # our own names
        db.execute("COMMIT")
        for ending in ("", "-wal"):  # before it is closed, which would empty the log
            shutil.copy(f"{aside}{ending}", f"{path}{ending}")
    shutil.rmtree(folder / "aside")
    shutil.copy(YAML, folder / "relay.yaml")
    return path


def make_empty(path: Path) -> sqlite3.Connection:
    """Make a file of schema version 3 without a row; return it open."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(EMPTY.read_text())
    path.chmod(0o600)
    return db


@dataclass(frozen=True)
class Opened:
    """What a relay makes of the file: what it lists, what became of each delivery, and what it sent."""

    listed: dict[str, Any]
    states: dict[str, list[Any]]  # by delivery: state, reason, receipt
    counts: dict[str, int]
    requests: dict[str, list[str]]
    replayed: int


def open_and_drain(folder: Path, plan: str, sends: int = 0) -> Opened:
    """Run today's relay on the file of `folder`; let go what a person held, apply the plan, and wait for rest.

    `sends`: how many requests there have to be, at least.
    """
    with run_provider() as provider, run_relay(folder, PROVIDER_URL=provider.url, SLOW_RATE="100/s") as relay:
        listed = list_all(relay)
        for hold in listed["by_hand"]:
            relay.cli("release", hold)
        replayed = len(relay.ops("POST", "/replay", {"apply": plan})["deliveries"])
        wait_for_rest(folder / "relay.db", provider, sends)
        states, new = read_states(folder / "relay.db"), read_replayed(folder / "relay.db", plan)
        counts = Counter(row["state"] for row in list_deliveries(relay))
    requests = {id_: [body.decode() for body in bodies] for id_, bodies in provider.bodies().items()}
    return Opened(
        listed,
        {id_: state for id_, state in states.items() if id_ not in new},
        dict(counts),
        {id_: bodies for id_, bodies in requests.items() if id_ not in new},
        replayed,
    )


def list_all(relay: Running) -> dict[str, Any]:
    """Return what a person finds in the file by the ops API, without the day's instants."""
    holds = relay.ops("GET", "/holds")["holds"]
    by_hand = [hold["scope"] for hold in holds if hold["probe_at"] is None]
    return {
        "by_hand": sorted(by_hand),
        "holds": sorted([hold["scope"], hold["reason"]] for hold in holds),
        "suppressions": sorted([row["id"], row["reason"]] for row in relay.ops("GET", "/suppressions")["suppressions"]),
        "unreachable": relay.ops("GET", "/suppressions")["unreachable"],
        "recordings": dict(sorted(Counter(row["topic"] for row in relay.ops("GET", "/examples")["examples"]).items())),
    }


def list_deliveries(relay: Running) -> list[dict[str, Any]]:
    """Return every delivery as the ops API lists it."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = relay.ops("GET", f"/deliveries?limit=500{cursor and '&cursor='}{cursor}")
        rows += page["deliveries"]
        cursor = page["next_cursor"]
    return rows


def read_states(path: Path) -> dict[str, list[Any]]:
    return {id_: list(rest) for id_, *rest in read_rows(path, "SELECT id, state, reason, receipt FROM deliveries")}


def read_replayed(path: Path, plan: str) -> set[str]:
    """Return the deliveries that this plan made."""
    query = "SELECT id FROM deliveries d JOIN timeline t ON t.delivery_seq = d.seq WHERE t.detail LIKE ?"
    return {row[0] for row in read_rows(path, query, f"%{plan}%")}


def wait_for_rest(path: Path, provider: FakeProvider, sends: int) -> None:
    """Return once so many requests have come, and nothing has been sent or changed for some seconds since."""
    ends_at = time.monotonic() + 60
    quiet_until, seen = time.monotonic() + QUIET_S, None
    while time.monotonic() < quiet_until or len(provider.requests) < sends:
        if time.monotonic() > ends_at:
            return  # whoever compares says what is missing
        if (now := (read_states(path), len(provider.requests))) != seen:
            seen, quiet_until = now, time.monotonic() + QUIET_S
        time.sleep(0.1)


def find_sent_twice(requests: list[tuple[str, dict[str, str], bytes]]) -> list[str]:
    return [id_ for id_, count in Counter(read_ids(body)[0] for _, _, body in requests).items() if count > 1]
