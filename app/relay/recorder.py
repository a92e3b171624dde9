"""The recorder: keeps the last events of each topic with invented values, beside the way of the event itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from app.delivery.pace import Bucket, take
from app.errors import Refusal, StoreError
from app.model.event import Event
from app.outbox.retention import record_event
from app.outbox.store import Store
from app.outbox.values import Recording
from app.sources.base import parse_body
from app.values.text import is_missing

# Enough to see every kind of event; a burst of 100,000 reminders is seen once.
BURST = 20
PER_SECOND = 0.2
MOST_TOPICS = 200


class Recorder:
    """Notes events. What it keeps cannot be traced back: the key is made from secrets that the outbox does not hold."""

    def __init__(self, outbox: Store, secrets: Sequence[str]) -> None:
        self._outbox = outbox
        self._key = hmac.digest("\0".join(secrets).encode("utf-8", "replace"), b"recordings", hashlib.sha256)
        self._buckets: dict[str, Bucket] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, event: Event) -> None:
        """Keep an event soon, if its topic has not had many lately. Never raises, never waits."""
        bucket = self._buckets.get(event.topic)
        if bucket is None:
            if len(self._buckets) >= MOST_TOPICS:
                return
            bucket = Bucket(PER_SECOND, BURST, tokens=BURST, updated_at=event.received_at)
        self._buckets[event.topic], granted = take(bucket, event.received_at, 1)
        if granted:
            task = asyncio.create_task(self._keep(event))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing)

    async def _keep(self, event: Event) -> None:
        read = event.payload or parse_body(event.body)  # those that are kept are few
        faked = {} if isinstance(read, Refusal) else fake_payload(read, self._key)
        payload = json.dumps(faked, ensure_ascii=True)
        try:
            recording = Recording(event.topic, event.received_at, payload)
            await self._outbox.write(partial(record_event, recording=recording))
        except StoreError:
            return  # a convenience: the event itself is safe, and whoever waits for space needs it more


NAMES = ("Riya", "Kabir", "Asha", "Dev", "Meera", "Arjun", "Isha", "Rohan", "Tara", "Vikram", "Nila", "Omar")
LONGEST_LIST = 20
_SMALL = 10_000_000  # amounts, counts and ratings; what is larger may be an id or a number to call

_WORDS = re.compile(r"[a-z]+")
# Of the shop and not of a person; or one of a few words.
_HARMLESS = frozenset(
    {"country", "currency", "status", "type", "class", "tier", "operation", "language", "topic", "rating"}
)
_PERSONS = frozenset({"user", "customer", "lead", "first", "last", "full", "referrer", "referee", "name", "display"})
_PHONE_WORDS = frozenset({"mobile", "phone", "whatsapp", "msisdn", "tel"})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_AMOUNT = re.compile(r"-?\d{1,7}(\.\d{1,4})?")
_PHONE = re.compile(r"\(?\+?[0-9][0-9 ().\-]{6,22}[0-9]")
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PLAIN = re.compile(r"[^@]{0,60}")
_SHORTEST, _LONGEST = 7, 15  # digits of a number, E.164
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_NATIONAL = re.compile(r"(?:91)?[6-9][0-9]{9}")


def fake_payload(payload: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Return the same shape with invented values. Pure: the same for the same `key` and values."""
    # A key that is no plain name may be a value, too.
    names = {name: name if _KEY.fullmatch(name) else _fake_letters(name, key) for name in payload}
    return {names[name]: _fake_value(name, value, key) for name, value in payload.items()}


def _fake_value(name: str, value: Any, key: bytes) -> Any:
    if isinstance(value, Mapping):
        return fake_payload(value, key)
    if isinstance(value, list):
        return [_fake_value(name, item, key) for item in value[:LONGEST_LIST]]
    if isinstance(value, str):
        return _fake_text(name, value, key)
    if isinstance(value, bool) or value is None:
        return value
    number: float = float(value)
    if abs(number) < _SMALL and not _split_name(name) & _PHONE_WORDS:
        return value
    return int(_fake_letters(str(int(number)), key) or 0)


def _fake_text(name: str, text: str, key: bytes) -> str:
    words = _split_name(name)
    if is_missing(text) or (_is_harmless(name) and _PLAIN.fullmatch(text)):
        return text
    if words & _PHONE_WORDS:
        return _fake_phone(text, key)
    if _DATE.fullmatch(text) or _AMOUNT.fullmatch(text):
        return text
    if "email" in words or _MAIL.fullmatch(text):
        return f"{_choose_name(text, key).lower()}{_draw(text, key)[1] % 100}@example.com"
    if _PHONE.fullmatch(text):
        return _fake_phone(text, key)
    if "name" in words and words <= _PERSONS:
        return _choose_name(text, key)
    if text.startswith(("http://", "https://")):
        return _fake_link(text, key)
    return _fake_letters(text, key)


def _is_harmless(name: str) -> bool:
    words = _WORDS.findall(name.lower())
    return words[:1] == ["business"] or words[-1:] in ([word] for word in _HARMLESS)


def _split_name(name: str) -> set[str]:
    return {*_WORDS.findall(name.lower())}


def _fake_phone(text: str, key: bytes) -> str:
    """Return one of the hundred numbers that are nobody's, written with a country code where that one was.

    What is too short or too long for any number stays no number: an event that died of it has to die again.
    """
    digits = re.sub("[^0-9]", "", text)
    if not _SHORTEST <= len(digits) <= _LONGEST:
        return _fake_letters(text, key)
    number = f"98000000{_draw(digits[-10:], key)[0] % 100:02}"
    if "+" in text or not _NATIONAL.fullmatch(digits):
        return f"+91{number}"
    return f"91{number}" if len(digits) > len(number) else number


def _fake_link(text: str, key: bytes) -> str:
    path = text.partition("://")[2].partition("/")[2]
    scheme = urlsplit(text).scheme
    return f"{scheme}://shop.example/{_fake_letters(path, key)}"


def _choose_name(text: str, key: bytes) -> str:
    return NAMES[_draw(text, key)[0] % len(NAMES)]


def _fake_letters(text: str, key: bytes) -> str:
    """Return a text of the same pattern: letters for letters, digits for digits, the rest as it is."""
    drawn = _draw(text, key)
    while len(drawn) < len(text):
        drawn += hmac.digest(key, drawn, hashlib.sha256)
    return "".join(map(_swap, text, drawn))


def _swap(sign: str, byte: int) -> str:
    if sign.isdigit():
        return str(byte % 9 + 1)
    if sign.isupper():
        return chr(ord("A") + byte % 26)
    return chr(ord("a") + byte % 26) if sign.isalpha() else sign


def _draw(text: str, key: bytes) -> bytes:
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
