"""Previews show who writes a route what it would send for an event; a test message is one to a number of theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, Field

from app.authoring.examples import describe_reading, remark_on_day, remark_on_money
from app.errors import Refusal
from app.mapping.expression import Expression
from app.mapping.fields import Source
from app.mapping.rules import Broken, Config, Example, Hit, Route, Store, match_route
from app.mapping.template import (
    BODY_LIMIT,
    FilledTemplate,
    Template,
    Templates,
    find_language,
    print_message,
    show_message,
)
from app.message.render import Unrendered, compute_deadline, plan_deliveries, render_message
from app.model.delivery import Delivery
from app.model.event import TEST_SOURCE, Event
from app.model.message import Message, Variable
from app.model.value import dataclass
from app.values.phone import PhoneFault, read_phone
from app.values.text import clean_text, is_missing, look_up, read_path, write_scalar


@dataclass(frozen=True, slots=True)
class Preview:
    """One event's message on one route.

    `filled` is None where templates.yaml does not hold the text, or nothing is sent; then `fault` says why.
    `miss` says why the event does not hit the route, "" if it does. `notes` say which of its properties are of another
    kind than usual, and what was done to the values.
    """

    route: Route
    title: str
    template: Template | None
    recipient: str = ""
    reading: str = ""  # by which country its number was read
    variables: tuple[Variable, ...] = ()
    filled: FilledTemplate | None = None
    fault: str = ""
    miss: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_sent(self) -> bool:
        """Tell whether there is a message (the event may miss the route all the same)."""
        return not self.fault


def preview_message(route: Route, event: Event, store: Store, templates: Templates, title: str) -> Preview:
    """Return what the customer would see."""
    template = templates.get((route.provider, route.template))
    match = match_route(route, event)
    miss = "" if isinstance(match, Hit) else match.detail
    message = render_message(route, event, store)
    deadline = compute_deadline(route, event, store)
    fault = next((each for each in (message, deadline) if isinstance(each, Unrendered)), None)
    if fault is not None or isinstance(message, Unrendered):
        why = f"{fault.reason.value} ({fault.detail})" if fault else ""
        return Preview(route, title, template, fault=why, miss=miss, notes=event.notes)
    filled = None if template is None else show_message(template, message)
    return Preview(
        route=route,
        title=title,
        template=find_language(template, message.language) or template,
        recipient=message.recipient,
        reading=describe_reading(route, event, store),
        variables=message.variables,
        filled=filled,
        miss=miss,
        notes=(*event.notes, *_list_notes(route, event, store, message, filled)),
    )


def print_preview(preview: Preview) -> str:
    """Return a preview as plain text, the same for the same YAML: it is kept beside the YAML and reviewed with it."""
    notes = [f"note: {note}" for note in preview.notes]
    if preview.fault:
        return "\n".join([f"not sent: {preview.fault}", *notes])
    lines = [f"this event does not hit the route ({preview.miss}); if it did:"] if preview.miss else []
    lines.append(f"to {preview.recipient}, read {preview.reading}")
    if preview.filled is None:
        lines.append("config/templates.yaml does not hold this template's text; its variables are:")
        lines += [
            f"  {variable.name or number}: {variable.value}" for number, variable in enumerate(preview.variables, 1)
        ]
    else:
        lines.append(print_message(preview.filled))
    return "\n".join([*lines, *notes])


def _list_notes(
    route: Route, event: Event, store: Store, message: Message, filled: FilledTemplate | None
) -> Iterator[str]:
    for remark in (remark_on_day, remark_on_money):
        yield from remark(route, event, store)
    for number, (item, variable) in enumerate(zip(route.variables, message.variables, strict=True), 1):
        yield from _describe_value(f"variable {item.name or number}", item.source, event.payload, variable.value)
    for keys, source in route.header.list_sources() if route.header else ():
        if message.header is not None and keys == (message.header.kind,):
            yield from _describe_value("the header", source, event.payload, message.header.value)
    for button in route.buttons:
        yield from _describe_default(f"button {button.index}", button.source, event.payload)
    if filled is not None:
        yield f"{len(filled.body)} of {BODY_LIMIT} characters"


def _describe_value(what: str, source: Source, payload: Mapping[str, Any], shown: str) -> Iterator[str]:
    yield from _describe_default(what, source, payload)
    raw = source.evaluate(payload) if isinstance(source, Expression) else source.text
    text = write_scalar(raw) or ""
    if len(clean_text(text)) > len(shown):
        yield f"{what} was cut to {len(shown)} characters"
    elif text != shown:
        yield f"{what} was tidied (blanks, line breaks, signs that cannot be seen)"


def _describe_default(what: str, source: Source, payload: Mapping[str, Any]) -> Iterator[str]:
    """A value came out although something it reads is missing: a default stands there."""
    if isinstance(source, Expression):
        absent = [name for name in sorted(source.preferred) if is_missing(look_up(payload, read_path(name)))]
        if absent:
            yield f"{what} shows a default, since {' and '.join(f'`{name}`' for name in absent)} is missing"


def describe_plan(event: Event, config: Config, new_id: Callable[[int], str]) -> list[dict[str, Any]]:
    """Return for every route whether the event hits it and why, and of one that it hits what would become of it.

    In clear: whoever shows it to others masks `reads`, `to` and `variables`.
    """
    planned = {one.route: one for one in plan_deliveries(event, config, new_id)}
    rows = [describe_match(route, event) for route in config.routes]
    return [row | (_describe_fate(planned[row["route"]]) if row["result"] == "hit" else {}) for row in rows]


def describe_match(route: Route, event: Event) -> dict[str, Any]:
    """Return whether an event hits a route, why, and what its condition read: by dotted path a value or None."""
    match match_route(route, event):
        case Hit():
            result, why = "hit", f"{route.provider} sends {route.template}"
        case Broken(detail=why):
            result = "broken"
        case missed:
            result, why = missed.why, missed.detail
    names = sorted(route.when.names) if route.when and result != "topic" else ()
    reads = {name: look_up(event.payload, read_path(name)) for name in names}
    return {
        "route": route.name,
        "result": result,
        "why": why,
        "when": route.when.source if route.when else None,
        "reads": reads,
    }


def _describe_fate(delivery: Delivery) -> dict[str, Any]:
    message = delivery.message
    filled = message.variables if message else ()
    return {
        "state": delivery.state,
        "reason": delivery.reason,
        "detail": delivery.detail or None,
        "to": message.recipient if message else None,
        "variables": {each.name or str(number): each.value for number, each in enumerate(filled, 1)},
    }


# -- as one page of HTML that looks like WhatsApp: no script, nothing loaded, every value escaped ----

_AS_TEXT = "\ufe0e"  # and not as a coloured emoji
_MEDIA_SIGNS = {"image": "🖼", "video": f"▶{_AS_TEXT}", "document": "📄", "location": "📍"}
_BUTTON_SIGNS = {"url": f"↗{_AS_TEXT}", "phone": f"☎{_AS_TEXT}", "reply": f"↩{_AS_TEXT}", "copy_code": f"⧉{_AS_TEXT}"}
_OTHER_SIGN = f"▤{_AS_TEXT}"
_CODE = re.compile("```([^`]+)```")
# https://faq.whatsapp.com/539178204879377: a mark counts only against a word, and within its line.
_MARKS = (
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), "b"),
    (re.compile(r"(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])"), "i"),
    (re.compile(r"(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])"), "s"),
)


def draw_page(previews: Sequence[Preview], title: str) -> str:
    """Return a whole HTML document with every preview under its route."""
    groups = [list(group) for _, group in groupby(previews, key=lambda preview: preview.route.name)]
    routes = [(group[0].route, _list_facts(group[0]), group) for group in groups]
    signs = {"media_signs": _MEDIA_SIGNS, "button_signs": _BUTTON_SIGNS, "other_sign": _OTHER_SIGN}
    return fill_page("previews.html", title=title, routes=routes, **signs)


def fill_page(name: str, **values: Any) -> str:
    """Return one of `pages/` as a whole document: no script, nothing loaded from elsewhere, every value escaped."""
    return _open_pages().get_template(name).render(values)


@cache
def _open_pages() -> Environment:
    folder = FileSystemLoader(Path(__file__).with_name("pages"))
    pages = Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    pages.filters["marks"] = draw_text
    return pages


def draw_text(text: str) -> str:
    """Return a message's text as HTML: escaped, with WhatsApp's *bold*, _italic_, ~struck~ and ```fixed```."""
    parts = _CODE.split(escape(text))  # every second one is code, in which no other mark counts
    return "".join(f"<code>{part}</code>" if number % 2 else _draw_marks(part) for number, part in enumerate(parts))


def _draw_marks(drawn: str) -> str:
    for mark, tag in _MARKS:
        drawn = mark.sub(rf"<{tag}>\1</{tag}>", drawn)
    return drawn


def _list_facts(preview: Preview) -> str:
    route, template = preview.route, preview.template
    known = [template.language, template.category.lower()] if template else []
    return " · ".join([route.topic, route.provider, route.template, *known])


# -- a test message: what an example comes to, to a number of ours -------------------------------------


TEST_VALID_MS = 10 * 60_000  # whoever waits for it is at the screen now


class TestOrder(BaseModel, extra="forbid"):
    """Which route's example goes to which number. `example`: which of them, from 1; else the first that sends."""

    route: str = Field(max_length=200)
    to: str = Field(max_length=40)
    example: int | None = Field(None, ge=1, le=1000)


