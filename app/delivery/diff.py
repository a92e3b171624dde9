"""Two versions of the YAML are compared by what each makes of one event. Values are masked, and keep their shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.model.delivery import Delivery, State
from app.model.message import Message
from app.values.instant import format_instant
from app.values.phone import mask_phone

_LONGEST_SHOWN = 60


class Change(StrEnum):
    """A message changes in one of these ways. The closed set: scripts use these."""

    NEWLY = "newly_sent"
    NO_LONGER = "no_longer_sent"
    PROVIDER = "another_provider"
    TEMPLATE = "another_template"
    NUMBER = "another_number"
    CONTENT = "other_content"


@dataclass(frozen=True, slots=True)
class Difference:
    """One message that differs. `what` names fields or a reason and never values; `was` and `now` are masked."""

    change: Change
    route: str
    what: str
    was: str
    now: str


def compare_deliveries(before: Sequence[Delivery], after: Sequence[Delivery]) -> Iterator[Difference]:
    """Yield what differs between the deliveries that two versions make of one event.

    A route that is only renamed is known by its template and recipient: the customer sees no difference.
    """
    named = {delivery.route: delivery for delivery in after}
    left = [delivery for delivery in after if delivery.route not in {old.route for old in before}]
    for old in before:
        new = named.get(old.route) or next((one for one in left if _name_duty(one) == _name_duty(old)), None)
        left = [one for one in left if one is not new]
        yield from _compare(old, new)
    for new in left:
        yield from _compare(None, new)


def _name_duty(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.provider, delivery.template, delivery.recipient


def _compare(old: Delivery | None, new: Delivery | None) -> Iterator[Difference]:
    was, now = _find_sent(old), _find_sent(new)
    route = new.route if new else old.route if old else ""
    if old is None or was is None:
        if new is not None and now is not None:
            yield Difference(Change.NEWLY, route, _name_end(old), _describe_end(old), _describe_message(new, now))
    elif new is None or now is None:
        yield Difference(Change.NO_LONGER, route, _name_end(new), _describe_message(old, was), _describe_end(new))
    else:
        yield from _compare_sent(old, was, new, now)


def _compare_sent(old: Delivery, was: Message, new: Delivery, now: Message) -> Iterator[Difference]:
    if old.provider != new.provider:
        yield Difference(Change.PROVIDER, new.route, "", old.provider, new.provider)
    if old.template != new.template:
        yield Difference(Change.TEMPLATE, new.route, "", old.template, new.template)
    if was.recipient != now.recipient:
        yield Difference(Change.NUMBER, new.route, "", mask_phone(was.recipient), mask_phone(now.recipient))
    if (old.provider, old.template) != (new.provider, new.template):
        return  # of another template everything may differ
    parts, others = dict(_list_parts(was)), dict(_list_parts(now))
    changed = [name for name in {**parts, **others} if parts.get(name) != others.get(name)]
    if changed:
        shown = (", ".join(f"{name}: {each.get(name, 'none')}" for name in changed) for each in _mask(parts, others))
        yield Difference(Change.CONTENT, new.route, ", ".join(changed), *shown)


def _find_sent(delivery: Delivery | None) -> Message | None:
    """Return the message of a delivery that goes out; what is only recorded or died has none."""
    return delivery.message if delivery is not None and delivery.state is State.PENDING else None


def _list_parts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield all that the customer sees of a message beside its template, by name."""
    if message.language:
        yield "language", message.language
    for number, variable in enumerate(message.variables, 1):
        yield f"variable {variable.name or number}", variable.value
    if message.header is not None:
        yield f"{message.header.kind} header", f"{message.header.value} {message.header.filename or ''}".strip()
    for button in message.buttons:
        yield f"button {button.index}", button.value
    if message.offer_ends_at is not None:
        yield "end of the offer", format_instant(message.offer_ends_at)


def _mask(*given: dict[str, str]) -> Iterator[dict[str, str]]:
    for parts in given:
        yield {name: value if name == "language" else mask_shape(value) for name, value in parts.items()}


def mask_shape(value: str) -> str:
    """Return `1,***` of `1,250`: the first sign, then the shape alone, so that a changed format can be seen."""
    masked = value[:1] + re.sub(r"\w", "*", value[1:])
    return masked if len(masked) <= _LONGEST_SHOWN else f"{masked[: _LONGEST_SHOWN - 1]}…"


def _describe_message(delivery: Delivery, message: Message) -> str:
    return f"{delivery.provider} sends {delivery.template} to {mask_phone(message.recipient)}"


def _describe_end(delivery: Delivery | None) -> str:
    detail = f" ({delivery.detail})" if delivery is not None and delivery.detail else ""
    return _name_end(delivery) + detail


def _name_end(delivery: Delivery | None) -> str:
    if delivery is None:
        return "no route hits"
    return f"{delivery.state}, {delivery.reason}" if delivery.reason else str(delivery.state)
