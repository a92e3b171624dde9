"""An event leads to deliveries: for each route that it hits the message to send, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.fields import Constant, HeaderSource, LocationSource, Source, is_language
from app.mapping.rules import Broken, Config, Hit, Route, Store, match_route
from app.mapping.template import URL_LIMIT, Room
from app.message.components import BUTTONS, checksum, write_address, write_degrees, write_filename, write_header_text
from app.message.recipient import find_recipient, read_person
from app.model.delivery import Delivery, Reason, State
from app.model.event import Event
from app.model.message import Button, Header, Location, Message, Variable
from app.model.value import dataclass
from app.values.instant import parse_instant
from app.values.phone import PhoneFault
from app.values.text import Unfit, clean_text, write_scalar, write_value

_KEY_LIMIT = 200
_NO_VALUE = (Missing, Failed)
_get_name = attrgetter("name")
_write_constant = lru_cache(maxsize=1_024)(lambda write, text: write(text))  # a text of the YAML, the same each time


@dataclass(frozen=True, slots=True)
class Unrendered:
    """The reason for which there is no message; `detail` names fields, never values."""

    reason: Reason
    detail: str


def plan_deliveries(event: Event, config: Config, new_id: Callable[[int], str]) -> tuple[Delivery, ...]:
    """Return one delivery for every route that the event hits; () where it hits none."""
    planned = []
    for route in config.find_routes(event.topic):
        if route.when is None or isinstance(found := match_route(route, event), Hit):
            planned.append(_plan_route(route, event, config, new_id))
        elif isinstance(found, Broken):
            fault = Unrendered(Reason.EXPRESSION_FAILED, found.detail)
            planned.append(_dead(route, event, config, new_id, fault))
    return tuple(planned)


def _plan_route(route: Route, event: Event, config: Config, new_id: Callable[[int], str]) -> Delivery:
    """Render first, then the deadline, then the key: the first fault that a person has to mend is the one shown."""
    store = config.store
    parts: Any = (
        render_message(route, event, store),
        compute_deadline(route, event, store),
        compute_dedup_key(route, event),
    )
    if Unrendered in map(type, parts):
        return _dead(route, event, config, new_id, next(part for part in parts if isinstance(part, Unrendered)))
    message, deadline_at, dedup_key = parts
    state, reason = _first_state(route, event, config, deadline_at, message.recipient)
    return make_delivery(route, event, config, new_id, message, state, reason, deadline_at, dedup_key)


def _dead(route: Route, event: Event, config: Config, new_id: Callable[[int], str], fault: Unrendered) -> Delivery:
    """Return a delivery that shows its fault. Its number is not kept: it may be the very thing that is wrong."""
    deadline_at = event.received_at + route.valid_for
    return make_delivery(route, event, config, new_id, None, State.DEAD, fault.reason, deadline_at, detail=fault.detail)


def _first_state(
    route: Route, event: Event, config: Config, deadline_at: int, recipient: str
) -> tuple[State, Reason | None]:
    if deadline_at <= event.received_at:
        return State.EXPIRED, Reason.DEADLINE_PASSED
    if config.mode == "shadow" or route.mode == "shadow":
        return State.SHADOW, None
    if route.live_from is not None and event.received_at < route.live_from:
        return State.SHADOW, Reason.NOT_LIVE
    for only in (config.only, route.only):
        if only is not None and recipient not in only:
            return State.SHADOW, Reason.NOT_CHOSEN
    return State.PENDING, None


def make_delivery(
    route: Route,
    event: Event,
    config: Config,
    new_id: Callable[[int], str],
    message: Message | None,
    state: State,
    reason: Reason | None,
    deadline_at: int,
    dedup_key: str | None = None,
    detail: str = "",
) -> Delivery:
    """Return the duty to get one message of a route accepted, due at once."""
    now = event.received_at
    return Delivery(
        id=new_id(now),
        event_id=event.id,
        route=route.name,
        provider=route.provider,
        template=route.template,
        recipient=message.recipient if message else "",
        message=message,
        state=state,
        reason=reason,
        created_at=now,
        due_at=now,
        deadline_at=deadline_at,
        detail=detail,
        dedup_key=dedup_key,
        priority=route.priority,
        on_unknown=route.on_unknown,
        config_hash=config.hash,
        config_line=route.line,
        marketing=route.marketing,
    )


def render_message(route: Route, event: Event, store: Store) -> Message | Unrendered:
    """Fill `route`'s template from `event`. The recipient is looked at first, then the variables, all of them."""
    payload, language, header, offer = event.payload, route.language, route.header, route.limited_time_offer
    person = read_person(event)
    recipient = find_recipient(payload, person, store, route.recipient.number, route.recipient.country)
    if isinstance(recipient, PhoneFault):
        return Unrendered(Reason(recipient.reason), recipient.detail)
    parts: Sequence[Any] = (
        _render_variables(route, payload),
        _render_language(language, route, payload) if isinstance(language, Expression) else language,
        None if header is None else _render_header(header, payload),
        None if offer is None else _read_instant("limited_time_offer", offer, payload, store, Reason.VARIABLE_INVALID),
        _render_buttons(route, payload) if route.buttons else (),
    )
    if Unrendered in map(type, parts):
        return next(part for part in parts if isinstance(part, Unrendered))
    variables, language, header, ends_at, buttons = parts
    message = Message(recipient.number, route.template, person.name, language, variables, header, buttons, ends_at)
    excess = find_excess(route, message) if route.rooms else None
    return message if excess is None else Unrendered(Reason.VARIABLE_INVALID, excess)


