"""A webhook's body as a value, whatever its bytes."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from app.providers.json import parse_json

# Meta promises at most 1,000 updates and 3 MB:
# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview
MAX_BYTES = 4 * 1024 * 1024
_MAX_FORM_BYTES = 65_536
_FORM = "application/x-www-form-urlencoded"


def parse_webhook(headers: Mapping[str, str], body: bytes) -> Any:
    """Return the parsed JSON, or a form's fields as an object of texts; None where it is neither."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        return dict(parse_qsl(body[:_MAX_FORM_BYTES].decode(errors="replace")))
    return parse_json(body.removeprefix(BOM_UTF8), MAX_BYTES)
