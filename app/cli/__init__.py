"""The commands, one file a group."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence

from app.errors import ConfigError, RelayError, StoreBusy, StoreError, StoreInUse, find_place


def run_command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code (Exit codes in docs/reference.md); no traceback reaches a user."""
    from app.cli.commands import ENDED_BY_PIPE, build_commands  # noqa: PLC0415  # keeps `import app.cli` free of work

    _write_what_can_be_written()
    try:
        commands = build_commands(arguments)
        gc.freeze()
        gc.enable()  # __main__ switched it off while the command's code was loaded
        commands(list(arguments), prog_name="nector-relay")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code == ENDED_BY_PIPE:  # else Python flushes what nobody reads once more at the exit, and exits with 120
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # a traceback helps no user, and its values may be a customer's
        _say(f"nector-relay: {_explain(error)}")
        return _choose_code(error, serving=next(iter(arguments), "") == "serve")
    return 0


def _write_what_can_be_written() -> None:
    """Let a stream that cannot show ₹ or a frame escape it, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str) -> None:
    """Print to stderr; whether anybody reads there must not change the exit code."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None  # else Python flushes it once more at the exit, and exits with 120


def _choose_code(error: Exception, *, serving: bool) -> int:
    """Return the exit code: a supervisor tells serve's apart, everybody else's failure is 1."""
    match error:
        case RelayError() | OSError() if not serving:
            return 1
        case ConfigError():
            return os.EX_CONFIG
        case StoreInUse() | StoreBusy():  # a relay, or another program that keeps the file locked
            return os.EX_TEMPFAIL
        case StoreError() | OSError():
            return os.EX_IOERR
        case RelayError():
            return 1
        case _:
            return os.EX_SOFTWARE


def _explain(error: Exception) -> str:
    match error:
        case RelayError():
            return str(error)
        case OSError(strerror=str(strerror)):
            named = f"{error.filename}: " if isinstance(error.filename, str) else ""
            return f"{named}{strerror}"
        case _:
            return f"unexpected failure: {describe_place(error)}. This is a fault of ours: please report it"


def describe_place(error: BaseException) -> str:
    """Return an exception's type and place, and none of its text."""
    place = find_place(error)
    return f"{type(error).__name__} at {place}" if place else type(error).__name__
