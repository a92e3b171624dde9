"""What SQLite leaves in the pages of the file when it moves rows to others: bytes of no row, and readable all the same.

`secure_delete` overwrites what is deleted. But where a page is put together anew, because its rows have grown and some
go to its neighbours, there stay between the list of its cells and the first of them whatever lay there before: copies
of rows that live on elsewhere, and that nobody overwrites when those are wiped (`rebuildPage` in SQLite's btree.c). So
that is done here, in the file itself: nobody ever reads there (https://www.sqlite.org/fileformat2.html#b_tree_pages).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from app.errors import StoreError
from app.outbox.sqlite.file import wait_for_lock
from app.outbox.sqlite.sidecars import ProcessLock

PAGES = 256  # a step, so that no commit waits long
LOG_WAIT_MS = 100
_START = Struct(">BxxHH")  # a page's kind, how many cells it has, and where the first of them begins
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}  # of the four kinds of pages with cells: how long
# Other pages begin with the number of a page, whose first byte is none of these up to here (at 4 KiB, 137 GB).
_MOST_PAGES = 2 << 24
FORGET_PAGES = "PRAGMA shrink_memory"  # else the connection would write what it remembers of them, the next time
_MAY_STAY = "what was wiped may stay readable in the outbox's file"
_SHAPE = ("page_size", "page_count", "auto_vacuum")


def find_gaps(pages: bytes, size: int) -> Iterator[tuple[int, int]]:
    """Yield where in some pages there is something between the list of the cells and the first of them."""
    for at in range(0, len(pages), size):
        kind, cells, first = _START.unpack_from(pages, at)
        if kind in _HEADERS:
            begin, end = at + _HEADERS[kind] + 2 * cells, at + (first or 65_536)
            if begin < end <= at + size and pages[begin:end] != bytes(end - begin):
                yield begin, end


def clear_gaps(db: sqlite3.Connection, lock: ProcessLock, log: Path, first: int) -> int | None:
    """Write the log back, then overwrite the gaps of some pages; return the page to go on with.

    0: that was the last of them. None: somebody goes on reading the log; ask again. `db` writes the file, and may have
    no transaction open. `first`: 0 to begin, which writes the log back in any case. Raises StoreError.
    """
    if not first:
        return 1 if _empty_log(db) else None  # the first page has no row of ours
    size, count, moves_pages = (db.execute(f"PRAGMA {each}").fetchone()[0] for each in _SHAPE)
    after = min(first + PAGES, count)
    if moves_pages or count > _MOST_PAGES:
        raise StoreError(f"{_MAY_STAY}: it is not built as the relay builds it")
    try:
        if any(find_gaps(lock.read(size * (after - first), size * first), size)) and not (
            _empty_log(db) and _overwrite(db, lock, log, (first, after), size)
        ):
            return None
        if after == count:
            lock.flush()
    except OSError as error:
        raise StoreError(f"{_MAY_STAY}: {error.strerror}") from error
    return after if after < count else 0


def _overwrite(db: sqlite3.Connection, lock: ProcessLock, log: Path, span: tuple[int, int], size: int) -> bool:
    """Overwrite the gaps of these pages; False if somebody has written meanwhile."""
    first, after = span
    db.execute("BEGIN IMMEDIATE")
    try:
        if log.stat().st_size:  # what is in there may be written back over ours at any time
            return False
        for begin, end in find_gaps(lock.read(size * (after - first), size * first), size):
            lock.write(bytes(end - begin), size * first + begin)
    finally:
        db.execute("ROLLBACK")
        db.execute(FORGET_PAGES).fetchall()
    return True


def _empty_log(db: sqlite3.Connection) -> bool:
    (usual_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    wait_for_lock(db, LOG_WAIT_MS)
    try:
        (is_busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        wait_for_lock(db, usual_ms)
    return not is_busy
