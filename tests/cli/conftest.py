"""The commands as a stranger uses them: in a folder of his own, with nothing of ours in the environment."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dotenv import dotenv_values

from app.cli import run_command
from tests.faults.fault_server import find_closed_port

ROOT = Path(__file__).parents[2]
START_S = 40.0  # two cores, shared with other tests
STOP_S = 30.0


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Program:
    """A command that goes on: `nector-relay serve`, `nector-relay sandbox`."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = START_S) -> re.Match[str]:
        """Return the first match in what it prints."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            if (found := re.search(pattern, self.out)) is not None:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in\n{self.out}\n{self.err}")

    def tell(self, told: signal.Signals) -> None:
        self.process.send_signal(told)

    def wait(self) -> int:
        return self.process.wait(STOP_S)

    def stop(self, told: signal.Signals = signal.SIGTERM) -> int:
        self.tell(told)
        return self.wait()


StartProgram = Callable[..., AbstractContextManager[Program]]
RunCommand = Callable[..., Ran]


def build_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with nothing of ours but `changes`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ}
    return {**kept, **changes}


@pytest.fixture(scope="session")
def start_program(tmp_path_factory: pytest.TempPathFactory) -> StartProgram:
    """Return a context manager that starts a command in `folder`, and kills it if the block leaves it running."""

    @contextmanager
    def start(*arguments: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Program]:
        kept = tmp_path_factory.mktemp("printed")
        with (kept / "out").open("wb") as out, (kept / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", *arguments],
                cwd=folder,
                env=build_environment({"PYTHONPATH": str(ROOT), **environment}),
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield Program(process, kept)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    return start


@pytest.fixture(scope="session")
def run_program() -> RunCommand:
    """Return a function that runs a whole command as a process of its own."""

    def run(*arguments: str, folder: Path, environment: Mapping[str, str] | None = None, given: bytes = b"") -> Ran:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("nector-relay")), *arguments],
            cwd=folder,
            env=build_environment(environment or {}),
            input=given,
            capture_output=True,
            timeout=50,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def make_folder(folder: Path) -> Path:
    """Return a folder with the bundled `config/`."""
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the bundled `config/`, and an environment without any name of ours."""
    for name in [name for name in os.environ if name.startswith(("RELAY_", "GALLABOX_", "BITESPEED_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(make_folder(tmp_path / "shop" / "here"))
    return tmp_path / "shop" / "here"


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    """Return a function that runs a command in this process, where a process of its own would add nothing."""
    del folder
    before = signal.getsignal(signal.SIGHUP)

    def run_one(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run_command(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return Ran(code, printed.out, printed.err)

    yield run_one
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def edit(folder: Path) -> Callable[[str, str], Path]:
    """Return a function that replaces a text in the folder's `config/relay.yaml`."""

    def replace(old: str, new: str) -> Path:
        path = folder / "config/relay.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return path

    return replace


@pytest.fixture(scope="session")
def serving_environment() -> dict[str, str]:
    """`.env.example`, without the places: nothing is reached unless a test says so."""
    given = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    return {**given, "GALLABOX_BASE_URL": "http://127.0.0.1:9", "BITESPEED_BASE_URL": "http://127.0.0.1:9"}


def wait_until_listening(program: Program) -> str:
    """Return the URL of a `serve --host 127.0.0.1 --port 0`."""
    port = program.wait_for(r'"relay\.listening".*"port": ?(\d+)')[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def start_serving(start_program: StartProgram) -> Callable[..., AbstractContextManager[tuple[Program, str]]]:
    """Return a context manager that runs `serve` on a free port and yields it with its URL, once it listens."""

    @contextmanager
    def start(folder: Path, environment: Mapping[str, str], *more: str) -> Iterator[tuple[Program, str]]:
        arguments: Sequence[str] = ("serve", "--host", "127.0.0.1", "--port", "0", *more)
        with start_program(*arguments, folder=folder, environment=environment) as program:
            yield program, wait_until_listening(program)

    return start


@pytest.fixture(scope="session")
def post_event() -> Callable[..., httpx2.Response]:
    """Return a function that posts a webhook as Nector does, with the secret of `.env.example`."""

    def post(url: str, topic: str, payload: Any, **changes: str) -> httpx2.Response:
        headers = {
            "content-type": "application/json",
            "x-nector-topic": topic,
            "x-nector-webhook-secret": hashlib.sha256(b"sandbox-nector-secret").hexdigest(),
            **changes,
        }
        content = {"content": payload} if isinstance(payload, bytes) else {"json": payload}
        return httpx2.post(f"{url}/webhooks/nector", headers=headers, timeout=20, trust_env=False, **content)

    return post


@dataclass(frozen=True)
class Shop:
    """A relay that runs, with its sandbox, for the commands that talk to it."""

    url: str
    sandbox_url: str
    _post: Callable[..., httpx2.Response]
    _numbers: Iterator[int]

    def new_number(self) -> str:
        """Return an example number that no delivery had yet: one number gets one message every 6 s."""
        return f"98000000{next(self._numbers):02}"

    def call(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        access = {"authorization": "Bearer sandbox-admin-token"}
        return httpx2.request(method, self.url + path, json=body, headers=access, timeout=20, trust_env=False)

    def post(self, payload: Any, topic: str = "walletreward_create") -> str:
        """Post an event; return its delivery's id."""
        answer = self._post(self.url, topic, payload)
        assert answer.status_code == 202, answer.text
        (delivery,) = answer.json()["deliveries"]
        return str(delivery["id"])

    def wait_for(self, delivery_id: str, *values: str, field: str = "state") -> dict[str, Any]:
        ends_at = time.monotonic() + 20
        while time.monotonic() < ends_at:
            delivery: dict[str, Any] = self.call("GET", f"/deliveries/{delivery_id}").json()
            if delivery[field] in values:
                return delivery
            time.sleep(0.02)
        raise AssertionError(f"not {values}: {delivery}")

    def let_go(self) -> None:
        """End every hold, and count the refusals of the route that tests refuse anew: five in a row hold it."""
        scopes = [hold["scope"] for hold in self.call("GET", "/holds").json()["holds"]]
        for scope in {*scopes, "route:coins-earned"}:
            assert self.call("DELETE", f"/holds/{scope}").status_code in {204, 404}

    def set_fault(self, **faults: Any) -> None:
        assert httpx2.put(f"{self.sandbox_url}/sandbox/faults", json=faults, trust_env=False).is_success


@pytest.fixture(scope="session")
def open_shop(
    tmp_path_factory: pytest.TempPathFactory,
    start_program: StartProgram,
    start_serving: Callable[..., AbstractContextManager[tuple[Program, str]]],
    serving_environment: dict[str, str],
    post_event: Callable[..., httpx2.Response],
) -> Iterator[Shop]:
    port = str(find_closed_port())
    url = f"http://127.0.0.1:{port}"
    here = make_folder(tmp_path_factory.mktemp("shop") / "here")
    options = ("--port", "0", "--relay-url", url)
    with start_program("sandbox", *options, folder=here, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        given = {**serving_environment, "GALLABOX_BASE_URL": at, "BITESPEED_BASE_URL": f"{at}/bitespeed"}
        with start_serving(here, given, "--port", port):
            yield Shop(url, at, post_event, iter(range(100)))


@pytest.fixture
def shop(open_shop: Shop, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The running relay; this process's commands talk to it."""
    del folder
    monkeypatch.setenv("RELAY_URL", open_shop.url)
    monkeypatch.setenv("RELAY_ADMIN_TOKEN", "sandbox-admin-token")
    open_shop.set_fault()
    open_shop.let_go()
    return open_shop
