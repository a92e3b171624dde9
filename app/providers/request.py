"""A request as data: JSON in the YAML, or a form, a query, headers and a path, with placeholders for values.

A placeholder is `$` and a name; docs/mapping-guide.md lists them. Where it is the whole text it stands for the value
itself, list or object included; inside a longer text its text is put in; `$$` is a dollar sign. A key or list item
whose whole text is a placeholder without a value is left out, and so is an object or list that ends up empty by it.

A value is data: a `$` inside it means nothing. In a path, a query, a form or a header it is encoded for its place;
a list or an object is its JSON in a query or a form, and cannot stand in the other two.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from app.mapping.provider import ProviderSettings, is_secret_key
from app.message.components import describe_header, list_components, list_texts
from app.model.message import Message
from app.providers.base import Request
from app.values.text import make_json_writer

_PLACEHOLDER = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*)")
_ALWAYS = frozenset({"template", "phone", "phone_plus", "delivery_id"})
_STRUCTURED = frozenset(
    {"variables", "variables_by_name", "named_values", "text_parameters", "header", "buttons", "components"}
)
_SOMETIMES = frozenset({"language", "name", "header_kind", "header_value", "header_filename", "offer_ends_at"})
MESSAGE_NAMES = _ALWAYS | _STRUCTURED | _SOMETIMES
_URL_TEXT = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # printable ASCII, no blank, no backslash
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
# These belong to the client: a second opinion on length, framing or encoding is how requests get smuggled.
_CLIENT_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)


def check_mapping(mapping: Any, names: Collection[str]) -> None:
    """Raise ValueError where a placeholder is not one of `names` or a list or object is put inside a text."""
    if isinstance(mapping, str):
        _check_text(mapping, names)
    elif isinstance(mapping, dict | list | tuple):
        for value in mapping.values() if isinstance(mapping, dict) else mapping:
            check_mapping(value, names)


def _check_text(text: str, names: Collection[str]) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name != "$" and name not in names:
            raise ValueError(f"${name} is not known; there are {', '.join(f'${known}' for known in sorted(names))}")
        if name in _STRUCTURED and text != f"${name}":
            raise ValueError(f"${name} is a list or an object: it has to be the whole value")


def fill_mapping(mapping: Any, values: Mapping[str, Any]) -> Any:
    """Return `mapping` with its placeholders filled; None if nothing of it has a value."""
    match mapping:
        case dict():
            filled = {key: fill_mapping(value, values) for key, value in mapping.items()}
            kept: Any = {key: value for key, value in filled.items() if value is not None or mapping[key] is None}
        case list() | tuple():
            items = [(source, fill_mapping(source, values)) for source in mapping]
            kept = [value for source, value in items if value is not None or source is None]
        case str():
            return _fill_text(mapping, values)
        case _:
            return mapping
    return kept if kept or not mapping else None


def _fill_text(text: str, values: Mapping[str, Any]) -> Any:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole is not None and whole[1] != "$":
        return values.get(whole[1])

    def put_in(found: re.Match[str]) -> str:
        value = "$" if found[1] == "$" else values.get(found[1])
        return "" if value is None else str(value)

    return _PLACEHOLDER.sub(put_in, text)


def check_path(path: str, names: Collection[str]) -> None:
    """Raise ValueError where a path has a placeholder that is not known, or that not every message has a value for."""
    _check_text(path, names)
    for name in _PLACEHOLDER.findall(path):
        if name in MESSAGE_NAMES - _ALWAYS:
            raise ValueError(f"${name} cannot stand in a path: a message may have none, or it is a list or an object")


def check_fields(fields: Mapping[str, Any], names: Collection[str]) -> None:
    """Raise ValueError where a placeholder of a query or a form is not known or cannot stand there."""
    for name, value in fields.items():
        if not is_literal(name, value, names):
            check_mapping(value, names)


def check_headers(headers: Mapping[str, str], names: Collection[str]) -> None:
    """Raise ValueError where a request may not carry a header, or a placeholder of it cannot stand there."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _CLIENT_HEADERS:
            raise ValueError(f"the header {name[:40]!r} cannot be set")
        _check_header_value(value)
    for name, value in headers.items():
        check_fields({name: value}, names)
        if value.removeprefix("$") in _STRUCTURED and not is_literal(name, value, names):
            raise ValueError(f"{name}: {value} is a list or an object: it cannot stand in a header")


def is_literal(name: str, value: Any, names: Collection[str]) -> bool:
    """Tell whether a field is a secret: what looks like a placeholder inside it is a part of it."""
    return is_secret_key((name,)) and not (isinstance(value, str) and value[1:] in names)


