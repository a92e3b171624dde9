"""An event and a route made into the message that will be sent, or into the reason why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from app.mapping.expression import Failed, Missing
from app.mapping.rules import ButtonSource, Constant, HeaderSource, Route, Source, Store
from app.message.freeze import checksum
from app.message.recipient import find_recipient
from app.model.delivery import Reason
from app.model.event import Event
from app.model.message import Button, Header, Message, Variable
from app.values.instant import parse_instant
from app.values.path import Path, look_up
from app.values.phone import PhoneFault
from app.values.text import Unfit, clean_text, is_link, write_scalar, write_value, write_whole

_NAME_PATHS: tuple[Path, ...] = (("user_name",), ("customer", "name"), ("name",), ("lead", "name"))
_NAME_LIMIT = 60
# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
_HEADER_LIMIT = 60
_FILENAME_LIMIT = 100
_KEY_LIMIT = 200
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Unrendered:
    """Why there is no message; `detail` names fields, never values."""

    reason: Reason
    detail: str


def render_message(route: Route, event: Event, store: Store) -> Message | Unrendered:
    """Fill `route`'s template from `event`. The recipient is looked at first, then the variables, all of them."""
    payload = event.payload
    recipient = find_recipient(payload, store, route.recipient, route.country)
    if isinstance(recipient, PhoneFault):
        return Unrendered(recipient.reason, recipient.detail)
    variables = _render_variables(route, payload)
    if isinstance(variables, Unrendered):
        return variables
    header = None if route.header is None else _render_header(route.header, payload)
    if isinstance(header, Unrendered):
        return header
    buttons = [_render_button(button, payload) for button in route.buttons]
    fault = next((button for button in buttons if isinstance(button, Unrendered)), None)
    return fault or Message(
        recipient=recipient.number,
        template=route.template,
        recipient_name=_find_name(payload),
        language=route.language,
        variables=variables,
        header=header,
        buttons=tuple(button for button in buttons if isinstance(button, Button)),
    )


def _find_name(payload: Mapping[str, Any]) -> str:
    for path in _NAME_PATHS:
        name = look_up(payload, path)
        text = "" if name is None else write_value(name, _NAME_LIMIT)
        if text and not isinstance(text, Unfit):
            return text
    return ""


def _render_variables(route: Route, payload: Mapping[str, Any]) -> tuple[Variable, ...] | Unrendered:
    """Return the variables in order, or the first one's reason with what is wrong with each of them."""
    rendered = [
        (item.name, _render_text(f"variable {item.name or number}", item.source, payload))
        for number, item in enumerate(route.variables, 1)
    ]
    faults = [value for _, value in rendered if isinstance(value, Unrendered)]
    if faults:
        return Unrendered(faults[0].reason, "; ".join(fault.detail for fault in faults))
    return tuple(Variable(name, value) for name, value in rendered if isinstance(value, str))


def _render_text(
    what: str, source: Source, payload: Mapping[str, Any], write: Callable[[Any], str | Unfit] = write_value
) -> str | Unrendered:
    """Return one clean text. The value is data: `{{7*7}}` in it stays as it is."""
    value = source.text if isinstance(source, Constant) else source.evaluate(payload)
    if isinstance(value, Missing):
        return Unrendered(Reason.VARIABLE_INVALID if value.unreadable else Reason.VARIABLE_MISSING, f"{what} {value}")
    if isinstance(value, Failed):
        return Unrendered(Reason.EXPRESSION_FAILED, f"{what} cannot be worked out: {value.detail}")
    text = write(value)
    if isinstance(text, Unfit):
        return Unrendered(Reason.VARIABLE_INVALID, f"{what} (`{_show_source(source)}`) {text.detail}")
    return text or Unrendered(Reason.VARIABLE_MISSING, f"{what} (`{_show_source(source)}`) is missing")


def _show_source(source: Source) -> str:
    return source.text if isinstance(source, Constant) else source.source


def _render_header(header: HeaderSource, payload: Mapping[str, Any]) -> Header | Unrendered:
    what = f"the {header.kind} header"
    write = _write_header_text if header.kind == "text" else _write_address
    value = _render_text(what, header.source, payload, write)
    filename = None
    if header.filename is not None:
        filename = _render_text("the header's file name", header.filename, payload, _write_filename)
    if isinstance(value, Unrendered):
        return value
    return filename if isinstance(filename, Unrendered) else Header(header.kind, value, filename)


def _write_header_text(value: Any) -> str | Unfit:
    text = write_value(value, _HEADER_LIMIT)
    return text if isinstance(text, Unfit) or len(text) <= _HEADER_LIMIT else Unfit("is a link too long for a header")


def _write_filename(value: Any) -> str | Unfit:
    return write_value(value, _FILENAME_LIMIT)


def _write_address(value: Any) -> str | Unfit:
    text = write_whole(value)
    return text if isinstance(text, Unfit) or not text or _is_web_address(text) else Unfit("is no http(s) address")


def _is_web_address(text: str) -> bool:
    try:
        return is_link(text) and bool(urlsplit(text).hostname)
    except ValueError:  # such as http://[
        return False


def _render_button(button: ButtonSource, payload: Mapping[str, Any]) -> Button | Unrendered:
    """Return the suffix, whole or not at all: half a link leads nowhere."""
    text = _render_text(f"button {button.index}", button.url, payload, write_whole)
    return text if isinstance(text, Unrendered) else Button(button.index, encode_suffix(text))


def encode_suffix(text: str) -> str:
    """Return `text` as the end of a URL: a path, a query or a code.

    What has a meaning in URLs (`/ ? & = #`) keeps it, and `%20` is not encoded again, but a lone % is. For a value that
    must stay one piece, write `| urlencode` in the YAML.
    """
    return quote(_STRAY_PERCENT.sub("%25", text), safe="/?&=#:@!$'()*+,;~%")


def compute_deadline(route: Route, event: Event, store: Store) -> int | Unrendered:
    """Return the instant from which the message may no longer be sent, in ms since the epoch."""
    deadline = event.received_at + route.valid_for_ms
    if route.valid_until is None:
        return deadline
    value = route.valid_until.evaluate(event.payload)
    if isinstance(value, Missing):
        return Unrendered(Reason.DEADLINE_INVALID, f"valid_until {value}")
    if isinstance(value, Failed):
        return Unrendered(Reason.DEADLINE_INVALID, f"valid_until cannot be worked out: {value.detail}")
    until = parse_instant(value, store.timezone, end_of_day=True, day_ends=store.day_ends)
    if until is None:
        return Unrendered(Reason.DEADLINE_INVALID, f"valid_until (`{route.valid_until.source}`) is not a date")
    return min(deadline, until)


def compute_dedup_key(route: Route, event: Event) -> str | Unrendered | None:
    """Return the text by which a repeat is known; None where the route has no `dedup_by`.

    A list is written as JSON, so that ["1", "23"] is not ["12", "3"]; 200 and "200" are the same.
    """
    if route.dedup_by is None:
        return None
    value = route.dedup_by.evaluate(event.payload)
    if isinstance(value, Missing):
        reason = Reason.VARIABLE_INVALID if value.unreadable else Reason.VARIABLE_MISSING
        return Unrendered(reason, f"dedup_by {value}")
    if isinstance(value, Failed):
        return Unrendered(Reason.EXPRESSION_FAILED, f"dedup_by cannot be worked out: {value.detail}")
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
