"""`/openapi.json`: each path with who may call it and what it answers. Built only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, create_model
from pydantic.json_schema import models_json_schema

from app.api.guard import PUBLIC
from app.api.strangers import PATH, RECEIPTS
from app.delivery.status import Status
from app.model.delivery import State
from app.outbox.values import LedgerRow
from app.sources import SOURCE
from app.sources.nector import SECRET_HEADER

_REFERENCE = "#/components/schemas/{model}"
_TAKEN = {
    "202": "Taken", "200": "Known already", "400": "No JSON", "401": "Another secret", "413": "Over 64 KiB",
    "415": "Another media type", "422": "No topic, or no object", "503": "Could not be committed: send it again",
}  # fmt: skip
SCHEMES: Mapping[str, Mapping[str, str]] = {
    "adminToken": {"type": "http", "scheme": "bearer", "description": "RELAY_ADMIN_TOKEN"},
    "webhookSecret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER, "description": "its SHA-256, in hex"},
    "receiptSignature": {
        "type": "apiKey", "in": "header", "name": "x-gallabox-signature", "description": "HMAC-SHA256",
    },
    "receiptToken": {"type": "apiKey", "in": "query", "name": "token"},
}  # fmt: skip


class Answer(BaseModel):
    """New keys may come."""

    model_config = ConfigDict(extra="ignore")


_Object = dict[str, JsonValue]
_Objects = list[_Object]


def _describe(
    name: str, texts: str = "", optional: str = "", base: type[Answer] = Answer, **others: Any
) -> type[Answer]:
    """Return a model: `texts` are its fields that hold a text, `optional` those that hold one or null."""
    fields = {**dict.fromkeys(texts.split(), str), **dict.fromkeys(optional.split(), str | None), **others}
    made: type[Answer] = create_model(name, __base__=base, **{key: (type_, ...) for key, type_ in fields.items()})  # type: ignore[call-overload]  # mypy reads a mapping's keys as any of its arguments
    return made


Problem = _describe("Problem", "type title detail", status=int)
QueuedDelivery = _describe("QueuedDelivery", "id route provider", state=State)
DeliveryRow = _describe(
    "DeliveryRow",
    "id event_id topic route provider template recipient created_at updated_at",
    "reason receipt next_attempt_at",
    state=State | Literal["held"],
    attempts=int,
)
Delivery = _describe(
    "Delivery",
    "on_unknown config_hash",
    "detail deadline_at last_attempt_at provider_message_id gap_until",
    base=DeliveryRow,
    config_line=int | None,
    **dict.fromkeys(("event", "config"), _Object),
    **dict.fromkeys(("message", "lane"), _Object | None),
    **dict.fromkeys(("attempt_list", "receipts", "timeline", "hold_changes", "siblings"), _Objects),
)
HoldRow = _describe("HoldRow", "scope reason since", "probe_at by until", deliveries=int)


class Replay(Answer):
    """A plan has all but the last two; what came of it, the first two and those."""

    plan_id: str
    counts: dict[str, int]
    config_hash: str | None = None
    created_at: str | None = None
    complete: bool | None = None
    unlisted: int | None = None
    entries: _Objects | None = None
    deliveries: _Objects | None = None
    left_out: _Objects | None = None


_Rows = list[DeliveryRow]  # type: ignore[valid-type]  # made above
_Deliveries = _describe("Deliveries", optional="next_cursor", deliveries=_Rows)
_Changed = _describe("ChangedPeople", changed=int, unchanged=int, invalid=_Objects)
ANSWERS: Mapping[tuple[str, str], type[BaseModel] | None] = {
    ("post", PATH): _describe("TakenEvent", "event_id status", deliveries=list[QueuedDelivery]),  # type: ignore[valid-type]  # made above
    ("get", "/healthz"): _describe("Health", "status"),
    ("get", "/readyz"): _describe("Readiness", "status config"),
    ("get", "/webhooks/{provider}"): None,
    ("post", "/webhooks/{provider}"): _describe("TakenReceipts", "status"),
    ("get", "/metrics"): None,
    ("get", "/deliveries"): _Deliveries,
    ("post", "/deliveries/find"): _Deliveries,
    ("get", "/events/{event_id}"): _describe(
        "Event", "id source topic received_at", "delivery_id", is_kept=bool, deliveries=_Rows, routes_today=list[str]
    ),
    ("get", "/events/{event_id}/routes"): _describe("Routes", "id topic", notes=list[str], routes=_Objects),
    ("get", "/status"): Status,
    ("get", "/deliveries/reasons"): _describe("Reasons", reasons=_Objects),
    ("get", "/deliveries/{delivery_id}"): Delivery,
    ("post", "/deliveries/retry"): _describe("Retried", retried=list[str], skipped=dict[str, int], why=dict[str, str]),
    ("post", "/deliveries/{delivery_id}/retry"): _describe("RetriedOne", retried=list[str]),
    ("get", "/holds"): _describe("Holds", holds=list[HoldRow]),  # type: ignore[valid-type]  # made above
    ("put", "/holds/{scope}"): HoldRow,
    ("delete", "/holds/{scope}"): None,
    ("post", "/reload"): _describe("Reloaded", "hash"),
    ("get", "/report"): _describe(
        "Report", "since until by window note", rows=list[LedgerRow], total=dict[str, int | None], unheard=_Objects
    ),
    ("post", "/erase"): _describe(
        "Erased", "phone", events=int, deliveries=int, open=int, log_emptied=bool, opt_out_kept=bool
    ),
    ("post", "/export"): _describe(
        "Exported", "phone exported_at", "unreachable_since", marketing=_Object, events=_Objects
    ),
    ("get", "/suppressions"): _describe("Suppressions", optional="next_cursor", suppressions=_Objects, unreachable=int),
    ("post", "/suppressions"): _Changed,
    ("post", "/suppressions/remove"): _Changed,
    ("post", "/replay"): Replay,
    ("post", "/diff"): _describe(
        "Differences", "hash in_force", events=int, wiped=int, changes=_Objects, next=int | None
    ),
    ("get", "/examples"): _describe("Examples", examples=_Objects),
    ("post", "/send-test"): QueuedDelivery,
}
"""What each path answers where all is well; None: a text, or nothing."""


def describe_answers(described: dict[str, Any]) -> dict[str, Any]:
    """Return what FastAPI says of its paths, and the webhook's, with who may call each and what it answers."""
    described["info"]["version"] = version("nector-relay")
    events: list[Any] = [(model, "validation") for model in dict.fromkeys(map(SOURCE.find_model, SOURCE.topics))]
    answers: list[Any] = [
        (model, "serialization") for model in dict.fromkeys((Problem, *filter(None, ANSWERS.values())))
    ]
    references, schemas = models_json_schema([*events, *answers], ref_template=_REFERENCE)
    named = {model: references[model, mode] for model, mode in answers}
    body = {"application/json": {"schema": {"anyOf": [references[each] for each in events]}}}
    post = {
        "summary": f"Take one {SOURCE.title} webhook",
        "requestBody": {"required": True, "content": body},
        "responses": {status: {"description": text} for status, text in _TAKEN.items()},
    }
    described["paths"] = {PATH: {"post": post}, **described["paths"]}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            operation["security"] = _find_security(path, method)
            model = ANSWERS.get((method, path))
            for status, answer in operation["responses"].items():
                if int(status) >= 400:  # noqa: PLR2004  # the status itself is the clearest name
                    answer["content"] = {"application/problem+json": {"schema": named[Problem]}}
                elif model is not None:
                    answer["content"] = {"application/json": {"schema": named[model]}}
    components = described["components"]
    components["schemas"] = {**components["schemas"], **schemas["$defs"]}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {name: dict(scheme) for name, scheme in SCHEMES.items()}
    return described


def _find_security(path: str, method: str) -> list[dict[str, list[str]]]:
    """Return what opens a path: any of these; nothing is needed where there is none."""
    if path in PUBLIC or (path.startswith(RECEIPTS) and method == "get"):
        return []
    if path == PATH:
        return [{"webhookSecret": []}]
    return [{"receiptSignature": []}, {"receiptToken": []}] if path.startswith(RECEIPTS) else [{"adminToken": []}]
