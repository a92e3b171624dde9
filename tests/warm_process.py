"""A process that has imported the relay already, and forks itself for each one that a test starts.

Run as `python warm_process.py FD` by tests/warm_start.py, which asks at that socket. To import the relay takes a second
of the processor; a fork takes a hundredth of it, and what runs in it is the same program.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import runpy
import signal
import socket
import sys
import time
from typing import Any

# Those that a relay loads while it starts, beside the modules of ours.
LATE = ("uvloop", "uvicorn.lifespan.off", "uvicorn.lifespan.on", "uvicorn.loops.uvloop")
LONGEST = 2**20


def import_relay() -> None:
    """Import each module of the relay, and what it loads late; reading a YAML builds the models that are built late."""
    import app  # noqa: PLC0415  # this is the work

    names = (module.name for module in pkgutil.walk_packages(app.__path__, "app."))
    for name in (*names, *LATE):
        if name != "app.__main__":
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(name)
    read_bundled()


def read_bundled() -> None:
    from app.mapping.parse import parse_config  # noqa: PLC0415  # as above
    from app.mapping.template_entries import parse_templates  # noqa: PLC0415
    from app.providers import settings_types  # noqa: PLC0415

    folder = pathlib.Path(__file__).parent.parent / "config"
    templates = parse_templates((folder / "templates.yaml").read_text(encoding="utf-8")).templates
    text = (folder / "relay.yaml").read_text(encoding="utf-8")
    parse_config(text, environment={}, provider_types=settings_types(), templates=templates)


def wait_for_program(control: socket.socket) -> dict[str, Any]:
    """Return a program to run, each time in a new process whose parent has ended; end when nobody asks any more."""
    while True:
        asked, streams, _, _ = socket.recv_fds(control, LONGEST, 3)
        if not asked:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            number = os.fork()
            if number == 0:
                os.close(reading)
                os.close(writing)
                control.close()
                put_in_place(streams)
                program: dict[str, Any] = json.loads(asked)
                return program
            os.write(writing, str(number).encode())
            os._exit(0)
        os.close(writing)
        for stream in streams:
            os.close(stream)
        os.waitpid(between, 0)
        with open(reading, "rb") as told:  # noqa: PTH123  # it has no path
            control.sendall(told.read())


def put_in_place(streams: list[int]) -> None:
    """Let these be the standard streams, opened as Python opens them."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        how = {"encoding": before.encoding, "errors": before.errors, "closefd": False}
        stream = open(number, "r" if name == "stdin" else "w", 1 if name == "stderr" else -1, **how)  # noqa: PTH123, SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run_program(program: dict[str, Any]) -> None:
    """Run it as `python …` would in this folder and with this environment; what it raises is the caller's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(program["cwd"])
    os.environ.clear()
    os.environ.update(program["environment"])
    time.tzset()
    first, *rest = program["arguments"]
    if first == "-m":
        sys.path[0], sys.argv = program["cwd"], rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(first), [first, *rest]  # noqa: PTH120  # as Python itself does
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the tests
    import_relay()
    gc.collect()
    gc.freeze()
    run_program(wait_for_program(socket.socket(fileno=int(sys.argv[1]))))
