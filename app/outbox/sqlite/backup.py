"""Copying the outbox while it is in use, and what an outbox must do when such a copy was put back.

A copy turns time back: what was pending in it may have been sent since. So it carries a mark, and whoever
opens a marked file sends nothing of it by itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from app.errors import StoreError
from app.model.value import dataclass
from app.outbox.close import BACKUP_MARK
from app.outbox.sqlite.file import check_damage, connect, explain_failure, flush_file, open_reading, read_version

MARKED_SINCE = 2  # the schema's version
ROOM = 2  # times a file's size: its copy, and the log of its migration
_MARK = "INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
_COUNT = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries)"
STEPS_BETWEEN_REPORTS = 50_000  # of SQLite's machine: some hundredths of a second


@dataclass(frozen=True, slots=True)
class Backup:
    """The backup's size: how many events and deliveries were copied, and the copy's bytes."""

    events: int
    deliveries: int
    size: int


def back_up(
    source: Path, target: Path, now: int, report: Callable[[int, int], None] = lambda _done, _all: None
) -> Backup:
    """Copy the outbox at `source` to a new file, whether or not a relay runs on it. Marked, checked and flushed.

    `report` is told the bytes written and expected now and then. Raises StoreError, and leaves no `target`.
    """
    aside = target.with_name(f"{target.name}.part")
    if not source.exists():
        raise StoreError(f"{source} is not there; RELAY_DATABASE_URL must name the relay's file")
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} is there already; a backup overwrites nothing")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(f"{aside} is there: another backup runs, or one was killed; then remove it") from None
    except OSError as error:
        raise StoreError(f"{aside}: {error.strerror}") from None
    try:
        done = _fill(source, aside, now, report)
        if target.exists():  # it came meanwhile
            raise StoreError(f"{target} is there already; a backup overwrites nothing")
        aside.rename(target)
        flush_file(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise _explain(error, source, target) from error
    finally:
        for left in (aside, aside.with_name(f"{aside.name}-journal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    return done


@dataclass(frozen=True, slots=True)
class Migration:
    """A start migrated a file of an earlier schema. `copy`: the file as it was; None: there is none, `why_not`."""

    version: int
    copy: Path | None
    why_not: str = ""


def set_aside(path: Path, version: int, now: int) -> Migration:
    """Copy an outbox whose schema is about to change, as the way back to the release before.

    Without a copy it changes all the same: a migration loses nothing, and a relay that is down does.
    """
    copy = path.with_name(f"{path.name}.schema-{version}")
    try:
        if not copy.exists():  # else of a start that was killed while it migrated
            copy.with_name(f"{copy.name}.part").unlink(missing_ok=True)
            if shutil.disk_usage(path.parent).free < ROOM * path.stat().st_size:
                return Migration(version, None, f"{path.parent} has no room for a copy of {path.name}")
            back_up(path, copy, now)
    except OSError as error:
        return Migration(version, None, f"{copy}: {error.strerror}")
    except StoreError as error:
        return Migration(version, None, str(error))
    return Migration(version, copy)


def _fill(source: Path, aside: Path, now: int, report: Callable[[int, int], None]) -> Backup:
    _copy(source, aside, report)
    with closing(connect(aside, "rw")) as db:
        db.execute(_MARK, (BACKUP_MARK, now))
        check_damage(db)
        events, deliveries = db.execute(_COUNT).fetchone()
    flush_file(aside)
    return Backup(events, deliveries, aside.stat().st_size)


def _copy(source: Path, aside: Path, report: Callable[[int, int], None]) -> None:
    """Copy one snapshot through a connection that can neither write nor checkpoint the outbox."""
    with closing(open_reading(source)) as db:
        if read_version(db) < MARKED_SINCE:
            raise StoreError(
                f"{source} is of an earlier release, which knows no restored backups: stop the relay, and copy "
                f"{source.name} and {source.name}-wal together"
            )
        pages, page_size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))

        def tell() -> int:
            report(aside.stat().st_size, pages * page_size)
            return 0

        db.execute("PRAGMA query_only = OFF")  # it forbids VACUUM INTO, too; the connection stays mode=ro
        db.set_progress_handler(tell, STEPS_BETWEEN_REPORTS)
        db.execute("VACUUM INTO ?", (str(aside),))


def _explain(error: Exception, source: Path, target: Path) -> StoreError:
    if isinstance(error, OSError):
        return StoreError(f"{target}: {error.strerror}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{target.parent} has no room for the backup")
    return StoreError(f"{source}: {explain_failure(error) or error}")
