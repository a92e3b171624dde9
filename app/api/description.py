"""`/openapi.json`: each path with who may call it and what it answers. Built only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model
from pydantic.json_schema import models_json_schema

from app.api.guard import PATH, PUBLIC, RECEIPTS
from app.delivery.status import Status
from app.model.delivery import State
from app.outbox.values import LedgerRow
from app.sources.nector import SECRET_HEADER

_REFERENCE = "#/components/schemas/{model}"
_REFUSALS = {
    "400": "No JSON", "401": "Another secret", "413": "Over 64 KiB", "415": "Another media type",
    "422": "No topic, or no object", "503": "Could not be committed: send it again",
}  # fmt: skip
SCHEMES: Mapping[str, Mapping[str, str]] = {
    "adminToken": {"type": "http", "scheme": "bearer", "description": "RELAY_ADMIN_TOKEN"},
    "webhookSecret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER, "description": "its SHA-256, in hex"},
    "receiptSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "x-gallabox-signature",
        "description": "HMAC-SHA256",
    },
    "receiptToken": {"type": "apiKey", "in": "query", "name": "token"},
}


class Answer(BaseModel):
    """New keys may come."""

    model_config = ConfigDict(extra="ignore")


class Problem(Answer):
    """An error as RFC 9457 writes it."""

    type: str
    title: str
    status: int
    detail: str


class QueuedDelivery(Answer):
    """A delivery as an event's answer names it."""

    id: str
    route: str
    provider: str
    state: State


class DeliveryRow(Answer):
    """A delivery as listed, its recipient masked; `held` is a pending one behind a hold."""

    id: str
    event_id: str
    topic: str
    route: str
    provider: str
    template: str
    recipient: str
    state: State | Literal["held"]
    reason: str | None
    receipt: str | None
    attempts: int
    created_at: str
    updated_at: str
    next_attempt_at: str | None


class Delivery(DeliveryRow):
    """A delivery with its whole story."""

    detail: str | None
    deadline_at: str | None
    last_attempt_at: str | None
    provider_message_id: str | None
    on_unknown: str
    config_hash: str
    config_line: int | None
    event: dict[str, JsonValue]
    message: dict[str, JsonValue] | None
    attempt_list: list[dict[str, JsonValue]]
    receipts: list[dict[str, JsonValue]]
    timeline: list[dict[str, JsonValue]]
    hold_changes: list[dict[str, JsonValue]]
    siblings: list[dict[str, JsonValue]]
    config: dict[str, JsonValue]
    gap_until: str | None = Field(description="So long the six seconds since the last message to this person last.")
    lane: dict[str, JsonValue] | None = Field(description="Of one that waits: how its provider's lane stands.")


class HoldRow(Answer):
    """A scope that is stopped."""

    scope: str
    reason: str
    since: str
    deliveries: int
    probe_at: str | None
    by: str | None
    until: str | None


class Replay(Answer):
    """A plan, or what came of it."""

    plan_id: str
    counts: dict[str, int]
    config_hash: str | None = Field(None, description="Of a plan, as the four after it.")
    created_at: str | None = None
    complete: bool | None = None
    unlisted: int | None = None
    entries: list[dict[str, JsonValue]] | None = None
    deliveries: list[dict[str, JsonValue]] | None = Field(None, description="Of a plan that was applied.")
    left_out: list[dict[str, JsonValue]] | None = None


def _list(name: str, **fields: Any) -> type[Answer]:
    """Return the model of an answer that needs no class of its own."""
    made: type[Answer] = create_model(name, __base__=Answer, **{key: (type_, ...) for key, type_ in fields.items()})  # type: ignore[call-overload]  # mypy reads a mapping's keys as any of its arguments
    return made


_Object = dict[str, JsonValue]
_Deliveries = _list("Deliveries", deliveries=list[DeliveryRow], next_cursor=str | None)
_Event = _list(
    "Event",
    id=str,
    source=str,
    topic=str,
    received_at=str,
    delivery_id=str | None,
    is_kept=bool,
    deliveries=list[DeliveryRow],
    routes_today=list[str],
)
_Changed = _list("ChangedPeople", changed=int, unchanged=int, invalid=list[_Object])
_Retried = _list("Retried", retried=list[str], skipped=dict[str, int], why=dict[str, str])
_Taken = _list("TakenEvent", event_id=str, status=str, deliveries=list[QueuedDelivery])
_Erased = _list(
    "Erased", phone=str, events=int, deliveries=int, open=int, log_emptied=bool, opt_out_kept=bool
)  # fmt: skip
_Exported = _list(
    "Exported", phone=str, marketing=_Object, unreachable_since=str | None, events=list[_Object], exported_at=str
)
_Report = _list(
    "Report",
    since=str,
    until=str,
    by=str,
    window=str,
    rows=list[LedgerRow],
    total=dict[str, int | None],
    unheard=list[_Object],
    note=str,
)
ANSWERS: Mapping[tuple[str, str], type[BaseModel] | None] = {
    ("post", PATH): _Taken,
    ("get", "/healthz"): _list("Health", status=str),
    ("get", "/readyz"): _list("Readiness", status=str, config=str),
    ("get", "/webhooks/{provider}"): None,
    ("post", "/webhooks/{provider}"): _list("TakenReceipts", status=str),
    ("get", "/metrics"): None,
    ("get", "/deliveries"): _Deliveries,
    ("post", "/deliveries/find"): _Deliveries,
    ("get", "/events/{event_id}"): _Event,
    ("get", "/events/{event_id}/routes"): _list("Routes", id=str, topic=str, notes=list[str], routes=list[_Object]),
    ("get", "/status"): Status,
    ("get", "/deliveries/reasons"): _list("Reasons", reasons=list[_Object]),
    ("get", "/deliveries/{delivery_id}"): Delivery,
    ("post", "/deliveries/retry"): _Retried,
    ("post", "/deliveries/{delivery_id}/retry"): _list("RetriedOne", retried=list[str]),
    ("get", "/holds"): _list("Holds", holds=list[HoldRow]),
    ("put", "/holds/{scope}"): HoldRow,
    ("delete", "/holds/{scope}"): None,
    ("post", "/reload"): _list("Reloaded", hash=str),
    ("get", "/report"): _Report,
    ("post", "/erase"): _Erased,
    ("post", "/export"): _Exported,
    ("get", "/suppressions"): _list(
        "Suppressions", suppressions=list[_Object], unreachable=int, next_cursor=str | None
    ),
    ("post", "/suppressions"): _Changed,
    ("post", "/suppressions/remove"): _Changed,
    ("post", "/replay"): Replay,
    ("post", "/diff"): _list(
        "Differences", hash=str, in_force=str, events=int, wiped=int, changes=list[_Object], next=int | None
    ),
    ("get", "/examples"): _list("Examples", examples=list[_Object]),
    ("post", "/send-test"): QueuedDelivery,
}
"""What each path answers where all is well; None: a text, or nothing."""


def describe_answers(described: dict[str, Any]) -> dict[str, Any]:
    """Return what FastAPI and the webhook say of their paths, with who may call each and what it answers."""
    described["info"]["version"] = version("nector-relay")
    models: dict[type[BaseModel], None] = {model: None for model in (Problem, *ANSWERS.values()) if model is not None}
    references, schemas = models_json_schema([(model, "serialization") for model in models], ref_template=_REFERENCE)
    named = {model: references[model, "serialization"] for model in models}
    taken = described["paths"][PATH]["post"]["responses"]
    taken["200"] = {"description": "Known already"}
    taken.update({status: {"description": text} for status, text in _REFUSALS.items()})
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
