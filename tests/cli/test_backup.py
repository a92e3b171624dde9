"""`nector-relay backup`, as somebody types it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outbox.methods import SqliteOutbox


@pytest.fixture
def outbox(folder: Path) -> Path:
    async def make() -> None:
        store = SqliteOutbox(folder / "data" / "relay.db")
        await store.close()

    asyncio.run(make())
    return folder / "data" / "relay.db"


def test_a_backup_says_what_it_holds(run: Callable[..., Any], outbox: Path) -> None:
    done = run("backup", "copy.db")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"copy\.db: 0 events, 0 deliveries, [\d,]+ bytes; checked\n", done.out)
    assert (outbox.parents[1] / "copy.db").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("none", "a stateless relay has nothing to back up"),
        ("sqlite:///nowhere/relay.db", "nowhere/relay.db is not there"),
    ],
)
def test_nothing_to_back_up_is_1(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("RELAY_DATABASE_URL", url)
    done = run("backup", "copy.db")
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_a_second_backup_to_the_same_file_is_1(run: Callable[..., Any], outbox: Path) -> None:
    del outbox
    assert run("backup", "copy.db").code == 0
    done = run("backup", "copy.db")
    assert (done.code, done.out, done.err) == (
        1, "", "nector-relay: copy.db is there already; a backup overwrites nothing\n"
    )  # fmt: skip
