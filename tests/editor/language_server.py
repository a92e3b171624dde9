"""yaml-language-server over stdio, as an editor talks to it: JSON-RPC with the few requests that the tests need.

https://microsoft.github.io/language-server-protocol/specifications/lsp/3.17/specification/
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any

ANSWER_S = 45.0  # generous: the first answer waits for Node to load, on a machine that is busy
_ENDED = "ended"
CLIENT = {
    "workspace": {"configuration": True},
    "textDocument": {
        "completion": {"completionItem": {"documentationFormat": ["markdown"], "snippetSupport": True}},
        "hover": {"contentFormat": ["markdown"]},
        "publishDiagnostics": {},
    },
}
# What an editor asks the server for; the store of schemas is the network's, and no test needs it.
SETTINGS = {
    "yaml": {
        "validate": True,
        "hover": True,
        "completion": True,
        "schemaStore": {"enable": False},
        "kubernetesCRDStore": {"enable": False},
    }
}


@dataclass(frozen=True)
class Fault:
    """A red line: its place counts from 1, as editors and `nector-relay check` do."""

    line: int
    column: int
    text: str


@dataclass
class Document:
    """A file open in the editor. A place is where a text ends, so that a test can say "behind `mode: `"."""

    server: LanguageServer
    uri: str
    text: str

    def complete(self, behind: str) -> dict[str, Mapping[str, Any]]:
        """Return what is offered there, by label."""
        found = self.server.request("textDocument/completion", self._place(behind))
        items = found["items"] if isinstance(found, dict) else found or []
        return {item["label"]: item for item in items}

    def hover(self, behind: str) -> str:
        """Return what is shown over the word that ends there, "" if nothing is."""
        found = self.server.request("textDocument/hover", self._place(behind, back=1))
        return found["contents"]["value"] if found else ""

    def list_faults(self) -> list[Fault]:
        """Return the faults that the server found."""
        found = self.server.wait_for_diagnostics(self.uri)
        return [
            Fault(item["range"]["start"]["line"] + 1, item["range"]["start"]["character"] + 1, item["message"])
            for item in found
        ]

    def _place(self, behind: str, back: int = 0) -> dict[str, Any]:
        assert self.text.count(behind) == 1, f"{behind!r} has to stand in the document once"
        before = self.text[: self.text.index(behind) + len(behind) - back]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        return {"textDocument": {"uri": self.uri}, "position": {"line": line, "character": column}}


@dataclass
class LanguageServer:
    """A running server, initialized."""

    process: subprocess.Popen[bytes]
    incoming: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    diagnostics: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self, path: Path, text: str) -> Document:
        """Open `text` as the file at `path`, which need not exist: what counts in an editor is its buffer."""
        uri = path.as_uri()
        self.diagnostics.pop(uri, None)
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        return Document(self, uri, text)

    def request(self, method: str, params: Any) -> Any:
        """Return the answer to a request."""
        number = next(self.ids)
        self._send({"id": number, "method": method, "params": params})
        while (message := self._take(method)).get("id") != number or "method" in message:
            self._attend(message)
        assert "error" not in message, message
        return message["result"]

    def notify(self, method: str, params: Any) -> None:
        """Tell the server something that it does not answer."""
        self._send({"method": method, "params": params})

    def wait_for_diagnostics(self, uri: str) -> Sequence[Mapping[str, Any]]:
        """Return the diagnostics of a document once they are there."""
        while uri not in self.diagnostics:
            self._attend(self._take(f"diagnostics of {uri}"))
        return self.diagnostics[uri]

    def _attend(self, message: Mapping[str, Any]) -> None:
        match message.get("method"):
            case "textDocument/publishDiagnostics":
                self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
            case "workspace/configuration":
                sections = [item.get("section") for item in message["params"]["items"]]
                self._send({"id": message["id"], "result": [SETTINGS.get(section, {}) for section in sections]})
            case _ if "id" in message and "method" in message:
                self._send({"id": message["id"], "result": None})
            case _:
                pass

    def _take(self, what: str) -> dict[str, Any]:
        try:
            message = self.incoming.get(timeout=ANSWER_S)
        except queue.Empty:
            raise AssertionError(f"the language server did not answer: {what}") from None
        assert message.get("method") != _ENDED, f"the language server ended; not answered: {what}"
        return message

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()


@contextmanager
def run_language_server(command: Sequence[str], folder: Path) -> Iterator[LanguageServer]:
    """Start a server for the files of `folder`; it is ended behind the block."""
    with (folder / "language-server.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=folder)
    server = LanguageServer(process)
    assert process.stdout is not None
    reader = threading.Thread(target=_read_messages, args=(process.stdout, server.incoming), daemon=True)
    reader.start()
    try:
        root = folder.as_uri()
        server.request("initialize", {"processId": None, "rootUri": root, "capabilities": CLIENT})
        server.notify("initialized", {})
        server.notify("workspace/didChangeConfiguration", {"settings": SETTINGS})
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # a server that ended read the last request no more
                    stream.close()


def _read_messages(stream: IO[bytes], incoming: queue.Queue[dict[str, Any]]) -> None:
    while header := stream.readline():
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            while stream.readline().strip():
                pass
            incoming.put(json.loads(stream.read(int(value))))
    incoming.put({"method": _ENDED})
