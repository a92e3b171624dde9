"""The way out: which part of connecting failed, an authority of one's own, and a proxy that only a setting names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.mapping.provider import DIRECT, ProviderSettings, Way
from app.model.delivery import Accepted, Reason, Retryable
from app.model.message import Message
from app.providers import build_provider, open_client, open_plain_client, settings_types
from app.providers.base import Request
from tests.faults.certificates import load_certificate, make_certificates

ANSWER = b'{"id": "m-1", "status": "ACCEPTED"}'
ENVIRONMENT = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
MESSAGE = Message("+919800000001", "coins_earned")


@asynccontextmanager
async def listening(serve: Callable[..., object], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    serving: set[asyncio.Future[object]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work: Any = serve(reader, writer)
        serving.add(task := asyncio.ensure_future(work))
        await asyncio.wait({task})
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # what they closed is closed in the loop's next turn


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
    await writer.drain()
    writer.close()


class Proxy:
    """Forwards CONNECT and whole addresses; keeps the heads it was sent."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target = head.split(b" ", 2)[:2]
        at = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = at.decode().partition(":")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1" if host == "localhost" else host, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            far_writer.write(head)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    writer.close()


def account(url: str) -> ProviderSettings:
    given = {"type": "gallabox", "channel_id": "c", "api_key": "key-1", "api_secret": "secret-1", "base_url": url}
    return settings_types()["gallabox"].model_validate(given)


async def send(url: str, way: Way = DIRECT) -> object:
    settings = account(url)
    client = await open_client(settings, way=way)
    try:
        return (await client.send(build_provider(settings), MESSAGE, "d-1", tries=1)).outcome
    finally:
        await client.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


async def test_a_name_that_nobody_has_is_told_from_a_closed_port(closed_port: int) -> None:
    for url, told in (
        ("https://nowhere.invalid", "the host's name is not found: `base_url`, or DNS"),
        (f"http://127.0.0.1:{closed_port}", "the port is closed: nothing listens there"),
    ):
        assert await send(url) == Retryable(Reason.CONNECT_FAILED, detail=told)


async def test_an_authority_of_ones_own_is_trusted_beside_the_systems(certificates: Path) -> None:
    async with listening(answer, load_certificate(certificates, "good")) as port:
        url = f"https://localhost:{port}"
        assert await send(url, Way(ca_file=certificates / "authority.pem")) == Accepted("m-1")
        told = "the provider's TLS certificate cannot be verified"
        assert await send(url) == Retryable(Reason.CONNECT_FAILED, detail=told), "and only there"


async def test_an_authority_of_ones_own_does_not_vouch_for_a_date_that_has_passed(certificates: Path) -> None:
    async with listening(answer, load_certificate(certificates, "expired")) as port:
        outcome = await send(f"https://localhost:{port}", Way(ca_file=certificates / "authority.pem"))
    told = "the provider's TLS certificate cannot be verified"
    assert outcome == Retryable(Reason.CONNECT_FAILED, detail=told)


async def test_a_port_without_tls_is_told(certificates: Path) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with listening(speak) as port:
        outcome = await send(f"https://localhost:{port}", Way(ca_file=certificates / "authority.pem"))
    assert outcome == Retryable(Reason.CONNECT_FAILED, detail="TLS failed: the port speaks none, or another version")


async def test_a_proxy_that_a_setting_names_is_gone_through(certificates: Path) -> None:
    proxy = Proxy()
    trust = certificates / "authority.pem"
    async with (
        listening(proxy.serve) as by,
        listening(answer) as plain,
        listening(answer, load_certificate(certificates, "good")) as secure,
    ):
        way = Way(trust, f"http://user:proxy-canary@127.0.0.1:{by}")
        assert await send(f"http://localhost:{plain}", way) == Accepted("m-1")
        assert await send(f"https://localhost:{secure}", way) == Accepted("m-1")
    assert [head.partition(b" ")[0] for head in proxy.heads] == [b"POST", b"CONNECT"]
    assert all(b"proxy-authorization: basic" in head.lower() for head in proxy.heads)
    assert b"secret-1" not in proxy.heads[1], "what TLS hides stays hidden"
    assert "canary" not in repr(way)


async def test_a_url_that_is_no_providers_is_gone_to_the_same_way() -> None:
    proxy = Proxy()
    async with listening(proxy.serve) as by, listening(answer) as plain:
        client = await open_plain_client(f"http://localhost:{plain}", way=Way(proxy=f"http://127.0.0.1:{by}"))
        got = await client.fetch(Request("POST", f"http://localhost:{plain}/hook", {}, b"{}"))
        await client.close()
    assert got is not None
    assert (got.status, len(proxy.heads)) == (202, 1)


async def test_a_proxy_of_the_environment_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with listening(proxy.serve) as by, listening(answer) as plain:
        for name in ENVIRONMENT:
            monkeypatch.setenv(name, f"http://127.0.0.1:{by}")
        assert await send(f"http://localhost:{plain}") == Accepted("m-1")
    assert proxy.heads == []


async def test_a_proxy_that_cannot_be_reached_or_refuses_has_sent_nothing(closed_port: int, certificates: Path) -> None:
    async with listening(answer, load_certificate(certificates, "good")) as secure, listening(refuse) as by:
        for port in (closed_port, by):
            outcome = await send(f"https://localhost:{secure}", Way(proxy=f"http://127.0.0.1:{port}"))
            assert isinstance(outcome, Retryable)
            assert outcome.reason is Reason.CONNECT_FAILED