def find_excess(route: Route, message: Message) -> str | None:
    """Return what WhatsApp would refuse for its length, None if nothing or if the template's text is not known.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
    """
    room = route.rooms.get(message.language) if message.language else next(iter(route.rooms.values()), None)
    if room is None:
        return None
    lengths = [weight * len(variable.value) for weight, variable in zip(room.weights, message.variables, strict=True)]
    if (over := sum(lengths) - room.body) > 0:
        place = lengths.index(max(lengths))
        longest = route.variables[place].name or place + 1
        return f"the body would be {over} over WhatsApp's 1024 characters: shorten variable {longest} with `truncate`"
    if room.header is not None and message.header is not None and len(message.header.value) > room.header:
        over = len(message.header.value) - room.header
        return f"the text header would be {over} over WhatsApp's 60 characters: shorten its value with `truncate`"
    return next((fault for button in message.buttons if (fault := _find_button_excess(button, room))), None)


def _find_button_excess(button: Button, room: Room) -> str | None:
    fixed = room.urls.get(button.index)
    if fixed and button.kind == "url" and "://" in button.value[:10]:
        return f"button {button.index} would lead to one address inside another: give only what follows its fixed part"
    if fixed and (over := len(fixed) + len(button.value) - URL_LIMIT) > 0:
        return f"the address of button {button.index} would be {over} over WhatsApp's {URL_LIMIT} characters"
    return None


def _render_variables(route: Route, payload: Mapping[str, Any]) -> tuple[Variable, ...] | Unrendered:
    """Return the variables in order, or the first one's reason with what is wrong with each of them."""
    texts = [item.source.glance(payload) or _render_text(item.source, payload) for item in route.variables]
    if Unrendered in map(type, texts):
        return _gather_faults(route, texts)
    return tuple(map(Variable, map(_get_name, route.variables), texts))  # type: ignore[arg-type]  # all are texts


def _gather_faults(route: Route, texts: Sequence[str | Unrendered]) -> Unrendered:
    faults = [
        _name_fault(f"variable {item.name or number}", text)
        for number, (item, text) in enumerate(zip(route.variables, texts, strict=True), 1)
        if isinstance(text, Unrendered)
    ]
    return Unrendered(faults[0].reason, "; ".join(fault.detail for fault in faults))


def _render_text(
    source: Source, payload: Mapping[str, Any], write: Callable[[Any], str | Unfit] = write_value
) -> str | Unrendered:
    """Return one clean text, or a fault without its place. The value is data: `{{7*7}}` in it stays as it is."""
    if isinstance(source, Constant):
        written, text = source.text, _write_constant(write, source.text)
    else:
        written, value = source.source, source.evaluate(payload)
        if isinstance(value, _NO_VALUE):
            return _explain(value)
        text = write(value)
    if isinstance(text, Unfit):
        return Unrendered(Reason.VARIABLE_INVALID, f"(`{written}`) {text.detail}")
    return text or Unrendered(Reason.VARIABLE_MISSING, f"(`{written}`) is missing")


def _explain(value: Missing | Failed, reason: Reason | None = None) -> Unrendered:
    if isinstance(value, Missing):
        usual = Reason.VARIABLE_INVALID if value.unreadable else Reason.VARIABLE_MISSING
        return Unrendered(reason or usual, str(value))
    return Unrendered(reason or Reason.EXPRESSION_FAILED, f"cannot be worked out: {value.detail}")


