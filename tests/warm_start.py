"""A relay's process that a test starts is forked from one that has imported the relay: a hundredth of the work.

It is a child of the test as any other, with the arguments, folder, environment and streams that the test gives it; only
/proc shows another environment. A preloaded library is loaded before the fork, and finds its settings after it. What
asks for more (a limit, coverage), every other program and the demo are started as ever: they show that a cold start
works, too.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("nector-relay"))
CHILDREN = ("tests.faults.", "tests.outbox.")
PR_SET_CHILD_SUBREAPER = 36
READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE_", "MALLOC_", "GLIBC_")  # by the interpreter, the linker

_start_cold = subprocess.Popen._execute_child  # type: ignore[attr-defined]  # where each way to start a process ends
_parameters = inspect.signature(_start_cold)
_plain = {
    "preexec_fn": None, "close_fds": True, "pass_fds": (), "shell": False, "gid": None, "gids": None, "uid": None,
    "umask": -1, "start_new_session": False, "process_group": -1,
}  # fmt: skip


class WarmStarter:
    """Starts relays by fork; one warm process for each environment that an interpreter would read at its start."""

    def __init__(self) -> None:
        self._controls: dict[tuple[tuple[str, str], ...], socket.socket] = {}
        self._warm: list[subprocess.Popen[bytes]] = []
        self._one_by_one = threading.Lock()

    def start(self, popen: subprocess.Popen[Any], *given: Any) -> None:
        """Do what `Popen` leaves to this method: start the process, close the ends that are its own."""
        asked = _parameters.bind(popen, *given).arguments
        program = read_program(asked)
        if program is None:
            _start_cold(popen, *given)
            return
        ends = [asked["p2cread"], asked["c2pwrite"], asked["errwrite"]]
        streams = [number if end == -1 else end for number, end in enumerate(ends)]
        popen.pid = self._fork(program, streams)
        popen._child_created = True  # type: ignore[attr-defined]  # as its own does
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        popen._close_pipe_fds(*(asked[name] for name in pipes))  # type: ignore[attr-defined]  # as its own does

    def _fork(self, program: Mapping[str, Any], streams: list[int]) -> int:
        with self._one_by_one:
            control = self._find(program["environment"])
            # The fork's parent ends at once, and this process becomes its parent: a child to be waited for.
            _adopt(True)
            try:
                socket.send_fds(control, [json.dumps(program).encode()], streams)
                return int(control.recv(20))
            finally:
                _adopt(False)

    def _find(self, environment: Mapping[str, str]) -> socket.socket:
        key = tuple(sorted((name, value) for name, value in environment.items() if name.startswith(READ_AT_THE_START)))
        if key not in self._controls:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
            with its:
                command = [sys.executable, str(TESTS / "warm_process.py"), str(its.fileno())]
                process = subprocess.Popen(
                    command, cwd=TESTS.parent, env={**dict(key), "PYTHONPATH": str(TESTS.parent)},
                    pass_fds=(its.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                )  # fmt: skip
            self._warm.append(process)
            self._controls[key] = ours
        return self._controls[key]

    def close(self) -> None:
        for control in self._controls.values():
            control.close()
        for process in self._warm:
            process.wait()


def read_program(asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the arguments, folder and environment of a relay that can be forked; None of all else."""
    if any(asked.get(name, plain) != plain for name, plain in _plain.items()) or asked["executable"] is not None:
        return None
    arguments = [os.fspath(argument) for argument in asked["args"]] if isinstance(asked["args"], list | tuple) else []
    if arguments[-1:] == ["demo"]:
        return None
    if arguments[:1] == [COMMAND]:
        program = arguments
    elif arguments[:3] == [sys.executable, "-m", "app"] or _is_script_of_ours(arguments) or _is_child(arguments):
        program = arguments[1:]
    else:
        return None
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    cwd = os.fspath(asked["cwd"] or os.getcwd())  # noqa: PTH109  # as Popen
    if environment.get("COVERAGE_PROCESS_START"):
        return None
    if any(not isinstance(text, str) for text in (*arguments, cwd, *environment, *environment.values())):
        return None
    return {"arguments": program, "cwd": cwd, "environment": environment} if Path(cwd).is_dir() else None


def _is_child(arguments: list[str]) -> bool:
    """Tell whether it is a child that a test of faults kills, say."""
    return arguments[:2] == [sys.executable, "-m"] and arguments[2:3] != [] and arguments[2].startswith(CHILDREN)


def _is_script_of_ours(arguments: list[str]) -> bool:
    """Tell whether it is a relay with a fault built in, say."""
    if len(arguments) < 2 or arguments[0] != sys.executable:
        return False
    script = Path(arguments[1])
    return script.suffix == ".py" and TESTS in script.parents


def _adopt(on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
