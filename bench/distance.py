"""A network of 1 ms a round trip: passes TCP on, each way half of that later.

`python -m bench.distance LISTEN_PORT SERVER_PORT`
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from contextlib import suppress

ONE_WAY_S = 0.0005
CHUNK = 262_144


def carry(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, in its order, each piece half a millisecond after it came."""
    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_deliver, args=(waiting, target), daemon=True).start()
    with suppress(OSError):
        while data := source.recv(CHUNK):
            waiting.put((time.monotonic() + ONE_WAY_S, data))
    waiting.put((0.0, b""))


def _deliver(waiting: queue.SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due_at, data = waiting.get()
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            time.sleep(max(due_at - time.monotonic(), 0))
            target.sendall(data)


def main(port: int, server: int) -> None:
    """Listen until killed."""
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        client, _ = listener.accept()
        onward = socket.create_connection(("127.0.0.1", server))
        for each in (client, onward):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ends in ((client, onward), (onward, client)):
            threading.Thread(target=carry, args=ends, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
