"""The way of one event and its receipt through the code: the files of app/ that run, in the order of their first call.

The relay runs in this process, with a provider on the same loop. It has had one event before, so that what a start does
is no part of the way. A profiler on every thread notes each function that is called from then on until the receipt of a
second event is answered.

    python -m tests.path        prints the files, each with its lines
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from tests.cost.measuring import YAML, Provider, ask
from tests.outside import ROOT, build_environment, describe_account, sign_event, sign_receipt

BESIDE = {
    "dispatcher.SWEEP_EVERY_S": 600,
    "reload.LOOK_EVERY_S": 600,
    "recorder.BURST": 1,
    "recorder.PER_SECOND": 1 / 600,
}
"""What is done every few seconds is no part of the way, and put off here: the sweep, the look at the YAML, and the
recorder, which keeps an event of a topic in five seconds once it has seen enough: here from the second on."""


class Notes:
    """The files of app/ of which a function was called while `running`, each once, in their order."""

    def __init__(self) -> None:
        self.running = False
        self._found: dict[str, None] = {}

    def note_call(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call, as a profiler."""
        path = frame.f_code.co_filename
        if event == "call" and self.running and path.startswith(f"{ROOT}/app/") and frame.f_code.co_name != "<module>":
            self._found.setdefault(path.removeprefix(f"{ROOT}/"))

    def list_files(self) -> list[str]:
        return list(self._found)


def trace_event() -> list[str]:
    """Return the files that one event and its receipt run through."""
    notes = Notes()
    later = (mock.patch(f"app.relay.{name}", value) for name, value in BESIDE.items())
    with contextlib.ExitStack() as stack:
        for patched in later:
            stack.enter_context(patched)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        threading.setprofile(notes.note_call)
        sys.setprofile(notes.note_call)
        try:
            asyncio.run(_run_relay(Path(folder), notes))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return notes.list_files()


async def _run_relay(folder: Path, notes: Notes) -> None:
    from app.main import create_app  # noqa: PLC0415  # so that what it imports is not a step of the way

    Provider.expected = 1
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yaml = YAML.format(account=describe_account("shop", url, rate="1000/s"))
    app = create_app(None, build_environment(folder, RELAY_CONFIG_YAML=yaml))
    async with app.router.lifespan_context(app):
        await _send_one(app, folder, 1)
        notes.running = True
        await _send_one(app, folder, 2)
        notes.running = False
    server.close()


async def _send_one(app: Any, folder: Path, number: int) -> None:
    payload = {"user_name": "Riya", "user_mobile": f"980000000{number}", "amount": "1250", "code": f"A-{number}"}
    headers = sign_event("walletreward_create", f"source-{number}")
    answer = await ask(app, "/webhooks/nector", headers, json.dumps(payload).encode())
    id_ = answer["deliveries"][0]["id"]
    with contextlib.closing(sqlite3.connect(f"file:{folder}/relay.db?mode=ro", uri=True)) as db:
        while db.execute("SELECT state FROM deliveries WHERE id = ?", (id_,)).fetchone() != ("accepted",):
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)  # what the lane does after
    told = json.dumps({"id": f"m-{id_}", "localMessageId": id_, "whatsapp": {"status": "delivered"}}).encode()
    await ask(app, "/webhooks/shop", sign_receipt(told), told)


def main() -> None:
    files = trace_event()
    lines = [len((ROOT / file).read_text().splitlines()) for file in files]
    sys.stdout.writelines(f"{count:5} {file}\n" for count, file in zip(lines, files, strict=True))
    sys.stdout.write(f"{len(files)} files, {sum(lines)} lines\n")


if __name__ == "__main__":
    main()
