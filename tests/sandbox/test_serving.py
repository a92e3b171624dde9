from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx2
import pytest
import uvloop

from app.errors import ConfigError, RelayError
from app.mapping.template import Template
from app.sandbox.app import serve_sandbox
from app.sandbox.vendor import SandboxSettings

BODY = {"channelId": "c", "userId": "u", "templateId": "tpl_1", "phone": "919800000001", "variables": []}
TEMPLATES = {("bitespeed", "tpl_1"): Template("bitespeed", "tpl_1", "Hello")}


async def run_once(settings: SandboxSettings) -> str:
    """Send one request to a sandbox in this loop; return how it ended."""
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_sandbox(settings, TEMPLATES, port=0, show=lambda _: None, on_bound=bound.set_result)
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await bound}", trust_env=False) as client:
            try:
                answer = await client.post("/", json=BODY, timeout=0.5 if "hang" in settings.faults else 40)
            except httpx2.TransportError as error:
                return type(error).__name__
            return str(answer.status_code)
    finally:
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ("", "200"),
        ("bitespeed=reset_after", "ReadError"),
        ("bitespeed=half_answer", "RemoteProtocolError"),
        ("bitespeed=hang", "ReadTimeout"),
    ],
)
def test_sandbox_runs_in_the_loop_of_another_program(loop_factory: Any, faults: str, expected: str) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(run_once(SandboxSettings(faults=faults))) == expected


async def test_hanging_request_does_not_keep_the_sandbox_from_ending() -> None:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = SandboxSettings(faults="bitespeed=hang")
    shown = asyncio.Event()
    serving = asyncio.create_task(
        serve_sandbox(settings, TEMPLATES, port=0, show=lambda _: shown.set(), on_bound=bound.set_result)
    )
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await bound}", trust_env=False) as client:
        request = asyncio.create_task(client.post("/", json=BODY, timeout=50))
        await shown.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, 40)
        with pytest.raises(httpx2.TransportError):
            await request


async def test_taken_port_is_told() -> None:
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(RelayError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use; choose"):
            await serve_sandbox(SandboxSettings(), {}, port=port, show=lambda _: None)


async def test_wrong_faults_are_told_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        await serve_sandbox(SandboxSettings(faults="gallabox=nosuch"), {}, port=0, show=lambda _: None)


def test_settings_print_no_secret() -> None:
    settings = SandboxSettings(
        gallabox_api_key="k3y",
        gallabox_api_secret="s3cret",
        gallabox_webhook_secret="h00k",
        bitespeed_webhook_token="t0ken",
    )
    assert not [secret for secret in ("k3y", "s3cret", "h00k", "t0ken") if secret in repr(settings)]


async def test_caller_that_leaves_while_it_sends_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_sandbox(SandboxSettings(), TEMPLATES, port=0, show=lambda _: None, on_bound=bound.set_result)
    )
    port = await bound
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
        await writer.drain()
        while not (await client.get("/sandbox/counts")).json()["seen"]:
            pass
        writer.close()
        await writer.wait_closed()
        assert (await client.get("/sandbox/counts")).json()["accepted"] == {}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    told = [record for record in caplog.records if record.name.startswith("uvicorn")]
    assert [record.getMessage() for record in told if record.levelno >= logging.WARNING] == []
