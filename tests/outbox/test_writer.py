"""The writer thread: shared commits, isolated failures, bounded waiting."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import unittest.mock
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.batch import BatchWriter
from app.outbox.claim import Claim, claim_each
from app.outbox.sqlite import store as writing
from app.outbox.sqlite.file import explain_failure, open_writing, prepare_place
from app.outbox.sqlite.sidecars import ProcessLock, Reserve
from app.outbox.sqlite.store import Writer
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.store import Job, Tx
from tests.outbox.methods import SqliteOutbox

ADD = "INSERT INTO holds (scope, reason, since, probe_at, probe_every_ms) VALUES (?, 'by_hand', 0, NULL, 0)"


class Commits(sqlite3.Connection):
    """A connection that counts its commits, and may fail one."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.count = 0
        self.committed_by: set[int] = set()
        self.fail_with: Exception | None = None

    def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.count += 1
            self.committed_by.add(threading.get_ident())
            if self.fail_with is not None:
                raise self.fail_with
        return super().execute(sql, *given)


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("given by the test")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_TEST"
    return error


@pytest.fixture
def db(database: Path) -> Commits:
    prepare_place(database)
    with closing(ProcessLock(database)) as lock:
        open_writing(database, lock).close()
    return sqlite3.connect(database, isolation_level=None, check_same_thread=False, factory=Commits)


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    made = Reserve(tmp_path / "reserve", 4096)
    assert made.restore()
    return made


@asynccontextmanager
async def stopped(writer: Writer) -> AsyncIterator[None]:
    """Keep the writer busy meanwhile, so that what is submitted waits and shares the next commit."""
    begun, go = threading.Event(), threading.Event()

    def wait(_: SqliteTx) -> bool:
        begun.set()
        return go.wait(10)

    first = asyncio.ensure_future(writer.run(wait))
    await asyncio.to_thread(begun.wait, 10)
    yield
    go.set()
    await asyncio.wait([first])


def begin(db: sqlite3.Connection) -> SqliteTx:
    return SqliteTx(db, 0, b"")


def add(name: str) -> Callable[[SqliteTx], int]:
    return lambda db: db.execute(ADD, (name,)).rowcount


def names(db: SqliteTx) -> set[str]:
    return {row[0] for row in db.execute("SELECT scope FROM holds")}


async def test_all_that_wait_share_one_commit(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(add(str(n)))) for n in range(100)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*jobs) == [1] * 100
    assert db.count == 2  # the one that was under way, and one for the hundred
    await writer.close()


async def test_a_batch_is_limited(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin, batch_limit=10)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(add(str(n)))) for n in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*jobs)
    assert db.count == 11
    await writer.close()


async def test_a_bad_job_hurts_nobody_beside_it(db: Commits, reserve: Reserve) -> None:
    def fail(db: SqliteTx) -> None:
        db.execute(ADD, ("half done",))
        raise LookupError("a bug")

    writer = Writer(db, reserve, begin)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(job)) for job in (add("before"), fail, add("after"), add("after"))]
        await asyncio.sleep(0)
    before, failed, after, again = await asyncio.gather(*jobs, return_exceptions=True)
    assert (before, after) == (1, 1)
    assert isinstance(failed, LookupError)
    assert isinstance(again, sqlite3.IntegrityError)
    assert await writer.run(names) == {"before", "after"}
    await writer.close()


async def test_a_caller_that_gave_up_hurts_nobody(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(add(str(n)))) for n in range(3)]
        await asyncio.sleep(0)
        jobs[1].cancel()
    assert [await jobs[0], await jobs[2]] == [1, 1]
    assert jobs[1].cancelled()
    assert await writer.run(names) == {"0", "1", "2"}
    await writer.close()


async def test_over_the_limit_the_store_is_busy_at_once_but_outcomes_are_taken(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin, queue_limit=5)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(add(str(n)))) for n in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(StoreBusy, match="5 writes wait"):
            await writer.run(add("refused"))
        outcome = asyncio.ensure_future(writer.run(add("outcome"), essential=True))
        await asyncio.sleep(0)
    await asyncio.gather(*jobs, outcome)
    assert "refused" not in await writer.run(names)
    assert "outcome" in await writer.run(names)
    await writer.close()


async def test_callers_of_different_loops_all_get_their_answer(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin)

    async def write_elsewhere() -> int | None:
        return await writer.run(add("in another loop"))

    elsewhere = asyncio.to_thread(lambda: asyncio.run(write_elsewhere()))
    assert list(await asyncio.gather(writer.run(add("here")), elsewhere)) == [1, 1]
    await writer.close()


