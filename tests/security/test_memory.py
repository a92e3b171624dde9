"""No memory is left, at any place of an event's way: 503 or a closed connection, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.connections import Connection
from app.relay.intake import Answer
from tests.conftest import TOKEN, sign
from tests.outbox.methods import break_store
from tests.outside import describe_account, read_rows, run_relay, sign_event
from tests.security.edge import open_edge, talk
from tests.security.strangers import Stranger, find_app

BODY = b'{"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}'
GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def run_out(error: BaseException, times: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work` that fails so often before it works."""
    left = [error] * times

    def do(*given: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return work(*given, **named)

    return do


async def post(relay: Any, source_id: str) -> Stranger:
    """Post one event; what the server would log of it does not matter here."""
    headers = sign(BODY, "walletreward_create", delivery_id=source_id)
    one = Stranger("POST", "/webhooks/nector", headers, [BODY])
    try:
        await one.ask(find_app(relay))
    except (MemoryError, RuntimeError, OSError):
        assert one.status  # Starlette has answered before it raised for the server's log
    return one


async def count_events(relay: Any, source_id: str) -> int:
    path = relay.outbox.path
    return len(await asyncio.to_thread(read_rows, path, "SELECT 1 FROM events WHERE source_delivery_id = ?", source_id))


# -- the way of an event -----------------------------------------------------------------------------

PLACES = {
    "the body is parsed": "app.sources.nector.parse_body",
    "the headers are read": "app.api.guard.read_headers",
    "the message is rendered": "app.relay.intake.plan_deliveries",
    "the customer is found": "app.relay.intake.find_customer",
    "the rows are written": "app.outbox.sqlite.store.run_together",
    "the commit is made": "app.outbox.sqlite.store.write_counts",
    "the transaction begins": "app.outbox.sqlite.store.Writer._open_transaction",
}


@pytest.mark.parametrize("place", PLACES)
async def test_where_no_memory_is_left_the_answer_is_503_and_the_repeat_is_taken_once(
    relay: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    target = PLACES[place]
    module, _, name = target.rpartition(".")
    whole = getattr(_find(module), name)
    with monkeypatch.context() as patched:
        patched.setattr(target, run_out(MemoryError(), 10**4, whole))
        refused = await post(relay, "e-1")
    assert (refused.status, refused.answer["retry-after"]) == (503, "5")
    assert "Traceback" not in refused.body.decode()
    assert await count_events(relay, "e-1") == 0
    taken = await post(relay, "e-1")
    assert taken.status == 202
    (row,) = json.loads(taken.body)["deliveries"]
    await relay.wait_for(row["id"], "accepted")
    assert await count_events(relay, "e-1") == 1


def _find(path: str) -> Any:
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


async def test_after_the_commit_no_memory_makes_a_repeat_that_is_known(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("app.api.webhooks._show", run_out(MemoryError(), 1, _find("app.api.webhooks")._show))
        assert (await post(relay, "e-2")).status == 503
    assert await count_events(relay, "e-2") == 1  # stored, and not acknowledged: the sender tries again
    assert (await post(relay, "e-2")).status == 200


async def test_control_an_answer_before_the_commit_is_noticed(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (route,) = [each for each in find_app(relay).router.routes if getattr(each, "path", "") == "/webhooks/nector"]

    async def take_lightly(event: Any, _deliveries: Any) -> Answer:
        return Answer(202, event.id, "accepted", [])

    monkeypatch.setattr(type(route.app), "__setattr__", object.__setattr__)
    monkeypatch.setattr(route.app, "take", take_lightly)
    assert (await post(relay, "e-3")).status == 202
    assert await count_events(relay, "e-3") == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), OSError(errno.ENOMEM, "")], ids=repr
)
async def test_an_ops_path_that_gets_no_memory_or_no_thread_is_503(
    relay: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    break_store(monkeypatch, relay.outbox, fail, "list_deliveries")
    one = Stranger("GET", "/deliveries", {"authorization": f"Bearer {TOKEN}"})
    with pytest.raises(type(error)):  # for the server's log
        await one.ask(find_app(relay))
    assert (one.status, one.answer["retry-after"]) == (503, "5")


async def test_an_outcome_that_finds_no_memory_is_recorded_later(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = _find("app.outbox.sqlite.store")
    monkeypatch.setattr("app.relay.lane.RECORD_AGAIN_S", 0.05)
    (row,) = json.loads((await post(relay, "e-4")).body)["deliveries"]
    monkeypatch.setattr(writer, "write_counts", run_out(MemoryError(), 2, writer.write_counts))
    await relay.wait_for(row["id"], "accepted", seconds=20)


# -- a connection ------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["connection_made", "data_received", "on_body", "on_headers_complete"])
async def test_a_connection_that_gets_no_memory_ends_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it says so, and goes on
    body = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"
    async with open_edge() as edge:
        monkeypatch.setattr(Connection, place, run_out(MemoryError(), 1, getattr(Connection, place)))
        heard = await talk(edge.port, body)
        assert heard.status == (503 if place.startswith("on_") else 0)
        assert (await talk(edge.port, GET)).status == 200
        assert [request["body"] for request in edge.requests if "gone" not in request] == [b""]


# -- a whole process ---------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("spare", [0, 2, 6])
def test_a_process_whose_memory_is_really_gone_acknowledges_nothing_that_is_lost(tmp_path: Path, spare: int) -> None:
    account = describe_account("shop", "http://127.0.0.1:9")
    yaml = f"version: 1\nproviders:\n{account}routes:\n  one: {{event: lead_create, provider: shop, template: one}}\n"
    (tmp_path / "relay.yaml").write_text(yaml)
    payload = json.dumps({"user_mobile": "9800000001", "note": "x" * 60_000})
    acknowledged: list[str] = []

    def send(number: int) -> None:
        try:
            headers = sign_event("lead_create", f"m-{number}")
            answer = httpx2.post(f"{url}/webhooks/nector", content=payload, headers=headers, trust_env=False)
        except httpx2.HTTPError:
            return  # closed, or the process is gone
        assert answer.status_code in {202, 503}, answer.text
        if answer.status_code == 202:
            acknowledged.append(f"m-{number}")

    with run_relay(tmp_path) as relay:
        url, process = relay.url, relay.process
        relay.post("lead_create", {"user_mobile": "9800000001"})
        used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + spare * 1_048_576
        resource.prlimit(process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        with ThreadPoolExecutor(24) as senders:
            list(senders.map(send, range(400)))
        if process.poll() is None:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            ends_at = time.monotonic() + 60
            while process.poll() is None and not _takes(relay):
                assert time.monotonic() < ends_at, "it neither takes events again nor ends"
                time.sleep(0.1)
        code = relay.end() if process.poll() is None else process.returncode
    assert code in {0, 70, 74, -signal.SIGABRT, -signal.SIGSEGV}, code
    stored = {str(row[0]) for row in read_rows(tmp_path / "relay.db", "SELECT source_delivery_id FROM events")}
    assert set(acknowledged) <= stored
    log = "\n".join(path.read_text() for path in tmp_path.glob("log-*"))
    assert "9800000001" not in log


def _takes(relay: Any) -> bool:
    try:
        return bool(relay.post("lead_create", {"user_mobile": "9800000001"}))
    except (httpx2.HTTPError, AssertionError):
        return False
