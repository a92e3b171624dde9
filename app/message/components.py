"""The parts of a message: how each one's value is written, frozen, sent to WhatsApp, and struck out of what others say.

mapping/template.py says which templates have a part, and under which key a route fills it. A message is frozen once at
intake and checked before it is sent, never rendered again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import starmap
from operator import attrgetter
from typing import Any
from urllib.parse import quote, urlsplit

from app.mapping.template import LIMITS, MEDIA_KINDS
from app.model.delivery import MAX_DETAIL, STRUCK
from app.model.message import Button, Header, Location, Message, Variable
from app.model.value import dataclass
from app.values.text import Unfit, is_link, make_json_writer, read_decimal, write_value, write_whole

_POLES, _DATE_LINE = 90, 180
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")

Write = Callable[[Any], str | Unfit]


@dataclass(frozen=True, slots=True)
class ButtonPart:
    """One kind of button. `write`: its text from the event's value; `to_parameter`: the same as Cloud API wants it."""

    sub_type: str
    write: Write
    to_parameter: Callable[[str], Mapping[str, Any]]


def encode_suffix(text: str) -> str:
    """Return `text` as the end of a URL: a path, a query or a code.

    What has a meaning in URLs (`/ ? & = #`) keeps it, and `%20` is not encoded again, but a lone % is. For a value that
    must stay one piece, write `| urlencode` in the YAML.
    """
    if _UNRESERVED.fullmatch(text):  # a code or an id, as most are
        return text
    return quote(_STRAY_PERCENT.sub("%25", text), safe="/?&=#:@!$'()*+,;~%")


def _write_suffix(value: Any) -> str | Unfit:
    """Return the suffix, whole or not at all: half a link leads nowhere."""
    text = write_whole(value)
    return text if isinstance(text, Unfit) else encode_suffix(text)


def _write_within(key: str) -> Write:
    limit = LIMITS[key]

    def write(value: Any) -> str | Unfit:
        text = write_whole(value)
        return text if isinstance(text, Unfit) or len(text) <= limit else Unfit(f"is longer than {limit} characters")

    return write


BUTTONS: Mapping[str, ButtonPart] = {
    # https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components#url-buttons
    "url": ButtonPart("url", _write_suffix, lambda value: {"type": "text", "text": value}),
    # https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-message-templates/coupon-templates
    "copy_code": ButtonPart(
        "copy_code", _write_within("copy_code"), lambda value: {"type": "coupon_code", "coupon_code": value}
    ),
    # https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-message-templates/interactive-message-templates
    "payload": ButtonPart("quick_reply", _write_within("payload"), lambda value: {"type": "payload", "payload": value}),
    # https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-message-templates/auth-otp-template-messages
    "otp": ButtonPart("url", _write_within("otp"), lambda value: {"type": "text", "text": value}),
    # https://developers.facebook.com/docs/whatsapp/flows/guides/sendingaflow#template
    "flow": ButtonPart(
        "flow", _write_within("flow"), lambda value: {"type": "action", "action": {"flow_token": value}}
    ),
}
"""By the key with which a route fills it, and by which it is frozen."""


def write_header_text(value: Any) -> str | Unfit:
    """Return the variable of a text header, cut to WhatsApp's length."""
    text = write_value(value, LIMITS["text"])
    return text if isinstance(text, Unfit) or len(text) <= LIMITS["text"] else Unfit("is a link too long for a header")


def write_filename(value: Any) -> str | Unfit:
    """Return the name that is shown for a document."""
    return write_value(value, LIMITS["filename"])


def write_address(value: Any) -> str | Unfit:
    """Return the http(s) address of a medium, whole."""
    text = write_whole(value)
    return text if isinstance(text, Unfit) or not text or _is_web_address(text) else Unfit("is no http(s) address")


@cache
def write_degrees(key: str) -> Write:
    """Return what writes a location's `latitude` or `longitude`; what else it has is a text."""
    if key not in {"latitude", "longitude"}:
        return write_value
    limit = _POLES if key == "latitude" else _DATE_LINE

    def write(value: Any) -> str | Unfit:
        degrees = read_decimal(value)
        is_there = degrees is not None and abs(degrees) <= limit
        return write_value(value) if is_there else Unfit(f"is no {key} in degrees")

    return write


def _is_web_address(text: str) -> bool:
    try:
        return is_link(text) and bool(urlsplit(text).hostname)
    except ValueError:  # such as http://[
        return False


def describe_header(header: Header | Location) -> Mapping[str, str]:
    """Return a header as an object of its parts."""
    match header:
        case Location():
            return {"kind": header.kind, **asdict(header)}
        case Header(kind="text"):
            return {"kind": "text", "text": header.value}
        case _:
            named = {"filename": header.filename} if header.filename else {}
            return {"kind": header.kind, "url": header.value, **named}


def list_texts(message: Message) -> list[Mapping[str, str]]:
    """Return the variables as Cloud API's text parameters."""
    return [_to_text_parameter(variable) for variable in message.variables]


def _to_text_parameter(variable: Variable) -> Mapping[str, str]:
    # One that is called by its number goes by its place.
    named = {"parameter_name": variable.name} if variable.name and not variable.name.isdecimal() else {}
    return {"type": "text", **named, "text": variable.value}


