"""Reading a request: its headers in one pass, and its body under limits that are counted while reading."""

from __future__ import annotations

from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from app.api.problems import problem, unavailable

BUDGET = 32 * 1024 * 1024
CLOSE = {"Connection": "close"}  # what follows of the body is nobody's


class BodyRefused(HTTPException):
    """A body that is not read on; `answer` says why. FastAPI lets only an HTTPException out of its own reading."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class BodyBudget:
    """How many bytes of bodies all open requests hold."""

    def __init__(self) -> None:
        self.held = 0


class CountedBody:
    """A request's `receive` that raises BodyRefused once the body, or all open ones together, grow too long."""

    def __init__(self, receive: Receive, declared: str | None, longest: int, budget: BodyBudget, most: int) -> None:
        self._receive = receive
        self._longest = longest
        self._budget = budget
        self._most = most  # of the budget, which this request may bring it to
        self._length = 0
        self.refused = ""
        digits = declared if declared and declared.isascii() and declared.isdigit() else "0"
        self._is_too_long = int(digits[:12]) > longest

    async def __call__(self) -> Message:
        """Return what comes next."""
        if self._is_too_long:
            self._refuse_length()
        message = await self._receive()
        if body := message.get("body"):
            self._length += len(body)
            self._budget.held += len(body)
            if self._length > self._longest:
                self._refuse_length()
            if self._budget.held > self._most:
                self.refused = "busy"
                raise BodyRefused(unavailable("too much is being read at once; send it again", headers=CLOSE))
        return message

    def release(self) -> None:
        """Give back what was held: the request has ended."""
        self._budget.held -= self._length
        self._length = 0

    def _refuse_length(self) -> NoReturn:
        self.refused = "too_long"
        raise BodyRefused(problem(413, f"the body is longer than {self._longest // 1024} KiB", CLOSE))


async def read_body(request: Request) -> bytes | Response:
    """Return the body, or the answer to one that is too long or broke off."""
    try:
        return await request.body()
    except BodyRefused as error:
        return error.answer
    except ClientDisconnect:
        return problem(400, "the request ended before its body did")


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case; of one that comes twice the first."""
    # Starlette's own mapping searches its list for every key: the square of what a stranger sends.
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def list_header(scope: Scope, name: bytes) -> list[str]:
    """Return every value of one header, in their order."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def find_header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of one header."""
    return next(iter(list_header(scope, name)), None)
