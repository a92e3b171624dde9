"""What hundreds of tests would each build anew, built once a process: each comes out the same every time.

Without it a relay inside a test takes four times as much of the processor, most of it to read two YAML files again.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache, lru_cache
from typing import Any
from unittest import mock

import httpx2
import uvicorn

from app.mapping import document, parse
from app.mapping.grammar import ExpressionCompiler
from tests.warm_start import WarmStarter

TrueWalk = document._Walk


@lru_cache(maxsize=64)
def _pickle_walk(text: str) -> bytes:
    walk = TrueWalk(text)
    return pickle.dumps((walk.read(), walk.places, walk.problems, walk.refused, walk.incomplete))


class WalkAgain:
    """What walking through this text finds, a copy for each caller."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None
        found, self.places, self.problems, self.refused, self.incomplete = pickle.loads(_pickle_walk(self._text))  # noqa: S301  # our own
        return found


@cache
def make_compiler(*store: Any) -> ExpressionCompiler:
    """Return the compiler of such a store, which compiles each expression once."""
    compiler = ExpressionCompiler(*store)
    compiler.compile = lru_cache(maxsize=4096)(compiler.compile)  # type: ignore[method-assign]  # which is the point
    return compiler


async def tick_often(server: uvicorn.Server) -> None:
    """Do what uvicorn's own loop does, which looks ten times a second whether it is to end."""
    while not await server.on_tick(0):
        await asyncio.sleep(0.005)


@contextmanager
def build_once() -> Iterator[None]:
    """Read a YAML, an expression and the certificates once, start each relay warm, let a server end when it is told."""
    with ExitStack() as patches:
        # Beneath `read_document`: whoever imports that by name, and whenever, gets it.
        patches.enter_context(mock.patch.object(document, "_Walk", WalkAgain))
        patches.enter_context(mock.patch.object(parse, "ExpressionCompiler", make_compiler))
        once = cache(httpx2.create_ssl_context)  # of clients only: what `open_trust` makes is added to
        patches.enter_context(mock.patch("httpx2._transports.default.create_ssl_context", once))
        patches.enter_context(mock.patch.object(uvicorn.Server, "main_loop", tick_often))
        starter = patches.enter_context(closing(WarmStarter()))

        def start(process: subprocess.Popen[Any], *given: Any) -> None:
            starter.start(process, *given)

        patches.enter_context(mock.patch.object(subprocess.Popen, "_execute_child", start))
        yield