def _name_fault(what: str, fault: Unrendered) -> Unrendered:
    return Unrendered(fault.reason, f"{what} {fault.detail}")


def _render_language(language: Expression, route: Route, payload: Mapping[str, Any]) -> str | Unrendered:
    text = _render_text(language, payload)
    if isinstance(text, Unrendered):
        return _name_fault("the language", text)
    if not is_language(text):
        return Unrendered(Reason.VARIABLE_INVALID, f"the language (`{language.source}`) is no code such as en")
    if route.rooms and text not in route.rooms:
        known = ", ".join(route.rooms)
        detail = f"the language (`{language.source}`) is none of template {route.template}, which has {known}"
        return Unrendered(Reason.VARIABLE_INVALID, detail)
    return text


def _render_header(header: HeaderSource, payload: Mapping[str, Any]) -> Header | Location | Unrendered:
    kind = header.kind
    given = getattr(header, kind)
    if isinstance(given, LocationSource):
        return _render_location(given, payload)
    value = _render_text(given, payload, write_header_text if kind == "text" else write_address)
    filename = None if header.filename is None else _render_text(header.filename, payload, write_filename)
    if isinstance(value, Unrendered):
        return _name_fault(f"the {kind} header", value)
    return (
        _name_fault("the header's file name", filename)
        if isinstance(filename, Unrendered)
        else Header(kind, value, filename)
    )


def _render_location(location: LocationSource, payload: Mapping[str, Any]) -> Location | Unrendered:
    parts = {key: _render_text(source, payload, write_degrees(key)) for key, source in location.list_sources()}
    for key, part in parts.items():
        if isinstance(part, Unrendered):
            return _name_fault(f"the location's {key}", part)
    return Location(**parts)  # type: ignore[arg-type]  # all are texts


def _render_buttons(route: Route, payload: Mapping[str, Any]) -> tuple[Button, ...] | Unrendered:
    buttons: list[Button] = []
    for button in route.buttons:
        kind = button.kind
        text = _render_text(button.source, payload, BUTTONS[kind].write)
        if isinstance(text, Unrendered):
            return _name_fault(f"button {button.index}", text)
        buttons.append(Button(button.index, text, kind))
    return tuple(buttons)


def _read_instant(
    what: str, source: Expression, payload: Mapping[str, Any], store: Store, reason: Reason
) -> int | Unrendered:
    value = source.evaluate(payload)
    if isinstance(value, _NO_VALUE):
        return _name_fault(what, _explain(value, reason))
    until = parse_instant(value, store.timezone, end_of_day=True, day_ends=store.day_ends)
    return Unrendered(reason, f"{what} (`{source.source}`) is not a date") if until is None else until


def compute_deadline(route: Route, event: Event, store: Store) -> int | Unrendered:
    """Return the instant from which the message may no longer be sent, in ms since the epoch."""
    deadline = event.received_at + route.valid_for
    if route.valid_until is None:
        return deadline
    until = _read_instant("valid_until", route.valid_until, event.payload, store, Reason.DEADLINE_INVALID)
    return until if isinstance(until, Unrendered) else min(deadline, until)


def compute_dedup_key(route: Route, event: Event) -> str | Unrendered | None:
    """Return the text by which a repeat is known; None where the route has no `dedup_by`.

    A list is written as JSON, so that ["1", "23"] is not ["12", "3"]; 200 and "200" are the same.
    """
    if route.dedup_by is None:
        return None
    key = route.dedup_by.glance(event.payload)
    if key and len(key) <= _KEY_LIMIT:
        return key
    value = route.dedup_by.evaluate(event.payload)
    if isinstance(value, _NO_VALUE):
        return _name_fault("dedup_by", _explain(value))
    key = _write_key(value)
    return key if len(key) <= _KEY_LIMIT else "sha256:" + checksum(key.encode("utf-8", "surrogatepass"))


def _write_key(value: Any) -> str:
    text = write_scalar(value)
    if text is not None:
        text = clean_text(text)
        return json.dumps(text) if text[:1] in {"[", "{", '"'} else text
    return json.dumps(_with_texts(value), sort_keys=True, separators=(",", ":"))


def _with_texts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_texts(item) for item in value]
    return write_scalar(value)
