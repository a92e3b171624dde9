"""What of a provider's words may be shown to people: known fields only, secrets and personal data struck out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.core.models import Accepted, Message, Outcome
from app.providers.probing import clean_text

MAX_DETAIL = 200
MAX_READ = 4_000
STRUCK = "***"
SHORTEST_SECRET = 4  # striking out shorter ones would tear up ordinary words
SHORTEST_NAME, SHORTEST_NUMBER = 2, 4
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


def strike_values(outcome: Outcome, message: Message) -> Outcome:
    """Return the outcome without the message's own values, which a provider may repeat in its refusal."""
    if isinstance(outcome, Accepted) or not outcome.detail:
        return outcome
    # The longest first: a name may be a part of another value.
    values = sorted(set(_list_values(message)), key=len, reverse=True)
    shown = outcome.detail
    for value in values:
        shown = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", STRUCK, shown, flags=re.IGNORECASE)
    if len(outcome.detail) >= MAX_DETAIL:  # it was cut, perhaps in the middle of a value
        shown = _strike_beginning(shown, values)
    return replace(outcome, detail=shown)


def _list_values(message: Message) -> Iterator[str]:
    """Yield what may tell whom the message is for; short numbers may be anything, an error code too."""
    header = [message.header.value] if message.header else []
    values = [variable.value for variable in message.variables] + header + [button.url for button in message.buttons]
    for value in (*values, message.recipient_name, *message.recipient_name.split()):
        if len(value) >= SHORTEST_NUMBER or (len(value) >= SHORTEST_NAME and not value.isdecimal()):
            yield value


def _strike_beginning(text: str, values: Sequence[str]) -> str:
    for value in values:
        for length in range(len(value) - 1, SHORTEST_NAME - 1, -1):
            if text.lower().endswith(value[:length].lower()):
                return text[:-length] + STRUCK
    return text
