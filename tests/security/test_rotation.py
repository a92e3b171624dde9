"""Secrets come and go without a restart: a file that is read again, a last day, and a file that cannot be used."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.relay import reload as rules
from app.relay.reload import Keyring
from tests.conftest import SECRET
from tests.relay.test_reload import read_log

COINS = b'{"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}'
OLD, NEW = "old-secret-of-nector", "new-secret-of-nector"
LAST_DAY = "2026-12-31"
MIDNIGHT = round(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "nector-secrets"
    path.write_text(f"{OLD}\n")
    return path


@pytest.fixture
async def relay(
    printed: io.StringIO, open_relay: Callable[..., Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """A running relay with a secret of the settings and a file of them; nobody looks at the file but the test."""
    del printed
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 3_600)
    async with open_relay(RELAY_NECTOR_SECRETS_FILE=str(secrets)) as running:
        yield running


async def post(relay: Any, secret: str) -> int:
    headers = {
        "content-type": "application/json",
        "x-nector-topic": "walletreward_create",
        "x-nector-webhook-secret": hashlib.sha256(secret.encode()).hexdigest(),
    }
    return int((await relay.client.post("/webhooks/nector", content=COINS, headers=headers)).status_code)


async def ask_all(relay: Any) -> list[int]:
    """Return the answers to the secret of the settings, the old one of the file, and the new one."""
    return [await post(relay, secret) for secret in (SECRET, OLD, NEW)]


def replace(path: Path, text: str) -> None:
    """Move another file into place, as a mounted secret does it."""
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.rename(path)


async def read_metric(relay: Any) -> str:
    text = (await relay.ops("GET", "/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("nector_relay_secrets_last_reload_successful")]
    return str(line.split()[1])


async def test_a_secret_is_changed_without_a_restart_and_no_event_is_refused_meanwhile(
    relay: Any, secrets: Path
) -> None:
    keyring = relay.rules._keyring
    assert await ask_all(relay) == [202, 202, 401]
    replace(secrets, f"# both, until Nector has the new one\n{OLD}, {NEW}\n")
    await keyring.look()
    assert await ask_all(relay) == [202, 202, 202]
    replace(secrets, f"{NEW}\n")
    await keyring.look()
    assert await ask_all(relay) == [202, 401, 202]


async def test_control_a_file_that_nobody_reads_again_takes_the_old_secret_for_ever(relay: Any, secrets: Path) -> None:
    replace(secrets, f"{NEW}\n")
    assert await ask_all(relay) == [202, 202, 401]


@pytest.mark.parametrize("way", ["reload", "ops", "watch"])
async def test_the_file_is_read_by_sighup_by_the_ops_api_and_by_the_watch_of_the_yaml(
    open_relay: Callable[..., Any], secrets: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 0.01 if way == "watch" else 3_600)
    async with open_relay(RELAY_NECTOR_SECRETS_FILE=str(secrets)) as relay:
        replace(secrets, f"{NEW}\n")
        match way:
            case "reload":
                assert await relay.rules.reload() is None  # what SIGHUP calls
            case "ops":
                assert (await relay.ops("POST", "/reload")).status_code == 200
            case _:
                while await post(relay, NEW) != 202:
                    await asyncio.sleep(0.05)
        assert await ask_all(relay) == [202, 401, 202]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "holds no secret"),
        ("# nothing\n\n", "holds no secret"),
        (f"{NEW} until=2020-01-01\n", "holds no secret that has not lapsed"),
        (f"good\n{NEW} until=tomorrow\n", "line 2"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        ("x" * 70_000, "is longer than 64 KiB"),
    ],
    ids=["gone", "empty", "comments", "lapsed", "wrong", "binary", "long"],
)
async def test_a_file_that_cannot_be_used_keeps_the_last_good_secrets_and_says_so(
    relay: Any, secrets: Path, printed: io.StringIO, broken: str | bytes | None, said: str
) -> None:
    if broken is None:
        secrets.unlink()
    else:
        secrets.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    await relay.rules._keyring.look()
    assert await ask_all(relay) == [202, 202, 401]
    (line,) = read_log(printed.getvalue(), "secrets.refused")
    assert said in line["detail"]
    assert (line["level"], line["in_force"]) == ("error", 2)
    assert NEW not in printed.getvalue()
    assert await read_metric(relay) == "0.0"
    assert (await relay.ops("POST", "/reload")).status_code == 422
    replace(secrets, f"{NEW}\n")
    await relay.rules._keyring.look()
    assert await read_metric(relay) == "1.0"
    assert await ask_all(relay) == [202, 401, 202]


async def test_a_secret_holds_through_its_last_day_in_utc(
    open_relay: Callable[..., Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 3_600)
    now = [MIDNIGHT - 1]
    monkeypatch.setattr("app.main.read_clock", lambda: now[0])
    secrets.write_text(f"{OLD} until={LAST_DAY}\n{NEW}\n")
    async with open_relay(RELAY_NECTOR_SECRETS_FILE=str(secrets)) as relay:
        await relay.rules._keyring.look()
        assert await ask_all(relay) == [202, 202, 202]
        now[0] = MIDNIGHT
        await relay.rules._keyring.look()
        assert await ask_all(relay) == [202, 401, 202]
    (line,) = read_log(printed.getvalue(), "secrets.lapsed")
    assert (line["in_force"], OLD in printed.getvalue()) == (2, False)


async def test_where_every_secret_has_lapsed_nobody_is_let_in(
    open_relay: Callable[..., Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [MIDNIGHT - 1]
    monkeypatch.setattr(rules, "LOOK_EVERY_S", 3_600)
    monkeypatch.setattr("app.main.read_clock", lambda: now[0])
    secrets.write_text(f"{OLD} until={LAST_DAY}\n")
    async with open_relay(RELAY_NECTOR_SECRETS="", RELAY_NECTOR_SECRETS_FILE=str(secrets)) as relay:
        assert await ask_all(relay) == [401, 202, 401]
        now[0] = MIDNIGHT
        await relay.rules._keyring.look()
        assert await ask_all(relay) == [401, 401, 401]
        assert (await relay.client.post("/webhooks/nector", content=COINS)).status_code == 401


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _path: None, "cannot be read (No such file or directory)"),
        (lambda path: path.write_text("\n"), "holds no secret"),
        (lambda path: path.mkdir(), "is no file"),
        (os.mkfifo, "is no file"),
    ],
    ids=["missing", "empty", "folder", "fifo"],
)
async def test_a_start_with_a_file_that_cannot_be_used_is_refused_with_the_cure(
    open_relay: Callable[..., Any], tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(path := tmp_path / "nothing")
    with pytest.raises(ConfigError) as caught:
        async with open_relay(RELAY_NECTOR_SECRETS_FILE=str(path)):
            raise AssertionError
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "RELAY_NECTOR_SECRETS_FILE names a file" in str(caught.value)


async def test_a_short_secret_is_a_warning_wherever_it_stands(
    open_relay: Callable[..., Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    secrets.write_text("short\n")
    async with open_relay(RELAY_NECTOR_SECRETS="x" * 16, RELAY_NECTOR_SECRETS_FILE=str(secrets), RELAY_ADMIN_TOKEN="y"):
        pass
    lines = read_log(printed.getvalue(), "setting.short")
    assert {(line["name"], line["level"]) for line in lines} == {
        ("RELAY_NECTOR_SECRETS or its file", "warning"),
        ("RELAY_ADMIN_TOKEN", "warning"),
    }
    assert "short\\n" not in json.dumps(lines)
    async with open_relay(RELAY_NECTOR_SECRETS="x" * 16, RELAY_ADMIN_TOKEN="y" * 16):
        assert len(read_log(printed.getvalue(), "setting.short")) == len(lines)


async def test_a_secret_that_everybody_knows_does_not_come_by_the_file_either(relay: Any, secrets: Path) -> None:
    keyring: Keyring = relay.rules._keyring
    keyring.banned = {"sandbox-nector-secret"}
    replace(secrets, "sandbox-nector-secret\n")
    assert "which everybody knows" in (await keyring.reload() or "")
    assert await post(relay, OLD) == 202
