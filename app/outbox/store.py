"""The seam to a database: all that one must be, so that every rule of the outbox stands once, as SQL on a `Tx`.

What stands in `/*sqlite … */` only SQLite reads: the choice of an index, or the order of a join; what in
`/*postgres … */` only PostgreSQL, where others write, too: a lock on a row, the number by which this replica counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from app.model.value import dataclass
from app.outbox.values import Replica

T = TypeVar("T")
Item = TypeVar("Item")
Row = Any
"""A row of an answer: its columns by name (`row.due_at`) or in their order."""
Counts: TypeAlias = defaultdict[tuple[str, str, str], int]
"""How often, by (route, provider, state)."""


class Tx(Protocol):
    """One transaction, or one snapshot to read. Values go by name: `:name` in the SQL, `name=…` in the call."""

    @property
    def now(self) -> int:
        """Return when the transaction began, in ms since the epoch."""

    @property
    def people_key(self) -> bytes:
        """The key by which this store knows people, see people.py."""

    @property
    def slot(self) -> int | None:
        """Tell by which number this replica counts among those that share the store; None: it is alone."""

    @property
    def tally(self) -> Counts:
        """Count how often a delivery came into each state, `sending` aside; written before the commit, once a key."""

    @property
    def left(self) -> Counts:
        """The same of those that left it, or were forgotten in it."""

    @property
    def unwritten(self) -> list[dict[str, Any]] | None:
        """The columns of deliveries that were made in it and are inserted once a claim may have opened them.

        None where a job may look for them before, or where others claim.
        """

    def lock(self, name: str, *, wait: bool = False) -> bool:
        """Take a lock of this name until the transaction ends; False if another replica has it."""

    def run(self, sql: str, /, **values: Any) -> int:
        """Change something; return how many rows. Not for RETURNING."""

    def run_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> int:
        """Run one statement for each of `rows`, which is one round trip; return how many rows changed in all."""

    def add_many(self, table: str, sql: str, rows: Sequence[dict[str, Any]], /) -> Sequence[int | None]:
        """Insert `rows`, each with an `id`, into a table; return the `seq` of each, None of those that conflict."""

    def send(self, sql: str, rows: Iterable[dict[str, Any]], /) -> object:
        """Do the same where nobody needs to know how many: it waits for no answer, and leaves with what follows."""

    def rows(self, sql: str, /, **values: Any) -> Sequence[Row]:
        """Return every row of an answer."""

    def rows_many(self, sql: str, rows: Iterable[dict[str, Any]], /) -> Sequence[Sequence[Row]]:
        """Return the answer to one statement for each of `rows`; one round trip."""


class Fleet(Protocol):
    """The replicas that share a store, as one of them sees it."""

    async def note(self, release: str, config: str) -> Sequence[Replica]:
        """Tell the others what this one runs; return all that were there lately."""


class Store(Protocol):
    """A durable store. Every method raises StoreError where the database cannot.

    A `write` that returns has committed with fsync. One that raises StoreError has not been seen to commit: its effect
    may or may not be there after a restart, so every job is safe to run again.
    """

    @property
    def fleet(self) -> Fleet | None:
        """The replicas that share it; None: this process is alone, and what it remembers nobody else changes."""

    def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> Awaitable[T]:
        """Run `job` in a transaction, which it may share with others; return its value once that is durable.

        An essential job records an outcome: it is never refused for want of room.
        """

    async def read(self, query: Callable[[Tx], T], *, slow: bool = False) -> T:
        """Run `query` on one snapshot. A slow one takes seconds, and holds nothing up."""

    async def can_commit(self) -> bool:
        """Tell whether a commit works now (for /readyz)."""

    async def empty_log(self) -> bool:
        """See that what was erased stays in no log; False while somebody goes on reading it."""

    async def close(self) -> None:
        """Answer what waits and release the store."""


class Flights:
    """Tells of the attempts that a killed process left open which of them surely never left; by itself of none.

    `run` names this process; whoever recovers notes it in the outbox, so that the next one knows whose these are.
    """

    run = 0

    def list_left(self, run: int) -> tuple[set[tuple[str, int]], set[tuple[str, int]]] | None:
        """Return that run's attempts (id, number) under way, and the ended ones; None: any open one may have left."""

    def begin(self) -> None:
        """Forget the run before; its attempts are recovered."""

    def take_off(self, delivery_id: str, attempt: int) -> None:
        """Note that the first byte of an attempt's request is about to leave."""

    def land(self, delivery_id: str, attempt: int) -> None:
        """Note that an attempt's end is committed."""


@dataclass(frozen=True, slots=True)
class Job(Generic[Item, T]):
    """One of many alike: those that wait together become one call of `many`, with one value of its answer each.

    It is short, for SQLite runs it on the event loop. Like any job it must be safe to run again: if one of them
    raises, each is run alone.
    """

    many: Callable[[Tx, Sequence[Item]], Sequence[T]]
    item: Item
    is_last: bool = False
    """Whether it goes behind the other kinds that wait with it: it finds what they have made."""

    def __call__(self, tx: Tx) -> T:
        """Run alone."""
        return self.many(tx, [self.item])[0]


def first(rows: Sequence[Row]) -> Row | None:
    """Return the first row of an answer, None where there is none."""
    return rows[0] if rows else None
