"""Slow clients who open again what is closed: honest events come through, and a start succeeds among them."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app import providers as opening
from app.errors import StoreError, is_passing
from app.outbox.sqlite import store
from app.outbox.sqlite.file import open_reading
from app.outbox.sqlite.store import LateReader
from tests.faults.fault_server import find_closed_port
from tests.security.edge import attack, post_events, run_relay

HONEST = 60


async def flood(folder: Path, files: int, kind: str, count: int, *, stock: bool = False, honest: int = HONEST) -> Any:
    """Return how honest events were answered while `count` connections were held open."""
    port = find_closed_port()
    async with run_relay(folder, port, files, stock=stock) as relay, attack(port, kind, count):
        answers = await post_events(port, honest)
        assert stock or relay.process.returncode is None
        return answers


@pytest.mark.parametrize("kind", ["idle", "head", "body"])
async def test_honest_events_come_through_400_slow_clients_at_256_files(tmp_path: Path, kind: str) -> None:
    assert await flood(tmp_path, 256, kind, 400) == {"202": HONEST}


async def test_honest_events_come_through_1500_idle_clients_at_1024_files(tmp_path: Path) -> None:
    assert await flood(tmp_path, 1_024, "idle", 1_500) == {"202": HONEST}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["idle", "head", "body"])
async def test_honest_events_come_through_5000_slow_clients_at_4096_files(tmp_path: Path, kind: str) -> None:
    assert await flood(tmp_path, 4_096, kind, 5_000, honest=300) == {"202": 300}


async def test_the_control_answers_hardly_any_honest_event(tmp_path: Path) -> None:
    answers = await flood(tmp_path, 256, "idle", 400, stock=True, honest=30)
    assert answers["202"] < 15


async def test_a_relay_that_starts_under_a_flood_serves_and_ends_in_order(tmp_path: Path) -> None:
    port = find_closed_port()
    async with attack(port, "idle", 400), run_relay(tmp_path, port, 256, wait=False) as relay:
        await relay.wait_for('"relay.listening"')
        assert await post_events(port, HONEST) == {"202": HONEST}
        assert relay.read_lines("task.died") == []
        assert await relay.stop() == 0


async def test_the_control_does_not_serve_through_a_flood_at_its_start(tmp_path: Path) -> None:
    """It dies of what it opens while every descriptor is taken; one that had opened it all before lives, but crawls."""
    port = find_closed_port()
    answers: Counter[str] = Counter()
    async with attack(port, "idle", 400), run_relay(tmp_path, port, 256, wait=False, stock=True) as relay:
        with suppress(TimeoutError):
            await asyncio.wait_for(relay.process.wait(), 10)
        if relay.process.returncode != 70:
            answers = await post_events(port, 30)
    assert answers["202"] < 15


# -- too many open files ------------------------------------------------------------------------

TOO_MANY = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (TOO_MANY, True),
        (OSError(errno.ENFILE, ""), True),
        (ImportError("libssl.so.3: cannot open shared object file: Too many open files"), True),
        (OSError(errno.ENOENT, ""), False),
        (ImportError("No module named 'x'"), False),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, ""), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("another"), False),
        (ValueError("Too many open files"), False),
    ],
)
def test_what_too_many_open_files_have_caused_passes(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def fail_first(times: int, work: Callable[..., Any], error: Exception = TOO_MANY) -> Callable[..., Any]:
    """Return `work` that fails so often before it works."""
    left = [error] * times

    def do(*given: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return work(*given, **named)

    return do


async def test_a_lane_that_cannot_open_its_client_sends_later(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_load_client", fail_first(2, opening._load_client))
    async with open_relay() as relay:
        answer = await relay.post({"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"})
        (delivery,) = answer.json()["deliveries"]
        await relay.wait_for(delivery["id"], "accepted")


async def test_a_lane_that_is_told_to_stop_before_it_has_its_client_stops(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_load_client", fail_first(10**6, opening._load_client))
    async with asyncio.timeout(20), open_relay() as relay:
        await asyncio.sleep(0.2)
        assert relay.relay.is_alive()


async def test_the_control_of_a_lane_dies_of_an_error_that_does_not_pass(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.main import create_app  # noqa: PLC0415  # only here
    from app.settings import read_settings  # noqa: PLC0415  # only here

    monkeypatch.setattr(opening, "_load_client", fail_first(10**6, opening._load_client, OSError(errno.ENOENT, "")))
    died: list[BaseException] = []
    app = create_app(read_settings(environment), environment, on_dead=died.append)
    async with asyncio.timeout(20), app.router.lifespan_context(app):
        while not died:
            await asyncio.sleep(0.02)
    assert isinstance(died[0], OSError)


async def test_an_ops_path_that_cannot_be_loaded_is_503_and_works_the_next_time(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import main  # noqa: PLC0415  # only here
    from app.settings import read_settings  # noqa: PLC0415  # only here

    monkeypatch.setattr(main, "_build_late", fail_first(1, main._build_late))
    app = main.create_app(read_settings(environment), environment)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://relay.example") as client,
    ):
        ask = partial(
            client.get, "/deliveries", headers={"authorization": f"Bearer {environment['RELAY_ADMIN_TOKEN']}"}
        )
        answers = [await ask(), await ask()]
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].headers["retry-after"] == "5"
    assert answers[0].headers["content-type"] == "application/problem+json"


async def test_a_reader_that_cannot_be_opened_says_so_and_is_opened_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.db"
    sqlite3.connect(path).close()
    path.touch()
    cannot = sqlite3.OperationalError("unable to open database file")
    monkeypatch.setattr(store, "open_reading", fail_first(1, open_reading, cannot))
    late = LateReader(path)
    with pytest.raises(StoreError):
        await late.run(lambda db: db.execute("SELECT 1").fetchone())
    assert await late.run(lambda db: db.execute("SELECT 1").fetchone()) == (1,)
    await late.close()
