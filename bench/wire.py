"""HTTP/1.1 with as little work as can be: what is measured must be the relay, not its surroundings.

Only what the two ends here send: bodies with a content-length, connections that stay open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Packet:
    """A request or an answer: its first line and its body."""

    first_line: bytes
    body: bytes


class Inbox:
    """The bytes of one connection, cut into packets."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that `data` completes."""
        self._bytes += data
        packets = []
        while (end := self._bytes.find(_HEAD_END)) >= 0:
            head = self._bytes[:end]
            if b"\r\ntransfer-encoding:" in head.lower():
                raise ValueError("a chunked body: the bench reads only bodies with a content-length")
            length = _LENGTH.search(head)
            last = end + len(_HEAD_END) + (int(length[1]) if length else 0)
            if len(self._bytes) < last:
                break
            packets.append(Packet(head.partition(b"\r\n")[0], self._bytes[end + len(_HEAD_END) : last]))
            self._bytes = self._bytes[last:]
        return packets


def build_answer(status: bytes, body: bytes) -> bytes:
    """Return a JSON answer; `status` is such as `200 OK`."""
    length = str(len(body)).encode()
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %b\r\n\r\n%b" % (status, length, body)
