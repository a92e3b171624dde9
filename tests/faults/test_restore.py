"""A backup of a running relay, put back later: what was sent since then is not sent again."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

EVENTS = 40


async def post_events(url: str) -> set[str]:
    """Post so many events, each to a number of its own; return the deliveries' ids."""
    ids = set()
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        for number in range(EVENTS):
            payload = {"user_name": "Riya", "user_mobile": f"98000000{number:02}", "amount": number, "account": 0}
            headers = {"content-type": "application/json", "x-nector-topic": "walletreward_create"}
            answer = await client.post(f"{url}/webhooks/nector", content=json.dumps(payload), headers=headers)
            assert answer.status_code == 202, answer.text
            ids.add(answer.json()["deliveries"][0]["id"])
    return ids


async def call_ops(relay: Any, environment: Mapping[str, str], method: str, path: str) -> Any:
    access = {"authorization": f"Bearer {environment['RELAY_ADMIN_TOKEN']}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        answer = await client.request(method, relay.url + path, headers=access, json={} if method != "GET" else None)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def wait_for_state(relay: Any, environment: Mapping[str, str], state: str, count: int = EVENTS) -> None:
    async with asyncio.timeout(30):
        while (
            len((await call_ops(relay, environment, "GET", f"/deliveries?state={state}&limit=500"))["deliveries"])
            != count
        ):
            await asyncio.sleep(0.05)


async def run_backup(environment: Mapping[str, str], copy: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "backup", str(copy),
        env={**environment, "PATH": "/usr/bin:/bin"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return out.decode()


@pytest.fixture
def restore_after(
    start_relay: Callable[..., Any],
    kill_environment: Callable[..., dict[str, str]],
    outbox_path: Path,
    tmp_path: Path,
    sandbox: Any,
) -> Callable[..., Any]:
    """Return a function that backs up a queue, sends it, puts the copy back and starts again.

    `change` is done to the copy before. It returns (sent counts, the relay's states by id, ids).
    """

    async def run(change: Callable[[sqlite3.Connection], Any], then: str) -> tuple[dict[str, int], set[str]]:
        environment, copy = kill_environment(("resend",)), tmp_path / "copy.db"
        async with start_relay(environment) as relay:
            await call_ops(relay, environment, "PUT", "/holds/provider:gallabox0")
            ids = await post_events(relay.url)
            assert f"{EVENTS} events, {EVENTS} deliveries" in await run_backup(environment, copy)
            await call_ops(relay, environment, "DELETE", "/holds/provider:gallabox0")
            await wait_for_state(relay, environment, "accepted")
            await relay.kill()
        for name in ("relay.db", "relay.db-wal", "relay.db-shm"):
            outbox_path.with_name(name).unlink(missing_ok=True)
        with sqlite3.connect(copy) as db:
            change(db)
        db.close()
        shutil.copy(copy, outbox_path)
        async with start_relay(environment) as relay:
            await call_ops(relay, environment, "DELETE", "/holds/provider:gallabox0")
            await wait_for_state(relay, environment, then)
            restored = relay.lines("outbox.restored")
            assert [line["unknown"] for line in restored] == ([EVENTS] if then == "unknown" else [])
        return (await sandbox.counts())["deliveries"], ids

    return run


@pytest.mark.timeout(120)
async def test_a_restored_backup_sends_nothing_again_by_itself(restore_after: Callable[..., Any]) -> None:
    sent, ids = await restore_after(lambda _: None, then="unknown")
    print(f"figures: {EVENTS} deliveries backed up while pending, sent, restored: sent twice 0 of {len(sent)}")  # noqa: T201  # for the release notes
    assert sent == dict.fromkeys(ids, 1)


@pytest.mark.timeout(120)
async def test_a_copy_without_the_mark_would_send_everything_again(restore_after: Callable[..., Any]) -> None:
    """The known-bad control."""
    sent, ids = await restore_after(lambda db: db.execute("DELETE FROM marks"), then="accepted")
    assert sent == dict.fromkeys(ids, 2)
