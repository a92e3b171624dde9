"""`POST /erase` and `POST /export`: everything that is kept of one person goes, or is shown to them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.ops import PROBLEMS
from app.api.problems import problem
from app.outbox.erase import erase_person
from app.outbox.export import export_person
from app.relay.context import Context
from app.values.instant import format_instant
from app.values.phone import PhoneFault, mask_phone, read_phone

_CURE = "write it with + and its country code"
_NOT_KEPT = {"Cache-Control": "no-store"}  # by no proxy and no browser


class PersonOrder(BaseModel, extra="forbid"):
    """Whose data: a mobile number, with its country code or as in `store.country`."""

    phone: str = Field(max_length=40)


def build_router(desk: Context) -> APIRouter:
    """Return the paths about one person's data."""
    router = APIRouter(responses=PROBLEMS)

    @router.post("/erase", summary="Erase what is kept of a person")
    async def erase(order: PersonOrder) -> Response:
        number = _read_number(order, desk)
        if isinstance(number, PhoneFault):
            return _refuse(number)
        erased = await erase_person(desk.outbox, number)
        counts = {"events": erased.events, "deliveries": erased.deliveries, "open": erased.open}
        desk.log.warning("person.erased", phone=mask_phone(number), **counts, by="ops")
        answer = {"phone": mask_phone(number), **counts, "log_emptied": erased.log_emptied}
        return JSONResponse({**answer, "opt_out_kept": erased.opted_out})

    @router.post("/export", summary="Show what is kept of a person, unmasked")
    async def export(order: PersonOrder) -> Response:
        number = _read_number(order, desk)
        if isinstance(number, PhoneFault):
            return _refuse(number)
        record = await export_person(desk.outbox, number)
        desk.log.warning("person.exported", phone=mask_phone(number), events=len(record["events"]), by="ops")
        return JSONResponse({**record, "exported_at": format_instant(desk.clock())}, headers=_NOT_KEPT)

    return router


def _read_number(order: PersonOrder, desk: Context) -> str | PhoneFault:
    store = desk.rules.current().config.store
    return read_phone(order.phone, store.country, landlines=store.landlines)


def _refuse(fault: PhoneFault) -> Response:
    return problem(422, f"phone: the number {fault.detail}; {_CURE}")