def list_components(message: Message) -> list[Mapping[str, Any]]:
    """Return everything that fills the template as Cloud API's `components`.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/template-messages
    """
    components: list[Mapping[str, Any]] = []
    if message.header is not None:
        components.append({"type": "header", "parameters": [_to_header_parameter(message.header)]})
    if message.variables:
        components.append({"type": "body", "parameters": list_texts(message)})
    if message.offer_ends_at is not None:
        # https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-message-templates/limited-time-offer-template-messages
        offer = {"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": message.offer_ends_at}}
        components.append({"type": "limited_time_offer", "parameters": [offer]})
    components += [_to_button_component(button) for button in message.buttons]
    return components


def _to_header_parameter(header: Header | Location) -> Mapping[str, Any]:
    if isinstance(header, Location):
        return {"type": "location", "location": asdict(header)}
    if header.kind not in MEDIA_KINDS:
        return {"type": "text", "text": header.value}
    named = {"filename": header.filename} if header.filename and header.kind == "document" else {}
    return {"type": header.kind, header.kind: {"link": header.value, **named}}


def _to_button_component(button: Button) -> Mapping[str, Any]:
    part = BUTTONS[button.kind]
    parameters = [part.to_parameter(button.value)]
    return {"type": "button", "sub_type": part.sub_type, "index": button.index, "parameters": parameters}


SHORTEST_NAME, SHORTEST_NUMBER = 2, 4


def strike_message(text: str, message: Message) -> str:
    """Return the text without the message's variables, header, buttons and recipient's name, in whatever case."""
    # The longest first: a name may be a part of another value.
    values = sorted(set(_list_values(message)), key=len, reverse=True)
    shown = text
    for value in values:
        shown = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", STRUCK, shown, flags=re.IGNORECASE)
    return _strike_beginning(shown, values) if len(text) >= MAX_DETAIL else shown


def _list_values(message: Message) -> Iterator[str]:
    """Yield what may tell whom the message is for; short numbers may be anything, an error code too."""
    header = [message.header.value] if message.header else []
    values = [variable.value for variable in message.variables] + header + [button.value for button in message.buttons]
    for value in (*values, message.recipient_name, *message.recipient_name.split()):
        if len(value) >= SHORTEST_NUMBER or (len(value) >= SHORTEST_NAME and not value.isdecimal()):
            yield value


def _strike_beginning(text: str, values: Sequence[str]) -> str:
    for value in values:
        for length in range(len(value) - 1, SHORTEST_NAME - 1, -1):
            if text.lower().endswith(value[:length].lower()):
                return text[:-length] + STRUCK
    return text


_write = make_json_writer(",", ":")
FROZEN_VERSION = 2
"""Of the bytes. Those without a version were frozen by a release that knew URL buttons only; they still go out."""


_list_variable, _list_button = attrgetter("name", "value"), attrgetter("index", "value", "kind")


def encode_message(message: Message) -> bytes:
    """Return `message` as compact JSON, in ASCII: no store or encoding on the way can change it."""
    values = {
        "version": FROZEN_VERSION,
        "recipient": message.recipient,
        "recipient_name": message.recipient_name,
        "template": message.template,
        "language": message.language,
        "variables": list(map(_list_variable, message.variables)),
        "header": message.header and _freeze_header(message.header),
        "buttons": list(map(_list_button, message.buttons)),
        "offer_ends_at": message.offer_ends_at,
    }
    return _write(values).encode("ascii")


def decode_message(frozen: bytes) -> Message:
    """Return the message that `encode_message` froze; raises ValueError if it is none."""
    try:
        found = json.loads(frozen.decode())
        _check_version(found.get("version", 1))
        return Message(
            recipient=found["recipient"],
            template=found["template"],
            recipient_name=found["recipient_name"],
            language=found["language"],
            variables=tuple(starmap(Variable, found["variables"])),
            header=_thaw_header(*found["header"]) if found["header"] else None,
            buttons=tuple(starmap(Button, found["buttons"])),
            offer_ends_at=found.get("offer_ends_at"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("these bytes are no frozen message") from None


def _check_version(version: Any) -> None:
    if version not in {1, FROZEN_VERSION}:
        raise ValueError("frozen by a later release")


def _freeze_header(header: Header | Location) -> list[str | None]:
    if isinstance(header, Location):
        return [header.kind, header.latitude, header.longitude, header.name, header.address]
    return [header.kind, header.value, header.filename]


def _thaw_header(kind: Any, *parts: Any) -> Header | Location:
    return Location(*parts) if kind == Location.kind else Header(kind, *parts)


def checksum(frozen: bytes) -> str:
    """Return the hex SHA-256 by which a damaged message is told from a whole one."""
    return hashlib.sha256(frozen).hexdigest()


def thaw_message(data: bytes | None, expected: str | None) -> Message | None:
    """Return the frozen message; None if it is not the one that was frozen."""
    if data is None or checksum(data) != expected:
        return None
    try:
        return decode_message(data)
    except ValueError:  # sound bytes of a shape that this release cannot read
        return None
