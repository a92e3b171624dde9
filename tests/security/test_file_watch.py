"""The outbox's file is watched: no 2xx goes into a file that is gone, and no second relay comes in by another way."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.errors import StoreBroken, StoreInUse
from app.outbox.sqlite.sidecars import ProcessLock
from app.outbox.sqlite.store import SqliteStore, Writer
from app.relay import report_death
from tests.security.living import Living, make_folder, run_relay, start_again

UNWATCHED = str(Path(__file__).with_name("unwatched_file.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "here")


def remove(database: Path) -> None:
    for path in database.parent.glob("relay.db*"):
        path.unlink()


def move(database: Path) -> None:
    database.rename(database.with_name("elsewhere.db"))


def replace(database: Path) -> None:
    shutil.copy(database, database.with_name("copy.db"))
    database.with_name("copy.db").rename(database)


def link(database: Path) -> None:
    database.with_name("second.db").hardlink_to(database)


def move_folder(database: Path) -> None:
    database.parent.rename(database.parent.with_name("moved"))


LOSSES: dict[str, tuple[Callable[[Path], None], str]] = {
    "rm": (remove, "was there and is gone"),
    "mv": (move, "was there and is gone"),
    "replaced by a copy": (replace, "is another file than the one in use"),
    "hard link": (link, "has 2 names"),
    "folder moved": (move_folder, "was there and is gone"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_file_that_is_lost_ends_in_503_and_74(loss: str, folder: Path, tmp_path: Path) -> None:
    lose, said = LOSSES[loss]
    with (tmp_path / "log").open("wb") as out, run_relay(folder, out=out, err=out) as relay:
        assert relay.post(1) == 202
        lose(relay.database)
        assert post_until_it_ends(relay) <= {503}
        assert relay.wait() == 74
    log = (tmp_path / "log").read_text()
    assert said in next(line["detail"] for line in map(json.loads, log.splitlines()) if line["event"] == "task.died")
    assert "Traceback" not in log


def post_until_it_ends(relay: Living) -> set[int]:
    """Post until nobody listens any more; return the answers there were."""
    found: set[int] = set()
    for number in range(2, 20):
        try:
            found.add(relay.post(number))
        except httpx2.HTTPError:
            break
    return found


def test_without_the_watch_events_are_taken_into_nothing(folder: Path) -> None:
    """The control."""
    with run_relay(folder, (UNWATCHED,)) as relay:
        remove(relay.database)
        assert {relay.post(number) for number in range(5)} == {202}
        assert relay.ask("/readyz").status_code == 200
        assert relay.stop() == 0


def test_a_relay_whose_file_stays_is_left_alone(folder: Path) -> None:
    with run_relay(folder) as relay:
        relay.database.with_name("relay.db.lock").unlink()
        relay.database.chmod(0o640)
        os.utime(relay.database)
        assert relay.post(1) == 202
        assert relay.stop() == 0


# -- a second relay ---------------------------------------------------------------------------------


def by_symlink(database: Path) -> str:
    database.with_name("link.db").symlink_to(database)
    return "data/link.db"


def by_linked_folder(database: Path) -> str:
    database.parent.with_name("volume").symlink_to(database.parent)
    return "volume/relay.db"


def after_removed_lock(database: Path) -> str:
    database.with_name("relay.db.lock").unlink()
    return "data/relay.db"


WAYS = [by_symlink, by_linked_folder, after_removed_lock]


@pytest.mark.parametrize("way", WAYS)
def test_a_second_relay_is_refused_by_whichever_way_it_comes(way: Callable[[Path], str], folder: Path) -> None:
    with run_relay(folder) as relay:
        code, said = start_again(folder, RELAY_DATABASE_URL=f"sqlite:///{way(relay.database)}")
        assert (code, "stop that one first" in said) == (75, True)
        assert relay.post(1) == 202
        assert relay.stop() == 0


def test_a_second_relay_by_a_hard_link_is_refused_too(folder: Path) -> None:
    """Asked of the lock alone: the first relay would end for the second name."""
    with closing(ProcessLock(folder / "a.db")) as first:
        (folder / "a.db").touch()
        first.hold_file()
        (folder / "b.db").hardlink_to(folder / "a.db")
        with closing(ProcessLock(folder / "b.db")) as second, pytest.raises(StoreInUse, match="stop that one first"):
            second.hold_file()


def test_a_start_on_a_file_of_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "b.db").hardlink_to(tmp_path / "a.db")
    with closing(ProcessLock(tmp_path / "a.db")) as lock, pytest.raises(StoreBroken, match="has 2 names"):
        lock.hold_file()


def test_a_relay_of_an_earlier_release_is_kept_out_and_keeps_us_out(folder: Path) -> None:
    """It knows the lock file alone, and holds it by flock."""
    with run_relay(folder) as relay:
        lock = relay.database.with_name("relay.db.lock")
        assert subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode == 1
        assert relay.stop() == 0
    with subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as old:
        assert old.stdout is not None
        assert old.stdout.readline() == b"held\n"
        assert start_again(folder)[0] == 75
        old.terminate()


# -- a file that is missing at the start ---------------------------------------------------------------


def test_a_start_that_finds_nothing_where_something_was_says_so(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "first").open("wb") as out, run_relay(folder, out=out) as relay:
        assert relay.stop() == 0
    remove(relay.database)
    flights = relay.database.with_name(f"{relay.database.name}.flights")
    flights.unlink(missing_ok=True)
    flights.symlink_to(tmp_path / "elsewhere")  # which nobody follows: so there is no recorder
    with (tmp_path / "second").open("wb") as out, run_relay(folder, out=out) as relay:
        assert relay.stop() == 0
    assert "outbox.missing" not in (tmp_path / "first").read_text()
    before, lines = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("first", "second")
    )
    opened = [line["flight_recorder"] for line in (*before, *lines) if line["event"] == "outbox.opened"]
    assert opened == ["on", "off"]
    (told,) = [line for line in lines if line["event"] == "outbox.missing"]
    assert (told["level"], told["place"]) == ("warning", str(relay.database))
    assert "restore a backup" in told["cure"]


@pytest.mark.parametrize("trace", [".relay.db.made", "relay.db-wal", "relay.db-shm", "relay.db.reserve"])
async def test_each_trace_tells_of_an_outbox(trace: str, tmp_path: Path) -> None:
    (tmp_path / trace).touch()
    first = SqliteStore(tmp_path / "relay.db")
    await first.close()
    second = SqliteStore(tmp_path / "relay.db")
    await second.close()
    assert (first.was_missing, second.was_missing) == (True, False)


# -- nobody else opens the file --------------------------------------------------------------------------


HOLD_AND_CLOSE = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
if sys.argv[2] == "careless":
    os.close(os.open(sys.argv[1], os.O_RDONLY))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("care", "locked"), [("careful", True), ("careless", False)])
def test_to_open_and_close_the_file_drops_sqlites_locks(care: str, locked: bool, tmp_path: Path) -> None:
    """Why nobody else may; in rollback mode, where SQLite's locks are on the file itself, it is plain to see."""
    path = tmp_path / "relay.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE a (b)")
    arguments = [sys.executable, "-c", HOLD_AND_CLOSE, str(path), care]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_locked(path) is locked


