"""A relay and its fake vendor as processes of their own, whose output goes where a test says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from dotenv import dotenv_values

from tests.faults.fault_server import find_closed_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40.0  # two cores, shared with other tests
ACCESS = {"authorization": "Bearer sandbox-admin-token"}


@dataclass(frozen=True)
class Living:
    """`nector-relay serve` on `url`."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "data/relay.db"

    def post(self, number: int, timeout: float = 20) -> int:
        """Post one event for the customer 98000000`number`; return the status."""
        headers = {
            "x-nector-topic": "walletreward_create",
            "x-nector-delivery-id": f"n-{number}",
            "x-nector-webhook-secret": hashlib.sha256(b"sandbox-nector-secret").hexdigest(),
        }
        body = {"user_name": "Riya", "amount": "100", "user_mobile": f"98000000{number:02}"}
        url = f"{self.url}/webhooks/nector"
        return httpx2.post(url, json=body, headers=headers, timeout=timeout, trust_env=False).status_code

    def ask(self, path: str, timeout: float = 20) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=ACCESS, timeout=timeout, trust_env=False)

    def stop(self, told: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(told)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Return once it holds."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, "it never came to hold"
        time.sleep(0.05)


def build_environment(**changes: str) -> dict[str, str]:
    """Return `.env.example` with changes, and nothing else of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ}
    given = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    return {**kept, **given, "PYTHONPATH": str(ROOT), **changes}


def make_folder(folder: Path) -> Path:
    """Make a folder with the bundled `config/`."""
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


@contextmanager
def run_process(arguments: list[str], folder: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def run_vendor(folder: Path) -> Iterator[str]:
    """Run the sandbox; yield its URL."""
    said = folder / "vendor.log"
    with said.open("wb") as out:
        options = ["-m", "app", "sandbox", "--port", "0", "--relay-url", ""]
        with run_process(options, folder, stdout=out, stderr=out, env=build_environment()):
            wait_until(lambda: "sandbox listening on" in said.read_text())
            found = re.search(r"sandbox listening on (\S+)", said.read_text())
            assert found is not None
            yield found[1]


def count_messages(vendor_url: str) -> int:
    """Return how many messages reached the vendor."""
    return sum(httpx2.get(f"{vendor_url}/sandbox/counts", trust_env=False).json()["deliveries"].values())


@contextmanager
def run_relay(
    folder: Path,
    program: tuple[str, ...] = ("-m", "app"),
    *,
    out: Any = subprocess.DEVNULL,
    err: Any = subprocess.DEVNULL,
    **changes: str,
) -> Iterator[Living]:
    """Run `serve`, and yield it once it answers."""
    port = find_closed_port()
    arguments = [*program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    given = build_environment(**{"GALLABOX_BASE_URL": "http://127.0.0.1:9", **changes})
    with run_process(arguments, folder, stdout=out, stderr=err, env=given) as process:
        living = Living(process, f"http://127.0.0.1:{port}", folder)
        wait_until(lambda: process.poll() is not None or answers(living.url))
        yield living


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def start_again(folder: Path, **changes: str) -> tuple[int, str]:
    """Run `serve` where it has to be refused; return its exit code and what it said."""
    environment: Mapping[str, str] = build_environment(**changes)
    arguments = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", "0"]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stderr.decode() + done.stdout.decode()
