"""A provider's webhook: what proves that it is genuine, and its body as a value, whatever its bytes.

Everything is compared in constant time, and no secret means no.
"""

from __future__ import annotations

import base64
import hmac
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from app.errors import Mistake
from app.providers.json import parse_json

# Meta promises at most 1,000 updates and 3 MB:
# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview
MAX_BYTES = 4 * 1024 * 1024
_MAX_FORM_BYTES = 65_536
_FORM = "application/x-www-form-urlencoded"
_BASE64, _HEX = r"[A-Za-z0-9+/]{43}=", r"(sha256=)?[0-9A-Fa-f]{64}"
_FORMS = {"base64": _BASE64, "hex": _HEX, "either": f"{_BASE64}|{_HEX}"}


def parse_webhook(headers: Mapping[str, str], body: bytes) -> Any:
    """Return the parsed JSON, or a form's fields as an object of texts; None where it is neither."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        return dict(parse_qsl(body[:_MAX_FORM_BYTES].decode(errors="replace")))
    return parse_json(body.removeprefix(BOM_UTF8), MAX_BYTES)


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """The token in a webhook's URL proves that its sender was told it; its body proves nothing."""

    expected: str
    given: str

    def find_mistake(self) -> Mistake | None:
        """Return what is wrong with the token, None if it is the expected one."""
        # A plus in a URL stands for a blank, and few people write %2B.
        if _is_same(self.expected.replace("+", " "), self.given.replace("+", " ")):
            return None
        if not self.expected:
            return Mistake.UNSET
        return Mistake.OTHER if self.given else Mistake.MISSING

    def fits(self, body: bytes) -> bool:  # noqa: ARG002 - as of a signature
        """Tell whether the token is the expected one."""
        return self.find_mistake() is None


@dataclass(frozen=True, slots=True, repr=False)
class Signature:
    """A header holds the raw body's HMAC-SHA256: in base64, or in hex, after `sha256=` as Meta sends it or bare."""

    secret: str
    given: str
    form: Literal["base64", "hex", "either"]

    def find_mistake(self) -> Mistake | None:
        """Return why this can sign no body at all, None where the body decides."""
        if not self.secret:
            return Mistake.UNSET
        if not self.given.strip():
            return Mistake.MISSING
        return None if re.fullmatch(_FORMS[self.form], self.given.strip()) else Mistake.MALFORMED

    def fits(self, body: bytes) -> bool:
        """Tell whether this is the body's signature, in a form that is taken."""
        digest, given = hmac.digest(self.secret.encode(), body, "sha256"), self.given.strip()
        in_base64 = _is_same(base64.b64encode(digest).decode(), given)
        in_hex = _is_same(digest.hex(), given.removeprefix("sha256=").lower())
        taken = {"base64": in_base64, "hex": in_hex, "either": in_base64 or in_hex}
        return bool(self.secret) and taken[self.form]


def read_challenge(expected: str, query: Mapping[str, str]) -> str | None:
    """Return what Meta wants to hear back when a webhook is set up, None where it does not name our token.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests
    """
    challenge, token = query.get("hub.challenge", ""), Token(expected, query.get("hub.verify_token", ""))
    fits = query.get("hub.mode") == "subscribe" and token.find_mistake() is None
    return challenge if fits and re.fullmatch(r"[\w.~-]{1,200}", challenge, re.ASCII) else None


def _is_same(expected: str, given: str) -> bool:
    # As bytes: compare_digest refuses text that is not ASCII, and a forger may send just that.
    return bool(expected) and hmac.compare_digest(expected.encode(), given.encode(errors="replace"))
