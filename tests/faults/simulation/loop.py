"""An event loop whose clock jumps to the next timer as soon as nothing is ready: three days take a blink.

Everything that asyncio builds on a loop's clock runs on it unchanged: sleep, timeout, wait, task groups.
No threads and no sockets may be used inside.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any

PROCESS: ContextVar[int] = ContextVar("PROCESS", default=0)
"""Which simulated process a task belongs to; 0 is the world outside."""


class NothingCanHappenError(RuntimeError):
    """Every task waits for something that no timer and no other task will bring."""


class VirtualSelector(selectors.SelectSelector):
    """Waits for nothing: the time that the loop would have slept has passed when it asks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let `timeout` seconds pass."""
        if timeout is None:
            raise NothingCanHappenError
        self.now += max(timeout, 0)
        return []


class NumberedTask(asyncio.Task[Any]):
    """A task that sets and listings keep in order of its making, not of its address, so that runs can be repeated."""

    def __init__(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        number: int,
        process: int,
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self.number = number
        self.process = process
        super().__init__(coro, loop=loop, name=f"task-{number}", context=context)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)
        self._numbers = itertools.count(1)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._virtual.now

    def stall(self, seconds: float) -> None:
        """Let time pass for everybody while nobody runs, as a stopped machine does."""
        self._virtual.now += seconds

    def list_tasks(self, process: int) -> list[NumberedTask]:
        """Return the unfinished tasks of a simulated process, oldest first."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, NumberedTask) and task.process == process]
        return sorted(tasks, key=lambda task: task.number)

    def _make_task(
        self, _loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None, **_: Any
    ) -> NumberedTask:
        process = PROCESS.get() if context is None else context.get(PROCESS, 0)
        return NumberedTask(coro, number=next(self._numbers), process=process, loop=self, context=context)