def fill_path(path: str, values: Mapping[str, Any]) -> str:
    """Return a path with its placeholders filled, each value percent-encoded."""
    names = (name for name in _PLACEHOLDER.findall(path) if name != "$")
    quoted = {name: quote(str(values[name]), safe="", errors="replace") for name in names}
    return str(_fill_text(f"{path} ", quoted))[:-1]  # never a placeholder alone, which would stand for itself


def fill_fields(fields: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return a query or a form, filled; one without a value is left out, a list or an object becomes its JSON."""
    filled = {
        name: value if is_literal(name, value, values) else fill_mapping(value, values)
        for name, value in fields.items()
    }
    kept = {name: value for name, value in filled.items() if value is not None}
    return {name: value if isinstance(value, str) else write_json(value) for name, value in kept.items()}


def fill_headers(headers: Mapping[str, str], values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return headers, filled; what is not printable ASCII in a value is percent-encoded."""
    return {name: quote(text, safe=_PRINTABLE, errors="replace") for name, text in fill_fields(headers, values).items()}


def encode_fields(fields: Mapping[str, str]) -> str:
    """Return a query or a form as it travels."""
    return urlencode(fields, quote_via=quote, safe="", errors="replace")


write_json = make_json_writer(",", ":", allow_nan=False)
"""Returns JSON of plain ASCII: no value can be misread by a provider that takes it for another charset.

Even half a surrogate pair, which UTF-8 cannot carry, gets through.
"""


def message_values(message: Message, delivery_id: str) -> Mapping[str, Any]:
    """Return what the placeholders stand for; None where a message has no such thing."""
    header = message.header
    return {
        "template": message.template,
        "language": message.language,
        "phone": message.recipient.removeprefix("+"),
        "phone_plus": message.recipient,
        "name": message.recipient_name or None,
        "delivery_id": delivery_id,
        "variables": [variable.value for variable in message.variables],
        "variables_by_name": name_variables(message),
        "named_values": [{"name": name, "value": value} for name, value in name_variables(message).items()],
        "text_parameters": list_texts(message),
        "components": list_components(message) or None,
        "offer_ends_at": message.offer_ends_at,
        "header": describe_header(header) if header else None,
        "header_kind": header.kind if header else None,
        "header_value": header.value if header else None,
        "header_filename": header.filename if header else None,
        "buttons": [{"index": button.index, button.kind: button.value} for button in message.buttons] or None,
    }


def name_variables(message: Message) -> Mapping[str, str]:
    """Return the variables as an object; one without a name goes by its place: "1", "2" and so on."""
    return {variable.name or str(place): variable.value for place, variable in enumerate(message.variables, 1)}


def _read_switch(value: Any) -> Any:
    # `allow_http: ${NAME:-false}` arrives as text.
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class RemoteSettings(ProviderSettings):
    """Every provider type reached over HTTP has these keys: `https://` unless said otherwise."""

    allow_http: Annotated[bool, BeforeValidator(_read_switch)] = Field(
        default=False, description="Allow a plain http:// URL to another machine."
    )
    base_url: str = Field(description="Where the API stands: https://…")

    @property
    def address(self) -> str:
        """The `base_url`."""
        return self.base_url

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str, info: ValidationInfo) -> str:
        return check_base_url(value, allow_http=bool(info.data.get("allow_http")))


def check_base_url(value: str, *, allow_http: bool) -> str:
    """Return the URL without its last slash, or raise ValueError that says what is wrong with it."""
    if not _URL_TEXT.fullmatch(value):
        raise ValueError("must be a URL of printable ASCII characters, without blanks")
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("must be a URL; its host or port cannot be read") from None
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.fragment:
        raise ValueError("must be an https:// URL with a host, and without user, password or #fragment")
    if url.scheme == "http" and not (allow_http or _is_loopback(url.hostname)):
        raise ValueError("must begin with https://; set allow_http: true if plain HTTP really is meant")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_header_value(value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("must be printable ASCII without line breaks, for it goes into a header")


def check_header_secret(value: SecretStr) -> SecretStr:
    """Return the secret if it can stand in a header, else raise ValueError without showing it."""
    _check_header_value(value.get_secret_value())
    return value


def build_request(
    method: str, url: str, headers: Mapping[str, str], body: str, content_type: str = "application/json"
) -> Request:
    """Return a request with this body, and its content type whatever `headers` says."""
    own = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return Request(method, url, {"content-type": content_type, **own}, body.encode("ascii"))


def secrets_of(settings: ProviderSettings, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return every secret text of the settings, longest first, and `more` with them."""
    own = (value.get_secret_value() for value in settings.__dict__.values() if isinstance(value, SecretStr))
    return tuple(sorted({*own, *more} - {""}, key=len, reverse=True))
