"""`/suppressions`: who gets no marketing. Numbers come in and are never shown again: what is kept are their hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.ops import PROBLEMS
from app.api.problems import problem
from app.api.reading import read_body
from app.outbox.suppressions import count_suppressions, lift_suppressions, list_suppressions, suppress_people
from app.relay.context import Context
from app.values.instant import format_instant
from app.values.phone import PhoneFault, read_phone
from app.values.stop_words import OptOut

LONGEST = 1_000
CURE = "write a mobile number with + and its country code, such as +919800000001"


Order = TypeVar("Order", bound=BaseModel)


class ListQuery(BaseModel, extra="forbid"):
    """Which page to show."""

    limit: int = Field(100, ge=1, le=1_000)
    cursor: str | None = None


def _check_reason(word: str) -> str:
    # A word and no more: it is shown to everybody, and nobody's number or name belongs there.
    if not re.fullmatch(r"[a-z][a-z_]{0,39}", word):
        raise ValueError("must be one word of small letters, such as complaint")
    return word


class LiftOrder(BaseModel, extra="forbid", hide_input_in_errors=True):
    """Whose suppression to end."""

    phones: list[str] = Field(min_length=1, max_length=LONGEST)


class SuppressOrder(LiftOrder):
    """Who is to get no marketing, and why, in a word."""

    reason: Annotated[str, AfterValidator(_check_reason)] = OptOut.BY_HAND.value


def build_router(desk: Context) -> APIRouter:
    """Return the paths about suppressions."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/suppressions", summary="Who gets no marketing, as hashes")
    async def show_suppressions(wanted: Annotated[ListQuery, Query()]) -> Response:
        try:
            rows, next_cursor = await desk.outbox.read(
                partial(list_suppressions, limit=wanted.limit, cursor=wanted.cursor)
            )
        except ValueError as error:
            return problem(422, f"cursor: {error}")
        counts = await desk.outbox.read(count_suppressions)
        shown = [{"id": row.id, "reason": row.reason, "since": format_instant(row.since)} for row in rows]
        return JSONResponse({"suppressions": shown, "unreachable": counts.unreachable, "next_cursor": next_cursor})

    @router.post("/suppressions", summary="Send no marketing to these numbers", openapi_extra=_describe(SuppressOrder))
    async def suppress(request: Request) -> Response:
        order = await _read_order(request, SuppressOrder)
        if isinstance(order, Response):
            return order
        numbers, invalid = _read_phones(desk, order.phones)
        changed = await desk.outbox.write(partial(suppress_people, numbers=numbers, reason=order.reason))
        counts = {"changed": changed, "unchanged": len(numbers) - changed}
        desk.log.info("suppressions.added", **counts, invalid=len(invalid), reason=order.reason, by="ops")
        return JSONResponse({**counts, "invalid": invalid})

    @router.post("/suppressions/remove", summary="Let these numbers have it again", openapi_extra=_describe(LiftOrder))
    async def lift(request: Request) -> Response:
        order = await _read_order(request, LiftOrder)
        if isinstance(order, Response):
            return order
        numbers, invalid = _read_phones(desk, order.phones)
        changed = await desk.outbox.write(partial(lift_suppressions, numbers=numbers))
        counts = {"changed": changed, "unchanged": len(numbers) - changed}
        desk.log.info("suppressions.removed", **counts, invalid=len(invalid), by="ops")
        return JSONResponse({**counts, "invalid": invalid})

    return router


def _describe(model: type[BaseModel]) -> dict[str, Any]:
    # The body is read under its limit, so FastAPI is told what it is rather than given it.
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


async def _read_order(request: Request, model: type[Order]) -> Order | Response:
    body = await read_body(request)
    if isinstance(body, Response):
        return body
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from None


def _read_phones(desk: Context, phones: Iterable[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the numbers that can be read, and by its place (from 0) what is wrong with each other one."""
    store = desk.rules.current().config.store
    numbers: list[str] = []
    invalid: list[dict[str, Any]] = []
    for place, phone in enumerate(phones):
        number = read_phone(phone, store.country, landlines=store.landlines)
        if isinstance(number, PhoneFault):
            invalid.append({"place": place, "detail": f"{number.detail}; {CURE}"})
        else:
            numbers.append(number)
    return numbers, invalid
