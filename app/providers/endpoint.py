"""Where a provider's API stands and how a request to it is put together."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from app.core.config import ProviderSettings
from app.core.exchange import Request

_URL_TEXT = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # printable ASCII, no blank, no backslash
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
# These belong to the client: a second opinion on length, framing or encoding is how requests get smuggled.
_CLIENT_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)


def _read_switch(value: Any) -> Any:
    # `allow_http: ${NAME:-false}` arrives as text.
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class RemoteSettings(ProviderSettings):
    """What every provider type reached over HTTP has in common: `https://` unless said otherwise."""

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
    url = _split_url(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.fragment:
        raise ValueError("must be an https:// URL with a host, and without user, password or #fragment")
    if url.scheme == "http" and not (allow_http or is_loopback(url.hostname)):
        raise ValueError("must begin with https://; set allow_http: true if plain HTTP really is meant")
    return value.rstrip("/")


def _split_url(value: str) -> SplitResult:
    if not _URL_TEXT.fullmatch(value):
        raise ValueError("must be a URL of printable ASCII characters, without blanks")
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("must be a URL; its host or port cannot be read") from None
    return url


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_header_value(value: str) -> str:
    """Return the value if it can stand in a header, else raise ValueError without showing it."""
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("must be printable ASCII without line breaks, for it goes into a header")
    return value


def check_header_secret(value: SecretStr) -> SecretStr:
    """Return the secret if it can stand in a header, else raise ValueError without showing it."""
    check_header_value(value.get_secret_value())
    return value


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return configured headers if a request may carry them, else raise ValueError that names the culprit."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _CLIENT_HEADERS:
            raise ValueError(f"the header {name[:40]!r} cannot be set")
        check_header_value(value)
    return headers


def build_json_request(method: str, url: str, headers: Mapping[str, str], payload: Any) -> Request:
    """Return a request with `payload` as its JSON body.

    The JSON is plain ASCII: no value can be misread by a provider that takes it for another charset, and
    even half a surrogate pair, which UTF-8 cannot carry, gets through.
    """
    body = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")
    own = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return Request(method, url, {"content-type": "application/json", **own}, body)


def secrets_of(settings: ProviderSettings, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return every secret text of the settings, longest first, and `more` with them."""
    return tuple(sorted({*_secret_fields(settings), *more} - {""}, key=len, reverse=True))


def _secret_fields(settings: ProviderSettings) -> Iterator[str]:
    for value in settings.__dict__.values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