async def test_a_loop_that_has_ended_is_no_trouble(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.run(add("nobody waits")), 0.001)

    async with stopped(writer):
        await asyncio.to_thread(lambda: asyncio.run(give_up()))
    assert await writer.run(names) == {"nobody waits"}
    await writer.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_LOCKED, StoreBusy),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreBroken),
        (sqlite3.SQLITE_CORRUPT, StoreBroken),
        (sqlite3.SQLITE_NOTADB, StoreBroken),
        (sqlite3.SQLITE_READONLY, StoreBroken),
        (sqlite3.SQLITE_CANTOPEN, StoreBroken),
    ],
)
async def test_a_failed_commit_fails_all_with_the_right_error(
    code: int, kind: type[StoreError], db: Commits, reserve: Reserve
) -> None:
    writer = Writer(db, reserve, begin)
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(add(str(n)))) for n in range(3)]
        await asyncio.sleep(0)
        db.fail_with = failure(code)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    db.fail_with = None
    assert [type(each) for each in outcomes] == [kind] * 3
    if kind is StoreBroken:
        assert writer.broken is not None
        with pytest.raises(StoreBroken):
            await writer.run(names)
    else:
        assert writer.broken is None
        assert await writer.run(names) == set()
    await writer.close()


def test_an_error_of_one_job_says_nothing_about_the_store() -> None:
    assert explain_failure(failure(sqlite3.SQLITE_CONSTRAINT)) is None
    assert explain_failure(LookupError()) is None
    assert explain_failure(sqlite3.ProgrammingError()) is None


async def test_a_writer_elsewhere_makes_the_store_busy_and_not_broken(
    open_sqlite: Callable[..., SqliteOutbox], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_sqlite()
    monkeypatch.setattr(writing, "BUSY_TIMEOUT_MS", 10)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not await store.can_commit()
    with pytest.raises(StoreBusy):
        await store.put_hold("route:a", "by_hand", 0)
    other.execute("ROLLBACK")
    other.close()
    assert await store.can_commit()


async def test_a_job_alone_runs_outside_a_transaction_and_its_failure_is_its_own(db: Commits, reserve: Reserve) -> None:
    writer = Writer(db, reserve, begin)
    assert await writer.run_alone(lambda db: db.in_transaction) is False
    with pytest.raises(sqlite3.OperationalError):
        await writer.run_alone(lambda db: db.execute("nonsense"))
    assert await writer.run(add("after")) == 1
    await writer.close()


async def test_damage_found_while_reading_is_said_so(open_sqlite: Callable[..., SqliteOutbox]) -> None:
    store = open_sqlite()

    def fail(_: sqlite3.Connection) -> None:
        raise failure(sqlite3.SQLITE_CORRUPT)

    with pytest.raises(StoreBroken):
        await store._reader.run(fail)
    with pytest.raises(sqlite3.OperationalError):
        await store._reader.run(lambda db: db.execute("nonsense"))
    assert await store.list_holds() == []


@dataclass
class Kind:
    """Jobs of one kind; notes how many went together."""

    calls: list[int] = field(default_factory=list)

    def add_all(self, tx: Tx, names: Sequence[str]) -> Sequence[str]:
        self.calls.append(len(names))
        for name in names:
            tx.run("INSERT INTO holds (scope, reason, since, probe_every_ms) VALUES (:name, '', 0, 0)", name=name)
        return [f"{name} is in" for name in names]


async def test_jobs_of_a_kind_that_wait_together_are_one_call_and_each_has_its_own_answer(
    db: Commits, reserve: Reserve
) -> None:
    writer, kind = Writer(db, reserve, begin), Kind()
    async with stopped(writer):
        jobs = [asyncio.ensure_future(writer.run(Job(kind.add_all, str(n)))) for n in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*jobs) == [f"{n} is in" for n in range(20)]
    assert kind.calls == [20]
    await writer.close()


async def test_a_third_job_of_a_kind_that_raises_hurts_none_of_the_others(db: Commits, reserve: Reserve) -> None:
    writer, kind = Writer(db, reserve, begin), Kind()
    async with stopped(writer):
        names = ["a", "b", "a", "c", "d"]  # a scope is there once
        jobs = [asyncio.ensure_future(writer.run(Job(kind.add_all, name))) for name in names]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, str, sqlite3.IntegrityError, str, str]
    assert kind.calls == [5, 1, 1, 1, 1, 1]
    assert await writer.run(list_names) == {"a", "b", "c", "d"}
    await writer.close()


async def test_jobs_of_a_kind_do_not_overtake_one_of_none(db: Commits, reserve: Reserve) -> None:
    writer, kind = Writer(db, reserve, begin), Kind()
    async with stopped(writer):
        given: list[Callable[[Tx], Any]] = [Job(kind.add_all, "a"), list_names, Job(kind.add_all, "b"), list_names]
        jobs = [asyncio.ensure_future(writer.run(job)) for job in given]
        await asyncio.sleep(0)
    _, first, _, second = await asyncio.gather(*jobs)
    assert (first, second) == ({"a"}, {"a", "b"})
    await writer.close()


