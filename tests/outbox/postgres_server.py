"""A PostgreSQL of the tests' own, as another user than root, in a folder that goes with it; and a pooler before it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

GIVEN = "RELAY_TEST_POSTGRES_URL"
USER = "relay"
PASSWORD = "sandbox-password"
STARTS_WITHIN_S = 60


def find_program(name: str) -> str | None:
    """Return where a program of PostgreSQL's is, the newest release's first."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: -float(place.parent.name))
    found = [shutil.which(name, path=str(place)) for place in places]
    return next((each for each in found if each), shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"))


def why_not() -> str | None:
    """Return what this machine lacks for the tests on PostgreSQL."""
    if os.environ.get(GIVEN) or find_program("initdb"):
        return None
    return f"no PostgreSQL here: install it (apt-get install postgresql), or set {GIVEN}"


def take_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _as_somebody(folder: Path) -> dict[str, Any]:
    """Return what makes a child no root, which PostgreSQL refuses to be; the folder becomes that user's."""
    if os.getuid() != 0:
        return {}
    user = _find_user("postgres") or _find_user("nobody")
    assert user is not None
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}


def _find_user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


@dataclass
class Server:
    """A server with its data in `folder`."""

    folder: Path
    port: int
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/relay"

    def name_database(self, name: str) -> str:
        return self.url.removesuffix("relay") + name

    def run(self, *arguments: str) -> None:
        somebody = _as_somebody(self.folder)
        done = subprocess.run(arguments, **somebody, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def init(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        self.run(
            find_program("initdb") or "initdb", "-D", str(self.folder / "data"), "-U", USER, "-A", "scram-sha-256",
            "--pwfile", str(self.folder / "password"), "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip

    def start(self) -> None:
        """Start it; return once it answers."""
        somebody = _as_somebody(self.folder)
        settings = [f"--port={self.port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories=", *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_program("postgres") or "postgres", "-D", str(self.folder / "data"), *settings],
                stdout=subprocess.DEVNULL, stderr=log, **somebody,
            )  # fmt: skip
        until = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                psycopg.connect(self.name_database("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.folder / "log").read_text()[-1000:]
                assert self.process.poll() is None, (self.folder / "log").read_text()[-1000:]
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT breaks connections off and writes everything down, SIGQUIT and SIGKILL write nothing."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None

    def kill(self) -> None:
        """Kill the server with all its children, as a power cut would."""
        assert self.process is not None
        children = [int(pid) for pid in
                    Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]  # fmt: skip
        for pid in (self.process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        self.process = None
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def run_server(*options: str) -> Iterator[Server]:
    """Yield a new server that keeps what it has acknowledged, with a database `relay` of the user `relay`."""
    folder = Path(tempfile.mkdtemp(prefix="relay-postgres-"))
    folder.chmod(0o755)
    server = Server(folder, take_port(), options)
    try:
        server.init()
        server.start()
        with psycopg.connect(server.name_database("postgres"), autocommit=True) as db:
            db.execute("CREATE DATABASE relay")
        yield server
    finally:
        server.stop(signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_pooler(url: str) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode before a database."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    folder, port = Path(tempfile.mkdtemp(prefix="relay-pooler-")), take_port()
    (folder / "users").write_text(f'"{parts["user"]}" "{parts.get("password", "")}"\n')
    (folder / "ini").write_text(f"""[databases]
* = host={parts["host"]} port={parts.get("port", 5432)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
logfile = {folder}/log
pidfile = {folder}/pid
ignore_startup_parameters = extra_float_digits
""")
    folder.chmod(0o755)
    somebody = _as_somebody(folder)
    program = find_program("pgbouncer")
    assert program is not None
    process = subprocess.Popen([program, "-q", str(folder / "ini")], **somebody, stderr=subprocess.DEVNULL)
    pooled = f"postgresql://{parts['user']}:{parts.get('password', '')}@127.0.0.1:{port}/{parts['dbname']}"
    until = time.monotonic() + STARTS_WITHIN_S
    try:
        while True:
            try:
                psycopg.connect(pooled, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < until, (folder / "log").read_text()[-1000:]
                time.sleep(0.05)
        yield pooled
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)
