"""Providers sign their webhooks. Everything is compared in constant time, and no secret means no."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal

from app.errors import Mistake

_BASE64, _HEX = r"[A-Za-z0-9+/]{43}=", r"(sha256=)?[0-9A-Fa-f]{64}"
_FORMS = {"base64": _BASE64, "hex": _HEX, "either": f"{_BASE64}|{_HEX}"}


def has_token(expected: str, query: Mapping[str, str], name: str = "token") -> bool:
    """Tell whether `?token=` is the expected one. A plus in a URL stands for a blank, and few people write %2B."""
    return _same(expected.replace("+", " "), query.get(name, "").replace("+", " "))


def read_challenge(expected: str, query: Mapping[str, str]) -> str | None:
    """Return what Meta wants to hear back when a webhook is set up, None where it does not name our token.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests
    """
    challenge = query.get("hub.challenge", "")
    fits = query.get("hub.mode") == "subscribe" and has_token(expected, query, "hub.verify_token")
    return challenge if fits and re.fullmatch(r"[\w.~-]{1,200}", challenge, re.ASCII) else None


def has_base64_signature(secret: str, signature: str, body: bytes) -> bool:
    """Tell whether `signature` is the base64 HMAC-SHA256 of the raw body."""
    expected = base64.b64encode(_sign(secret, body)).decode()
    return bool(secret) and _same(expected, signature.strip())


def has_hex_signature(secret: str, signature: str, body: bytes) -> bool:
    """Tell whether `signature` is the hex HMAC-SHA256 of the raw body, after `sha256=` as Meta sends it, or bare."""
    return bool(secret) and _same(_sign(secret, body).hex(), signature.strip().removeprefix("sha256=").lower())


def find_token_mistake(expected: str, query: Mapping[str, str]) -> Mistake | None:
    """Return what is wrong with `?token=`, None if it is the expected one."""
    if has_token(expected, query):
        return None
    if not expected:
        return Mistake.UNSET
    return Mistake.OTHER if query.get("token") else Mistake.MISSING


def find_signature_mistake(secret: str, signature: str, form: Literal["base64", "hex", "either"]) -> Mistake | None:
    """Return why `signature` can be no body's HMAC-SHA256, None where the body decides."""
    if not secret:
        return Mistake.UNSET
    if not signature.strip():
        return Mistake.MISSING
    return None if re.fullmatch(_FORMS[form], signature.strip()) else Mistake.MALFORMED


def _sign(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def _same(expected: str, given: str) -> bool:
    # As bytes: compare_digest refuses text that is not ASCII, and a forger may send just that.
    return bool(expected) and hmac.compare_digest(expected.encode(), given.encode(errors="replace"))
