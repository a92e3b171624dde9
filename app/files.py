"""Files that a person names are read in bounds: a pipe, a device or a huge file holds nobody up."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

SILENCE_MS = 5_000  # of a pipe
_MIB = 1_048_576


def read_bytes(path: Path, longest: int, *, cut: bool = False) -> bytes:
    """Return what a file holds; raises OSError, also where that is longer than `longest`.

    `cut`: where it is longer, return a byte more than `longest` instead. A pipe is read, too, as long as something
    comes from it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        read = bytearray()
        while len(read) <= longest:
            if not poll.poll(SILENCE_MS):
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came from it in {SILENCE_MS // 1000} s")
            part = os.read(descriptor, longest + 1 - len(read))
            if not part:
                break
            read += part
    finally:
        os.close(descriptor)
    if len(read) > longest and not cut:
        raise OSError(errno.EFBIG, f"it is longer than {longest / _MIB:g} MiB")
    return bytes(read)
