"""Of a provider's words people are shown known fields only, with secrets and personal data struck out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.message.redact import MAX_DETAIL, STRUCK
from app.providers.json import clean_text

MAX_READ = 4_000
SHORTEST_SECRET = 4  # striking out shorter ones would tear up ordinary words
_EMAIL = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}")
# Seven digits and more, however they are grouped: every phone number, and no Meta error code (six at most).
_LONG_NUMBER = re.compile(r"\+?\d(?:[\s().\-/]{0,2}\d){6,}")


def redact(text: str, secrets: Sequence[str]) -> str:
    """Return at most 200 characters on one line without secrets, e-mail addresses and long numbers."""
    shown = text[:MAX_READ]
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            shown = shown.replace(secret, STRUCK)
    shown = _LONG_NUMBER.sub(STRUCK, _EMAIL.sub(STRUCK, clean_text(shown)))
    return " ".join(shown.split())[:MAX_DETAIL]
