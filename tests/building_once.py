"""What hundreds of tests would each build anew, built once a process: each comes out the same every time.

Without it a relay inside a test takes three times as much of the processor, most of it to read one YAML again.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from unittest import mock

import httpx2
import uvicorn

from app.cli.mapping import sources
from app.mapping import parse
from app.mapping.document import Document, read_document


@lru_cache(maxsize=64)
def _pickle_document(text: str) -> bytes:
    return pickle.dumps(read_document(text))


def read_again(text: str) -> Document:
    """Return what `read_document` says of this text, a copy for each caller."""
    document: Document = pickle.loads(_pickle_document(text))  # noqa: S301  # our own
    return document


async def tick_often(server: uvicorn.Server) -> None:
    """Do what uvicorn's own loop does, which looks ten times a second whether it is to end."""
    while not await server.on_tick(0):
        await asyncio.sleep(0.005)


@contextmanager
def build_once() -> Iterator[None]:
    """Read a YAML text and the system's certificates once; let a server in this process end when it is told to."""
    with ExitStack() as patches:
        for module in (parse, sources):
            patches.enter_context(mock.patch.object(module, "read_document", read_again))
        once = cache(httpx2.create_ssl_context)  # of clients only: what `open_trust` makes is added to
        patches.enter_context(mock.patch("httpx2._transports.default.create_ssl_context", once))
        patches.enter_context(mock.patch.object(uvicorn.Server, "main_loop", tick_often))
        yield
