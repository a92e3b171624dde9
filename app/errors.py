"""Errors that end a command or a request. Expected failures of a delivery are values, not these.

RelayError                  root: always carries a message a person can act on
├── ConfigError             the YAML or a setting is wrong (exit 78)
├── StoreError              the outbox cannot commit now (503, Retry-After)
│   ├── StoreFull           no space; lasts until somebody frees some
│   ├── StoreBusy           the queue before the store is at its limit
│   └── StoreBroken         I/O error or damage: the process must end (exit 74)
├── StoreInUse              another process holds the store (exit 75)
└── OpsError                a command could not talk to the running relay (exit 1)
    ├── NoRelayError        there is none where it was looked for
    └── NotThereError       it does not know what the command named
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum


class RelayError(Exception):
    """Something a person has to know; the text says what, where and what to do."""


class ConfigError(RelayError):
    """The configuration cannot be used."""


class StoreError(RelayError):
    """The outbox could not commit."""


class StoreFull(StoreError):
    """The disk under the outbox is full."""


class StoreBusy(StoreError):
    """More work waits for the outbox than it is allowed to hold."""


class StoreBroken(StoreError):
    """The outbox's file is damaged or its disk fails."""


class StoreInUse(RelayError):
    """Another process works on this outbox."""


class OpsError(RelayError):
    """The running relay could not be reached or refused the command."""


class NoRelayError(OpsError):
    """No relay runs where the command looked for one, or the command has no token for it."""


class NotThereError(OpsError):
    """The running relay knows nothing of the name that it was asked for."""


def is_passing(error: Exception) -> bool:
    """Tell whether it failed only because too many files are open, or too little memory is left: later it can."""
    if isinstance(error, RuntimeError):  # pthread_create(3) failed
        return str(error) == "can't start new thread"
    if isinstance(error, ImportError):  # what dlopen(3) says has no number
        return "Too many open files" in str(error)
    if isinstance(error, OSError):
        return error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    return isinstance(error, MemoryError)


def find_place(error: BaseException) -> str:
    """Return where an exception was raised, e.g. "lane.py:120"; "" where it never was."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}" if frame else ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status, and what is wrong with which field and the cure, never a value."""

    http_status: int
    detail: str


class Mistake(StrEnum):
    """A secret, a token or a signature does not fit for one of these reasons."""

    MISSING = "missing"
    PLAIN = "plain"  # the secret itself, where its hash is wanted
    MALFORMED = "malformed"
    OTHER = "other"
    UNSET = "unset"  # nothing to compare with: the relay was given none
