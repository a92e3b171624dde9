"""The model's answers about replays: a plan is kept for a day and applied once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.delivery.replay import KEEP_PLAN_MS, Verdict, find_obstacle
from app.model.delivery import Delivery
from app.outbox.replay import Plan
from app.outbox.values import DeliveryState
from tests.outbox.outbox_model import OutboxModel
from tests.outbox.outbox_rows import (
    key_of,
    show_past,
    show_state,
)


def save_plan(model: OutboxModel, plan: Plan) -> None:
    model.plans.setdefault(plan.id, plan)


def apply_plan(
    model: OutboxModel, plan_id: str, deliveries: Sequence[Delivery], now: int
) -> tuple[tuple[DeliveryState, ...], Mapping[str, Verdict]] | None:
    plan = model.plans.get(plan_id)
    if plan is None or plan.applied_at is not None or plan.created_at <= now - KEEP_PLAN_MS:
        return None
    model.plans[plan_id] = Plan(plan.id, plan.created_at, plan.config_hash, plan.entries, now)
    added: list[DeliveryState] = []
    left_out: dict[str, Verdict] = {}
    for each in deliveries:
        verdict = find_verdict(model, each, now)
        if verdict is not None:
            left_out[each.id] = verdict
            continue
        kept = model.find_event(each.event_id)
        assert kept is not None
        kept.rows.append(model.make(each, each.state, each.reason))
        added.append(show_state(kept.rows[-1]))
    return tuple(added), left_out


def find_verdict(model: OutboxModel, it: Delivery, now: int) -> Verdict | None:
    kept = model.find_event(it.event_id)
    if kept is None or kept.wiped:
        return Verdict.WIPED
    obstacle = find_obstacle(it, [show_past(row) for row in kept.rows])
    if obstacle is not None:
        return obstacle.verdict
    if it.deadline_at <= now:
        return Verdict.EXPIRED
    if model.people.stops(it, it.state):
        return Verdict.DEAD
    key = key_of(it)
    if key is not None and not model.see(key, it.created_at, it.event_id, again=True):
        return Verdict.DUPLICATE
    return None
