"""What a client may send, and how slowly, before anything is built from it; stock uvicorn is the control."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.api.connections import LONGEST_HEADERS, LONGEST_URL
from app.api.strangers import Limits
from app.cli.serve import derive_limits
from tests.faults.fault_server import find_closed_port
from tests.security.edge import EVENT, HONEST, POST, make_headers, open_edge, post_event, run_relay, talk

CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
TRAILER = b"x-nector-webhook-secret: x\r\nx-late: 1\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"

REFUSED = {
    "101 headers": (POST + make_headers(100) + b"\r\n", 431),
    "10,000 headers": (POST + make_headers(10_000) + b"content-length: 0\r\n\r\n", 431),
    "20,000 headers": (POST + make_headers(20_000) + b"content-length: 0\r\n\r\n", 431),
    "16 KiB of headers": (POST + b"x: " + b"a" * LONGEST_HEADERS + b"\r\n\r\n", 431),
    "16 KiB of a line that does not end": (POST + b"x: " + b"a" * (LONGEST_HEADERS + 100), 431),
    "16 KiB of empty lines": (b"\r\n" * LONGEST_HEADERS, 431),
    "8 KiB of URL": (b"GET /" + b"a" * LONGEST_URL + b" HTTP/1.1\r\n\r\n", 414),
    "a URL that does not end": (b"GET /" + b"a" * 1_000_000, 414),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "noise": (bytes(range(256)), 400),
    "200 trailers": (CHUNKED + b"1\r\nx\r\n0\r\n" + make_headers(200) + b"\r\n", 431),
    "100 kB of a chunk's extension": (CHUNKED + b"1;" + b"e" * 100_000 + b"\r\nx\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_is_too_much_or_not_http_is_refused_and_the_connection_closed(request_: bytes, status: int) -> None:
    async with open_edge() as edge:
        heard = await talk(edge.port, request_)
        head, _, body = heard.answer.partition(b"\r\n\r\n")
        assert heard.status == json.loads(body)["status"] == status
        assert b"\r\nconnection: close" in head
        assert b"\r\ncontent-type: application/problem+json" in head
        assert all(request.get("gone") for request in edge.requests)
        assert edge.ended == {"refused": 1}


TAKEN = {
    "100 headers": GET + make_headers(98) + b"\r\n",
    "nearly 16 KiB of headers": GET + b"x: " + b"a" * (LONGEST_HEADERS - 60) + b"\r\n\r\n",
    "8 KiB of URL": b"GET /" + b"a" * (LONGEST_URL - 1) + b" HTTP/1.1\r\nconnection: close\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "a body of single bytes": CHUNKED.replace(b"x\r\n", b"x\r\nconnection: close\r\n", 1) + b"1\r\nx\r\n" * 9_999
    + b"0\r\n\r\n",
    "an upgrade that is not wanted": b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("request_", TAKEN.values(), ids=TAKEN)
async def test_what_is_just_within_the_limits_is_answered(request_: bytes) -> None:
    async with open_edge() as edge:
        assert (await talk(edge.port, request_)).status == 200


async def test_30_mb_of_one_line_are_cut_off_and_the_control_takes_them() -> None:
    parts = [POST + b"x: ", *[b"a" * 65_536] * 480]
    async with open_edge() as edge:
        heard = await talk(edge.port, *parts, pause_s=0)
        assert heard.status == 431
        assert heard.written < 20_000_000  # most of that waits in the buffers of the two kernels
    async with open_edge(stock=True) as edge:
        heard = await talk(edge.port, *parts, b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", pause_s=0)
        assert heard.status == 200


@pytest.mark.parametrize("name", ["101 headers", "16 KiB of headers", "HTTP/0.9", "100 kB of a chunk's extension"])
async def test_the_control_takes_what_is_refused(name: str) -> None:
    request = REFUSED[name][0].replace(b"host", b"connection: close\r\nhost", 1)
    async with open_edge(stock=True) as edge:
        assert (await talk(edge.port, request)).status == 200


# -- trailers -----------------------------------------------------------------------------------


def split_trailers(*, packets: int) -> list[bytes]:
    parts = [CHUNKED + b"5\r\nhello\r\n", b"0\r\n" + TRAILER + b"\r\n"]
    return parts if packets == 2 else [b"".join(parts)]


@pytest.mark.parametrize("packets", [1, 2])
async def test_trailers_are_no_headers(packets: int) -> None:
    async with open_edge() as edge:
        parts = split_trailers(packets=packets)
        asking = asyncio.create_task(talk(edge.port, *parts, b"GET /next HTTP/1.1\r\nconnection: close\r\n\r\n"))
        heard = await asking
        assert heard.status == 200
        first, second = edge.requests
        assert first["body"] == b"hello"
        assert set(first["headers"]) == {b"host", b"transfer-encoding"}
        assert set(second["headers"]) == {b"connection"}


async def test_the_control_takes_trailers_for_headers() -> None:
    async with open_edge(stock=True) as edge:
        await talk(edge.port, *split_trailers(packets=1), b"GET /next HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert b"x-nector-webhook-secret" in edge.requests[0]["headers"]


# -- bodies -------------------------------------------------------------------------------------


async def test_a_body_is_not_read_on_once_its_request_is_answered_and_the_answer_arrives() -> None:
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 98304000\r\n\r\n"
    parts = [head, *[b"a" * 65_536] * 1_500]
    async with open_edge() as edge:
        heard = await talk(edge.port, *parts, pause_s=0)
        assert (heard.status, heard.body) == (200, b"ok")
        assert b"\r\nconnection: close\r\n" in heard.answer
        assert heard.written < 40_000_000
    async with open_edge(stock=True) as edge:
        heard = await talk(edge.port, *parts, GET + b"\r\n", pause_s=0)
        assert heard.written > 98_304_000


async def test_a_client_that_reads_only_when_all_is_sent_gets_its_answer() -> None:
    async with open_edge() as edge:
        head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n"
        assert (await talk(edge.port, head, b"a" * 500_000)).status == 200


async def test_a_client_that_goes_on_sending_is_cut_off_in_time() -> None:
    async with open_edge(Limits(9, 9, ending_s=0.2)) as edge:
        head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n"
        heard = await talk(edge.port, head, *[b"a"] * 100, pause_s=0.02)
        assert heard.status == 200
        assert heard.written < len(head) + 100


async def test_whole_requests_keep_their_connection() -> None:
    async with open_edge() as edge:
        early = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
        heard = await talk(edge.port, early, early, GET + b"\r\n")
        assert heard.answer.count(b"HTTP/1.1 200 OK") == 3


async def test_requests_sent_at_once_are_answered_in_their_order_and_what_is_none_is_not_answered() -> None:
    async with open_edge() as edge:
        heard = await talk(edge.port, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nnonsense\r\n\r\n")
        assert [request["path"] for request in edge.requests] == ["/1", "/2"]
        assert heard.answer.count(b"HTTP/1.1 200 OK") == heard.answer.count(b"HTTP/1.1 ") == 2


# -- deadlines ----------------------------------------------------------------------------------

SHORT = Limits(100, 100, head_s=0.3, body_s=0.6, ending_s=0.1)
SLOW = {
    "nothing": ((b"",), 0),
    "a byte of a head now and then": ((b"GET / HTTP/1.1\r\n", *[b"x"] * 40), 408),
    "a byte of a body now and then": ((b"POST / HTTP/1.1\r\ncontent-length: 99\r\n\r\n", *[b"x"] * 40), 408),
    "empty lines after an answer": ((b"GET / HTTP/1.1\r\n\r\n", *[b"\r\n"] * 40), 200),
}


@pytest.mark.parametrize(("parts", "status"), SLOW.values(), ids=SLOW)
async def test_what_comes_too_slowly_is_ended(parts: tuple[bytes, ...], status: int) -> None:
    async with open_edge(SHORT) as edge:
        heard = await talk(edge.port, *parts, pause_s=0.05)
        assert heard.status == status
        assert edge.ended == {"late": 1}
        assert heard.written < sum(map(len, parts)) or len(parts) == 1


@pytest.mark.parametrize("parts", [parts for parts, _ in SLOW.values()][:3], ids=list(SLOW)[:3])
async def test_the_control_waits_for_ever(parts: tuple[bytes, ...]) -> None:
    async with open_edge(stock=True) as edge:
        with pytest.raises(TimeoutError):
            await talk(edge.port, *parts, pause_s=0.05, patience_s=2)
        # What it saw, if anything, is that the client itself went away.
        assert all(request.get("gone") for request in edge.requests)


async def test_a_client_that_does_not_read_its_answers_is_ended() -> None:
    async with open_edge(Limits(100, 100, blocked_s=0.5)) as edge:
        asking = asyncio.create_task(talk(edge.port, b"GET /long HTTP/1.1\r\n\r\n", pause_s=4))
        assert len((await asking).answer) < 10_000_000
        assert edge.ended == {"late": 1}
        assert len((await talk(edge.port, b"GET /long HTTP/1.1\r\nconnection: close\r\n\r\n")).answer) > 10_000_000


@pytest.mark.parametrize(("idle_s", "answers"), [(30.0, 2), (0.1, 1)], ids=["kept", "control"])
async def test_a_connection_that_was_answered_may_wait_longer_than_one_that_does_not_read(
    idle_s: float, answers: int
) -> None:
    async with open_edge(Limits(100, 100, blocked_s=0.1, idle_s=idle_s)) as edge:
        asked = b"GET / HTTP/1.1\r\n\r\n"
        heard = await talk(edge.port, asked, GET + b"\r\n", pause_s=1)
        assert heard.answer.count(b"HTTP/1.1 200 OK") == answers
        assert edge.ended == {}  # whoever has been answered and asks no more has done nothing wrong


# -- how many there may be ----------------------------------------------------------------------


async def test_the_oldest_connection_without_a_whole_request_goes_when_there_are_too_many() -> None:
    async with open_edge(Limits(3, 100, head_s=600)) as edge:
        opened = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(4)]
        assert await asyncio.wait_for(opened[0][0].read(), 40) == b""
        for _, writer in opened[1:]:
            writer.write(GET + b"\r\n")
        assert [(await reader.read())[:15] for reader, _ in opened[1:]] == [b"HTTP/1.1 200 OK"] * 3
        assert edge.ended == {"full": 1}
        for _, writer in opened:
            writer.close()


async def test_a_share_is_for_each_address_and_not_for_a_trusted_proxy() -> None:
    for trusted, ended in (((), {"address": 2}), ([ip_network("127.0.0.0/8")], {})):
        async with open_edge(Limits(100, 3), trusted=trusted) as edge:
            opened = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(5)]
            assert (await talk(edge.port, GET + b"\r\n")).status == 200 or trusted
            assert {**edge.ended} in ({**ended}, {"address": 3})
            for _, writer in opened:
                writer.close()


async def test_a_request_that_is_being_answered_is_never_ended() -> None:
    release = asyncio.Event()
    async with open_edge(Limits(2, 1)) as edge:
        answer = edge.answer

        async def answer_late(scope: Any, receive: Any, send: Any) -> None:
            await release.wait()
            await answer(scope, receive, send)

        edge.answer = answer_late  # type: ignore[method-assign]
        asking = [asyncio.create_task(talk(edge.port, GET + b"\r\n")) for _ in range(1)]
        await asyncio.sleep(0.1)
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.close()
        release.set()
        assert [(await one).status for one in asking] == [200]


async def test_in_a_crowd_whoever_sends_little_of_a_body_is_not_worth_an_answer_and_the_others_are() -> None:
    head = b"POST /early HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5000\r\n\r\n"
    async with open_edge(Limits(4, 100, body_s=0.5, ending_s=0.1)) as edge:
        assert (await talk(edge.port, head, b"a")).status == 200
        opened = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(2)]
        assert (await talk(edge.port, head, b"a")).status == 408
        assert (await talk(edge.port, head, b"a" * 4_500)).status == 200
        assert (await talk(edge.port, head + b"a" * 5_000)).status == 200
        assert (await talk(edge.port, head, b"a" * 2_000, b"a" * 3_000)).status == 200
        assert (await talk(edge.port, head.replace(b"host", b"expect: 100-continue\r\nhost"))).status == 200
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize(
    ("files", "connections"), [(64, 32), (256, 128), (1_024, 512), (4_096, 3_072), (65_536, 4_096)]
)
def test_the_limits_leave_files_for_everything_else(files: int, connections: int) -> None:
    assert derive_limits(files).connections == connections
    assert derive_limits(files).unfinished_per_address == connections // 4
    assert derive_limits(files, 120).idle_s == 120


# -- the whole relay ----------------------------------------------------------------------------


async def test_a_relay_answers_honest_events_beside_20_000_headers_and_takes_no_secret_from_a_trailer(
    tmp_path: Path,
) -> None:
    async with run_relay(tmp_path, find_closed_port(), 1_024) as relay:
        heard = await asyncio.gather(*[talk(relay.port, REFUSED["20,000 headers"][0]) for _ in range(20)])
        assert {one.status for one in heard} == {431}
        assert await post_event(relay.port) == "202"
        head = EVENT.partition(b"x-nector-topic")[0] + b"transfer-encoding: chunked\r\n\r\n"
        body = EVENT.partition(b"\r\n\r\n")[2]
        trailer = HONEST.partition(b"application/json\r\n")[2]
        whole = b"%s%x\r\n%s\r\n0\r\n%s\r\n" % (head, len(body), body, trailer)
        assert (await talk(relay.port, whole)).status == 401
        slow = await asyncio.open_connection("127.0.0.1", relay.port)
        slow[1].write(HONEST + b"content-length: 100\r\n\r\n{")
        await asyncio.sleep(0.1)
        assert await relay.stop() == 0
        said = await slow[0].read()
        slow[1].close()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert relay.read_lines("Exception in ASGI application") == []
