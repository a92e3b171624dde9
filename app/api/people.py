"""`/erase`, `/export` and `/suppressions`: what is kept of a person, and who gets no marketing.

Numbers come in and are shown again masked at most: of those who get no marketing only hashes are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api import PROBLEMS, problem
from app.api.deliveries import read_number
from app.model.message import OptOut
from app.outbox.erase import erase_person, export_person
from app.outbox.people import count_suppressions, lift_suppressions, list_suppressions, suppress_people
from app.relay import Context
from app.values.instant import format_instant
from app.values.phone import PhoneFault, mask_phone, read_phone

LONGEST = 1_000
CURE = "write a mobile number with + and its country code, such as +919800000001"


def _check_reason(word: str) -> str:
    # A word and no more: it is shown to everybody, and nobody's number or name belongs there.
    if not re.fullmatch(r"[a-z][a-z_]{0,39}", word):
        raise ValueError("must be one word of small letters, such as complaint")
    return word


class PersonOrder(BaseModel, extra="forbid"):
    """The order names whose data: a mobile number, with its country code or as in `store.country`."""

    phone: str = Field(max_length=40)


class ListQuery(BaseModel, extra="forbid"):
    """Which page to show."""

    limit: int = Field(100, ge=1, le=1_000)
    cursor: str | None = None


class LiftOrder(BaseModel, extra="forbid", hide_input_in_errors=True):
    """The order names people whose suppression is to end."""

    phones: list[str] = Field(min_length=1, max_length=LONGEST)


class SuppressOrder(LiftOrder):
    """The order names people who are to get no marketing, and why, in a word."""

    reason: Annotated[str, AfterValidator(_check_reason)] = OptOut.BY_HAND.value


def build_router(context: Context) -> APIRouter:
    """Return the paths about people."""
    router = APIRouter(responses=PROBLEMS, strict_content_type=False)
    outbox, log = context.outbox, context.log

    @router.post("/erase", summary="Erase what is kept of a person")
    async def erase(order: PersonOrder) -> Response:
        number = read_number(context, order.phone)
        erased = await erase_person(outbox, number)
        counts = {"events": erased.events, "deliveries": erased.deliveries, "open": erased.open}
        log.warning("person.erased", phone=mask_phone(number), **counts, by="ops")
        return JSONResponse({"phone": mask_phone(number), **asdict(erased)})

    @router.post("/export", summary="Show what is kept of a person, unmasked")
    async def export(order: PersonOrder) -> Response:
        number = read_number(context, order.phone)
        record = await export_person(outbox, number)
        log.warning("person.exported", phone=mask_phone(number), events=len(record["events"]), by="ops")
        return JSONResponse({**record, "exported_at": format_instant(context.clock())})

    @router.get("/suppressions", summary="Who gets no marketing, as hashes")
    async def show_suppressions(wanted: Annotated[ListQuery, Query()]) -> Response:
        try:
            rows, next_cursor = await outbox.read(partial(list_suppressions, limit=wanted.limit, cursor=wanted.cursor))
        except ValueError as error:
            return problem(422, f"cursor: {error}")
        counts = await outbox.read(count_suppressions)
        return JSONResponse({"suppressions": list(rows), "unreachable": counts.unreachable, "next_cursor": next_cursor})

    @router.post("/suppressions", summary="Send no marketing to these numbers")
    async def suppress(order: SuppressOrder) -> Response:
        numbers, invalid = _read_numbers(context, order.phones)
        changed = await outbox.write(partial(suppress_people, numbers=numbers, reason=order.reason))
        counts = {"changed": changed, "unchanged": len(numbers) - changed}
        log.info("suppressions.added", **counts, invalid=len(invalid), reason=order.reason, by="ops")
        return JSONResponse({**counts, "invalid": invalid})

    @router.post("/suppressions/remove", summary="Let these numbers have it again")
    async def lift(order: LiftOrder) -> Response:
        numbers, invalid = _read_numbers(context, order.phones)
        changed = await outbox.write(partial(lift_suppressions, numbers=numbers))
        counts = {"changed": changed, "unchanged": len(numbers) - changed}
        log.info("suppressions.removed", **counts, invalid=len(invalid), by="ops")
        return JSONResponse({**counts, "invalid": invalid})

    return router


def _read_numbers(context: Context, phones: Iterable[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the numbers that can be read, and by its place (from 0) what is wrong with each other one."""
    numbers: list[str] = []
    invalid: list[dict[str, Any]] = []
    store = context.snapshot.config.store
    for place, phone in enumerate(phones):
        number = read_phone(phone, store.country, landlines=store.landlines)
        if isinstance(number, PhoneFault):
            invalid.append({"place": place, "detail": f"{number.detail}; {CURE}"})
        else:
            numbers.append(number)
    return numbers, invalid
