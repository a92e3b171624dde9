"""The README's curl is a real client: it is run as it stands there, against a relay of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_the_readme_stays_short() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert [line for line in lines if len(line) > 160] == []
    assert len(re.findall(r"\]\(", README.read_text().rstrip().rpartition("\n\n")[2])) <= 8


async def test_the_curl_of_the_readme_gets_202_and_the_sandbox_shows_the_message(
    environment: dict[str, str], sandbox: Any, tmp_path: Path
) -> None:
    if not (shutil.which("curl") and shutil.which("sha256sum")):
        pytest.skip("needs curl and sha256sum")
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (command,) = [each for each in blocks if "curl -i" in each]
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())  # as the page says, and read as it says
    own = {"RELAY_CONFIG", "RELAY_DATABASE_URL", "GALLABOX_BASE_URL", "BITESPEED_BASE_URL"}
    given = {"PATH": os.environ["PATH"], **{name: environment[name] for name in own}}
    relay = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", "0",
        env=given, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{await read_port(relay)}"
        script = f"set -eu\n{command}".replace("http://127.0.0.1:8000", url)
        curl = await asyncio.create_subprocess_exec(
            "sh", "-c", script, env={"PATH": os.environ["PATH"]},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        answer = (await curl.communicate())[0].decode()
        assert answer.startswith("HTTP/1.1 202"), answer
        async with asyncio.timeout(20):
            while not (messages := await sandbox.messages()):
                await asyncio.sleep(0.05)
    finally:
        relay.terminate()
        await relay.communicate()
    assert "Hi Riya, you just earned 1,250 coins." in " ".join(messages[0]["text"].replace("│", "").split())


async def read_port(relay: asyncio.subprocess.Process) -> int:
    """Return the port that the relay says it listens on."""
    assert relay.stdout is not None
    async with asyncio.timeout(30):
        async for line in relay.stdout:
            said = json.loads(line) if line.startswith(b"{") else {}
            if said.get("event") == "relay.listening":
                return int(said["port"])
    raise AssertionError("the relay ended before it listened")
