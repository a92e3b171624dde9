"""Reading a request's body under a limit that is counted while reading."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.api.problems import problem

LONGEST_BODY = 65_536


async def read_body(request: Request) -> bytes | Response:
    """Return the body, or the answer to one that is too long or broke off.

    413 comes as soon as more than 64 KiB have, whatever Content-Length says.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:12]) > LONGEST_BODY:
        return _too_long()
    parts, length = [], 0
    try:
        async for part in request.stream():
            length += len(part)
            if length > LONGEST_BODY:
                return _too_long()
            parts.append(part)
    except ClientDisconnect:
        return problem(400, "the request ended before its body did")
    return b"".join(parts)


def _too_long() -> Response:
    return problem(413, "the body is longer than 64 KiB")
