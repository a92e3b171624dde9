"""Reading a request's body under a limit that is counted while reading."""

from __future__ import annotations

from starlette.requests import Request

LONGEST_BODY = 65_536


async def read_capped(request: Request) -> bytes | None:
    """Return the body, or None as soon as it is over 64 KiB, whatever Content-Length says of it.

    Raises ClientDisconnect where the sender went away in the middle.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:12]) > LONGEST_BODY:
        return None
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > LONGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)
