"""Bytes of no row are overwritten in the file itself: what is one, and when the file is left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreError
from app.outbox.sqlite import sidecars
from app.outbox.sqlite.file import PAGE_BYTES, open_writing
from app.outbox.sqlite.sidecars import ProcessLock, clear_gaps, find_gaps

SIZE = 512


def make_page(kind: int, cells: int, first: int, rest: bytes) -> bytes:
    """Return a page with so many cells from `first` on, and `rest` right before them."""
    head = bytes([kind, 0, 0, *cells.to_bytes(2, "big"), *(first % 65_536).to_bytes(2, "big"), 0])
    return head.ljust(first - len(rest), b"\0") + rest + b"c" * (SIZE - first)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (make_page(13, 2, 500, b"left"), [(12, 500)]),
        (make_page(10, 0, 500, b"left"), [(8, 500)]),
        (make_page(5, 3, 500, b"left"), [(18, 500)]),
        (make_page(2, 3, 500, b"left"), [(18, 500)]),
        (make_page(13, 2, 500, b""), []),
        (make_page(13, 246, 500, b""), []),
        (make_page(13, 250, 500, b"left"), []),  # torn: nothing of it is believed
        (make_page(0, 2, 500, b"left"), []),  # an overflow page, or one that is free
    ],
)
def test_a_gap_is_what_lies_between_the_list_of_the_cells_and_the_first(page: bytes, found: Any) -> None:
    assert [*find_gaps(page, SIZE)] == found
    assert [*find_gaps(bytes(SIZE) + page, SIZE)] == [(SIZE + begin, SIZE + end) for begin, end in found]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, ProcessLock, Path]]:
    lock = ProcessLock(tmp_path / "relay.db")
    with closing(open_writing(tmp_path / "relay.db", lock)) as db:
        db.execute("INSERT INTO tallies VALUES ('some', 1)")
        db.execute("DELETE FROM tallies WHERE name = 'some'")
        yield db, lock, tmp_path / "relay.db-wal"
    lock.close()


def leave_bytes(lock: ProcessLock) -> Callable[[], bool]:
    """Leave some in a page without a row; return who tells whether they are there."""
    at = PAGE_BYTES + 100  # its cells, if any, are at its end
    lock.write(b"CANARY", at)
    return lambda: lock.read(6, at) == b"CANARY"


def test_the_file_is_gone_through_step_by_step(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db, lock, log = opened
    monkeypatch.setattr(sidecars, "PAGES", 16)
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    assert clear_gaps(db, lock, log, 0) == 1
    is_left = leave_bytes(lock)
    steps = [1]
    while after := clear_gaps(db, lock, log, steps[-1]):
        steps.append(after)
    assert steps == [*range(1, pages, 16)]
    assert not is_left()


def test_while_the_log_holds_pages_or_is_read_the_file_is_left_alone(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, lock, log = opened
    clear_gaps(db, lock, log, 0)
    is_left = leave_bytes(lock)
    db.execute("INSERT INTO tallies VALUES ('more', 1)")
    with monkeypatch.context() as patch:  # as if another program had written meanwhile
        patch.setattr(sidecars, "_empty_log", lambda _: True)
        assert clear_gaps(db, lock, log, 1) is None
    with closing(sqlite3.connect(f"file:{log.with_name('relay.db')}?mode=ro", uri=True)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM tallies").fetchall()
        monkeypatch.setattr(sidecars, "LOG_WAIT_MS", 1)
        assert clear_gaps(db, lock, log, 1) is None
    assert is_left()
    assert clear_gaps(db, lock, log, 1) == 0
    assert not is_left()


@pytest.mark.parametrize("fault", ["pages that move", "a disk that fails"])
def test_what_cannot_be_overwritten_is_said(opened: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    db, lock, log = opened
    if fault == "pages that move":
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
        db.execute("PRAGMA auto_vacuum = FULL")
        db.execute("VACUUM")
    else:

        def fail(*_: Any) -> None:
            raise OSError(5, "Input/output error")

        leave_bytes(lock)
        monkeypatch.setattr(ProcessLock, "write", fail)
    with pytest.raises(StoreError, match=r"stay readable in the outbox's file: (it is not built|Input/output)"):
        clear_gaps(db, lock, log, 1)