@dataclass(frozen=True, slots=True)
class TestMessage:
    """A route's example as a message to one of our own numbers."""

    route: Route
    event: Event
    message: Message


def make_test_message(
    config: Config, order: TestOrder, numbers: Sequence[str], event_id: str, now: int
) -> TestMessage | Refusal:
    """Return the message that is asked for, if its number may get it. `numbers`: those of RELAY_TEST_NUMBERS."""
    route = next((route for route in config.routes if route.name == order.route), None)
    if route is None:
        names = ", ".join(sorted(route.name for route in config.routes))
        return Refusal(422, f"route: the YAML has no route of this name; it has {names}")
    recipient = _read_recipient(order.to, numbers, config, route)
    if isinstance(recipient, Refusal):
        return recipient
    example = _choose_example(route, order.example)
    if isinstance(example, Refusal):
        return example
    body = json.dumps(example.event, default=str).encode()
    event = Event(event_id, TEST_SOURCE, route.topic, None, body, example.event, now)
    message = render_message(route, event, config.store)
    if not isinstance(message, Message):
        return Refusal(422, f"example: no message comes of it: {message.reason.value} ({message.detail})")
    return TestMessage(route, event, replace(message, recipient=recipient))


def _read_recipient(to: str, numbers: Sequence[str], config: Config, route: Route) -> str | Refusal:
    """Return the number if it is one of those allowed; a customer must never get a test."""
    read = partial(read_phone, country=config.store.country, landlines=config.store.landlines)
    recipient = read(to)
    if isinstance(recipient, PhoneFault):
        return Refusal(422, f"to: the number {recipient.detail}")
    allowed = {read(number) for number in numbers} | (config.only or set()) | (route.only or set())
    if not allowed:
        cure = "write yours into RELAY_TEST_NUMBERS (a running relay: and restart it), or under `only:` of the YAML"
        return Refusal(403, f"to: no number may get tests; {cure}")
    if recipient not in allowed:
        return Refusal(403, "to: this number is not among those of RELAY_TEST_NUMBERS, which alone may get tests")
    return recipient


def _choose_example(route: Route, number: int | None) -> Example | Refusal:
    if number is not None:
        if 1 <= number <= len(route.examples):
            return route.examples[number - 1]
        return Refusal(422, f"example: the route has {len(route.examples)}; they are counted from 1")
    sending = (example for example in route.examples if example.hits and example.dead is None)
    return next(sending, Refusal(422, "example: the route has none that sends; add one under its `examples:`"))
