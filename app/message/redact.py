"""Striking a message's own values out of what others say of it: a provider may repeat them in its refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from app.model.message import Message

MAX_DETAIL = 200
"""The longest text that is kept of what a provider says: so long, it may have been cut in the middle of a value."""
STRUCK = "***"
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