async def test_a_kind_that_goes_last_finds_what_those_behind_it_have_made(db: Commits, reserve: Reserve) -> None:
    writer, kind, other = Writer(db, reserve, begin), Kind(), Kind()

    def list_each(tx: Tx, items: Sequence[int]) -> Sequence[set[str]]:
        return [list_names(tx) for _ in items]

    jobs: list[Job[Any, Any]] = [Job(list_each, 0, is_last=True), Job(kind.add_all, "a")]
    jobs += [Job(list_each, 0, is_last=True), Job(other.add_all, "b")]
    found = await asyncio.gather(*[writer.run(job) for job in jobs])
    assert found == [{"a", "b"}, "a is in", {"a", "b"}, "b is in"]
    jobs = [Job(list_each, 0), Job(kind.add_all, "c")]
    assert (await asyncio.gather(*[writer.run(job) for job in jobs]))[0] == {"a", "b"}, "one that need not, does not"
    await writer.close()


class Threads:
    """Jobs that say in which thread they run."""

    def name_all(self, tx: Tx, items: Sequence[int]) -> Sequence[int]:
        del tx
        return [threading.get_ident() for _ in items]

    def name_one(self, tx: Tx) -> int:
        return self.name_all(tx, [0])[0]


async def test_short_jobs_run_on_the_loop_and_only_their_commit_and_long_jobs_in_the_thread(
    db: Commits, reserve: Reserve
) -> None:
    writer, threads, here = Writer(db, reserve, begin), Threads(), threading.get_ident()
    assert await asyncio.gather(*[writer.run(Job(threads.name_all, n)) for n in range(3)]) == [here] * 3
    long = await asyncio.gather(writer.run(threads.name_one), writer.run(Job(threads.name_all, 0)))
    assert here not in long, "what waits beside a long one goes with it"
    assert db.count == 2
    assert here not in db.committed_by
    await writer.close()


async def test_the_loop_does_not_wait_for_a_file_that_another_program_holds_locked(
    db: Commits, reserve: Reserve, database: Path
) -> None:
    writer, threads = Writer(db, reserve, begin), Threads()
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        job = asyncio.ensure_future(writer.run(Job(threads.name_all, 0)))
        await asyncio.sleep(0.05)  # the thread waits, and the loop comes here meanwhile
        other.execute("ROLLBACK")
    assert await job != threading.get_ident()
    assert await writer.run(Job(threads.name_all, 0)) == threading.get_ident(), "the next one is on the loop again"
    await writer.close()


async def test_what_a_failed_commit_took_back_is_not_there_and_can_be_done_again(db: Commits, reserve: Reserve) -> None:
    writer, kind = Writer(db, reserve, begin), Kind()
    db.fail_with = failure(sqlite3.SQLITE_BUSY)
    with pytest.raises(StoreBusy):
        await writer.run(Job(kind.add_all, "a"))
    db.fail_with = None
    assert not db.in_transaction
    assert await writer.run(Job(kind.add_all, "a")) == "a is in"
    await writer.close()


def list_names(tx: Tx) -> set[str]:
    return {row.scope for row in tx.rows("SELECT scope FROM holds")}


def test_a_statement_that_answers_is_not_counted() -> None:
    with pytest.raises(ValueError, match="answers"):
        begin(sqlite3.connect(":memory:")).run("DELETE FROM holds RETURNING scope")


@pytest.mark.parametrize(("asked_at", "begun_at", "now"), [(3, 5, 5), (5, 5, 5), (7, 5, 7)])
def test_a_claim_is_as_of_its_transaction_which_may_be_younger_than_the_asking(
    asked_at: int, begun_at: int, now: int, db: Commits
) -> None:
    with unittest.mock.patch("app.outbox.claim.claim_due", lambda _tx, claim: claim.now):
        found: Any = claim_each(SqliteTx(db, begun_at, b""), [Claim("a", asked_at, 1, 1_000)])
    assert found == [now]


# -- the thread begins before the loop goes on -------------------------------------------------------


def test_a_batch_that_was_taken_late_once_lets_every_later_one_begin_first(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Any] = []
    own: list[Any] = []
    writer = BatchWriter()
    monkeypatch.setattr("app.outbox.batch.TAKING_S", 0)
    writer._wait_until_taken(late)  # nobody has taken it: the loop goes on all the same
    writer._taken.put(late)
    writer._taken.put(own)
    writer._wait_until_taken(own)
    assert writer._taken.empty()
