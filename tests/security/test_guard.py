"""What a stranger cannot do: have a body read, fill the memory, learn which paths there are, or make the disk work."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from app.api.guard import Admission, CountedBody
from app.api.health import Readiness
from tests.conftest import SECRET, TOKEN, sign
from tests.faults.conftest import start_relay  # noqa: F401  # a fixture
from tests.security.strangers import CHUNK, Stranger, fill, find_app

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
MEGABYTE = 1024 * 1024
BEARER = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
SIGNED = {"x-gallabox-signature": "A" * 43 + "="}  # as it is written, and of nothing


async def list_ops_paths(relay: Any) -> list[str]:
    described = (await relay.ops("GET", "/openapi.json")).json()["paths"]
    paths = [path for path in described if not path.startswith(("/webhooks/", "/healthz", "/readyz"))]
    assert len(paths) > 10
    return [*paths, "/openapi.json", "/openapi.json/", "/deliveries/"]


def leave_out_guard(relay: Any) -> Any:
    """Return the application as it is behind the guard."""
    app = find_app(relay)
    app.user_middleware.clear()
    return app


# -- the ops API -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}], ids=["no-token", "wrong-token"])
@pytest.mark.parametrize(("token", "status"), [(TOKEN, 401), ("", 404)], ids=["set", "unset"])
async def test_no_ops_path_reads_a_body_before_the_token_whatever_the_method(
    open_relay: Callable[..., Any], given: dict[str, str], token: str, status: int
) -> None:
    async with open_relay() as relay:
        paths = await list_ops_paths(relay)
    async with open_relay(RELAY_ADMIN_TOKEN=token) as relay:
        for path in paths:
            for method in METHODS:
                one = Stranger(method, path, given, [b"{bad json"])
                assert (await one.ask(find_app(relay)), one.asked) == (status, 0), f"{method} {path}"
                assert one.answer["connection"] == "close"
                assert "location" not in one.answer


async def test_control_without_the_guard_an_ops_path_reads_thirty_megabytes(relay: Any) -> None:
    one = Stranger("POST", "/erase", {"content-type": "application/json"}, fill(30 * MEGABYTE))
    await one.ask(leave_out_guard(relay))
    assert one.asked == 30 * MEGABYTE


@pytest.mark.parametrize("path", ["/", "/nothing", "/wp-login.php", "//metrics", "/webhooks/nobody", "/webhooks/a/b"])
@pytest.mark.parametrize("given", [{}, BEARER], ids=["stranger", "token"])
async def test_a_path_that_is_none_is_404_and_nobodys_failure(relay: Any, path: str, given: dict[str, str]) -> None:
    one = Stranger("POST", path, given, fill(MEGABYTE))
    assert (await one.ask(find_app(relay)), one.asked) == (404, 0)
    metrics = (await relay.ops("GET", "/metrics")).text
    assert 'nector_relay_requests_refused_total{kind="ops",reason="missing"} 0.0' in metrics


@pytest.mark.parametrize(
    "path", ["/openapi.json/", "/deliveries/", "/metrics/", "/healthz/", "/webhooks/nector/", "/webhooks/x/"]
)
async def test_nothing_answers_with_a_redirect(relay: Any, path: str) -> None:
    for method in ("GET", "POST"):
        one = Stranger(method, path, BEARER)
        assert not 300 <= await one.ask(find_app(relay)) < 400
        assert "location" not in one.answer


async def test_a_webhook_is_taken_with_a_slash_at_its_end(relay: Any) -> None:
    body = b'{"user_mobile": "9800000001", "amount": "1"}'
    answer = await relay.client.post("/webhooks/nector/", content=body, headers=sign(body, "walletreward_create"))
    assert answer.status_code == 202


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "query", "longest"),
    [
        ("/webhooks/nector", {**sign(b"", "lead_update"), "content-type": "application/json"}, "", 64 * 1024),
        ("/webhooks/gallabox", SIGNED, "", 4 * MEGABYTE),
        ("/webhooks/bitespeed", {}, "token=sandbox-webhook-token", 4 * MEGABYTE),
        ("/erase", BEARER, "", MEGABYTE),
        ("/suppressions", BEARER, "", MEGABYTE),
    ],
)
async def test_a_body_is_read_up_to_its_cap_and_not_on(
    relay: Any, path: str, headers: dict[str, str], query: str, longest: int
) -> None:
    app = find_app(relay)
    chunked = Stranger("POST", path, headers, fill(30 * MEGABYTE), query)
    assert await chunked.ask(app) == 413
    assert longest < chunked.asked <= longest + CHUNK
    declared = Stranger("POST", path, {**headers, "content-length": "31457280"}, fill(30 * MEGABYTE), query)
    assert (await declared.ask(app), declared.asked) == (413, 0)
    for one in (chunked, declared):
        assert one.answer["content-type"] == "application/problem+json"
        assert one.answer["connection"] == "close"
        assert f"{longest // 1024} KiB" in one.detail
    whole = Stranger("POST", path, headers, fill(longest), query)
    assert await whole.ask(app) != 413
    assert whole.asked == longest
    kind = "ops" if headers is BEARER else "webhook" if path.endswith("nector") else "receipt"
    metrics = (await relay.ops("GET", "/metrics")).text
    assert f'nector_relay_requests_refused_total{{kind="{kind}",reason="too_long"}} 2.0' in metrics


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/deliveries"])
async def test_the_body_of_a_get_is_never_read(relay: Any, path: str) -> None:
    one = Stranger("GET", path, BEARER, fill(30 * MEGABYTE))
    assert (await one.ask(find_app(relay)), one.asked) == (200, 0)


@pytest.mark.parametrize(
    ("path", "headers", "query"),
    [
        ("/webhooks/nector", {}, ""),
        ("/webhooks/nector", {"x-nector-webhook-secret": SECRET}, ""),
        ("/webhooks/nector", {"x-nector-webhook-secret": hashlib.sha256(b"another").hexdigest()}, ""),
        ("/webhooks/gallabox", {}, ""),
        ("/webhooks/gallabox", {"x-gallabox-signature": "not one"}, ""),
        ("/webhooks/gallabox", {"x-gallabox-signature": "0" * 64}, ""),
        ("/webhooks/bitespeed", {}, ""),
        ("/webhooks/bitespeed", {}, "token=wrong"),
    ],
)
async def test_what_cannot_be_genuine_is_401_unread(relay: Any, path: str, headers: dict[str, str], query: str) -> None:
    one = Stranger("POST", path, headers, fill(MEGABYTE), query)
    assert (await one.ask(find_app(relay)), one.asked) == (401, 0)
    assert one.detail == "not authorised"


def hold_open(
    app: Any, path: str, headers: dict[str, str], length: int, going: asyncio.Event
) -> tuple[Stranger, asyncio.Task[int]]:
    """Send so many bytes of a body and then nothing until `going`."""

    async def drip() -> AsyncIterator[bytes]:
        for part in fill(length):
            yield part
        await going.wait()

    one = Stranger("POST", path, headers, drip())
    return one, asyncio.create_task(one.ask(app))


async def settle(*held: Stranger, length: int) -> None:
    async with asyncio.timeout(40):
        while any(one.asked < length and not one.status for one in held):
            await asyncio.sleep(0)


async def fill_budget(relay: Any) -> list[int]:
    """Hold bodies open until no more is read; return what an honest event is told before, while and after."""
    app, going, told = find_app(relay), asyncio.Event(), []

    async def be_honest() -> None:
        told.append((await relay.post({"user_mobile": "9800000001", "amount": "1"})).status_code)

    receipts = [hold_open(app, "/webhooks/gallabox", SIGNED, 4 * MEGABYTE, going) for _ in range(5)]
    await settle(*(one for one, _ in receipts), length=4 * MEGABYTE)
    assert sorted(one.status for one, _ in receipts) == [0, 0, 0, 0, 503]
    (busy,) = [one for one, _ in receipts if one.status]
    assert (busy.answer["retry-after"], busy.answer["connection"]) == ("5", "close")
    await be_honest()
    orders = [hold_open(app, "/erase", BEARER, MEGABYTE, going) for _ in range(16)]
    await settle(*(one for one, _ in orders), length=MEGABYTE)
    assert [one.status for one, _ in orders] == [0] * 16
    await be_honest()
    going.set()
    await asyncio.gather(*(task for _, task in (*receipts, *orders)))
    await be_honest()
    return told


async def test_bodies_that_are_being_read_share_a_budget_which_strangers_cannot_use_up(relay: Any) -> None:
    assert await fill_budget(relay) == [202, 503, 202]
    metrics = (await relay.ops("GET", "/metrics")).text
    for kind in ("webhook", "receipt"):
        assert f'nector_relay_requests_refused_total{{kind="{kind}",reason="busy"}} 1.0' in metrics
    assert 'nector_relay_events_total{result="unavailable",topic="other"} 1.0' in metrics


async def test_control_a_budget_that_is_not_given_back_is_noticed(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedBody, "release", lambda _: None)
    with pytest.raises(AssertionError):
        await fill_budget(relay)


# -- a whole process -------------------------------------------------------------------------------


def read_rss(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def flood(port: int, head: str, pieces: Iterable[bytes]) -> tuple[int, int]:
    """Send until an answer comes; return its status, and how many bytes the relay's socket took before.

    The status is 0 where the connection was cut: a kernel may drop the answer to whoever goes on sending.
    """
    taken = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(head.encode())
        wire.setblocking(False)
        for piece in pieces:
            rest = piece
            while rest:
                try:
                    if answer := wire.recv(4096):
                        return int(answer.split()[1]), taken
                except BlockingIOError:
                    pass
                except ConnectionError:
                    return 0, taken
                try:
                    sent = wire.send(rest)
                except BlockingIOError:
                    continue
                except ConnectionError:
                    return 0, taken
                taken, rest = taken + sent, rest[sent:]
    raise AssertionError("all of it was taken")


def chunk(pieces: Iterable[bytes]) -> Iterable[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


LENGTH = 300_000_000
DECLARED, CHUNKED = f"content-length: {LENGTH}\r\n", "transfer-encoding: chunked\r\n"


async def test_three_hundred_megabytes_without_a_token_leave_the_memory_as_it_was(
    environment: dict[str, str],
    start_relay: Callable[..., Any],  # noqa: F811  # the fixture
) -> None:
    async with start_relay(environment) as relay:
        port, pid = int(relay.url.rpartition(":")[2]), relay.process.pid
        heads = [f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" for path in ("/erase", "/x")]
        heads += ["GET /deliveries HTTP/1.1\r\nhost: x\r\n", "POST /webhooks/gallabox HTTP/1.1\r\nhost: x\r\n"]
        heads += ["POST /webhooks/nector HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"]
        statuses = [404 if "/x" in head else 401 for head in heads]
        for head in heads:  # what the first of each kind loads stays
            await asyncio.to_thread(flood, port, f"{head}{DECLARED}\r\n", fill(LENGTH))
        before = read_rss(pid)
        for framing, frame in ((DECLARED, iter), (CHUNKED, chunk)):
            told = [await asyncio.to_thread(flood, port, f"{head}{framing}\r\n", frame(fill(LENGTH))) for head in heads]
            assert all(status in {0, right} for (status, _), right in zip(told, statuses, strict=True))
            # What the sockets of both sides hold, which is the kernel's; 300 MB it is not.
            assert max(taken for _, taken in told) < 30 * MEGABYTE
        assert read_rss(pid) - before < 8 * MEGABYTE
        assert await relay.stop() == 0


# -- readiness -------------------------------------------------------------------------------------


async def test_however_often_readiness_is_asked_a_commit_is_tried_once_a_second() -> None:
    now, trials, going = [0], [0], asyncio.Event()

    async def commit() -> bool:
        trials[0] += 1
        await going.wait()
        return trials[0] != 2

    is_ready = Readiness(commit, lambda: now[0])
    asking = [asyncio.create_task(is_ready()) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()  # one that goes away takes the others' answer with it nowhere
    now[0] = 5_000  # and a trial that takes long stays the only one
    asking += [asyncio.create_task(is_ready())]
    await asyncio.sleep(0)
    going.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert (trials[0], set(answers[1:])) == (1, {True})
    for now[0], expected in ((5_000, False), (5_999, False), (6_000, True), (6_500, True)):
        assert await is_ready() is expected
    assert trials[0] == 3


async def test_strangers_cannot_make_the_disk_work(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main.read_uptime", lambda: 7)
    async with open_relay() as relay:
        commits = [0]
        outbox = type(relay.outbox)
        commit = outbox.can_commit

        async def count(self: Any) -> bool:
            commits[0] += 1
            return bool(await commit(self))

        monkeypatch.setattr(outbox, "can_commit", count)
        answers = await asyncio.gather(*(relay.client.get("/readyz") for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        assert commits[0] == 1
        assert await relay.relay.can_commit()
        assert commits[0] == 2  # the control: asked past the cache, it is one each


async def test_a_request_that_is_not_http_is_passed_by(relay: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/metrics", "headers": [], "query_string": b"", "root_path": ""}
    await find_app(relay)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_admission_refuses_with_an_answer(relay: Any) -> None:
    """What the guard hands on is never both."""
    admission: Admission = find_app(relay).user_middleware[0].args[0]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "client": None}
    refused = admission.check(scope)
    assert isinstance(refused, Response)
    assert json.loads(bytes(refused.body))["status"] == 401