def is_locked(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def test_a_running_relay_opens_the_file_once_and_otherwise_through_sqlite(folder: Path, tmp_path: Path) -> None:
    """A first and a second start, serving, sweeping, listing, a backup beside it, and the close."""
    first, opened = tmp_path / "first", tmp_path / "opened"
    audited = str(Path(__file__).with_name("audited_relay.py"))
    with run_relay(folder, (audited, str(first))) as relay:
        assert relay.stop() == 0
    with run_relay(folder, (audited, str(opened))) as relay:
        assert relay.post(1) == 202
        for path in ("/readyz", "/deliveries", "/metrics", "/report", "/holds", "/suppressions"):
            assert relay.ask(path).status_code == 200
        assert relay.ask("/nothing").status_code == 404
        backup = [sys.executable, "-m", "app", "backup", "copy.db"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
        assert subprocess.run(backup, cwd=folder, env=environment, check=False, capture_output=True).returncode == 0
        assert relay.stop() == 0
    assert first.read_text() == opened.read_text() == f"{relay.database}\n"


def test_the_audit_notices_who_opens_the_file(folder: Path, tmp_path: Path) -> None:
    """The control."""
    opened = tmp_path / "opened"
    program = (str(Path(__file__).with_name("audited_relay.py")), str(opened), "careless")
    with run_relay(folder, program) as relay:
        assert relay.stop() == 0
    assert len(opened.read_text().splitlines()) > 1


# -- a task's death ----------------------------------------------------------------------------------------


class RaisingLog:
    def critical(self, *_given: Any, **_named: Any) -> None:
        raise BrokenPipeError


async def test_a_death_ends_the_process_though_its_line_cannot_be_written() -> None:
    died: list[BaseException] = []
    log: Any = RaisingLog()
    error = StoreBroken("gone")

    async def die() -> None:
        raise error

    task = asyncio.create_task(die(), name="lane")
    await asyncio.wait([task])
    with pytest.raises(BrokenPipeError):
        report_death(task, log, died.append)
    assert died == [error]


async def test_what_was_committed_into_a_lost_file_is_not_acknowledged(tmp_path: Path) -> None:
    """The file goes between the batch's begin and its commit: the look before it would have seen it whole."""
    store = SqliteStore(tmp_path / "relay.db")
    writer: Writer = store._writer
    with pytest.raises(StoreBroken, match="is gone"):
        await writer.run(lambda _db: (tmp_path / "relay.db").unlink())
    assert isinstance(store.broken, StoreBroken)
    assert not await store.can_commit()
    await store.close()
