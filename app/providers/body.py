"""The body of a provider's webhook or answer: what proves that it is genuine, and its values, whatever its bytes.

Secrets are compared in constant time, and no secret means no. Nothing here raises.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import compress
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from app.errors import Mistake
from app.model.value import dataclass

MAX_BYTES = 65_536
MAX_ID = 200
MS_FROM = 100_000_000_000  # a Unix time from here on counts milliseconds: as seconds it would be the year 5138
_STEPS = re.compile(r"[^.\[\]]+")
_UNIX_TIME = re.compile(r"[0-9]{1,14}")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
MAX_LEVELS = 16  # objects, lists and texts around a value: an error of Meta's in four wrappings of each kind
_ITEMS = 20
_DECODER = json.JSONDecoder()
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def parse_json(body: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Return the parsed JSON, or None where it is none, too long, too deep, or the literal null."""
    if len(body) > max_bytes:
        return None
    try:
        return _DECODER.decode(body.removeprefix(BOM_UTF8).decode())  # some servers write such a mark
    except (ValueError, RecursionError):
        return None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_items(value: Any) -> Sequence[Any]:
    """Return the value if it is an array, else an empty one."""
    return value if isinstance(value, list) else ()


def read_path(value: Any, path: str) -> Any:
    """Return what stands at `path` (`data.id`, `messages[0].id`), None where nothing does."""
    return _walk(value, _STEPS.findall(path))


def find_values(value: Any, paths: tuple[str, ...]) -> Iterator[Any]:
    """Yield what stands at each of `paths`, in their order, where anything does."""
    keys, split = _split_paths(paths)
    here = compress(split, map(value.__contains__, keys)) if isinstance(value, dict) else split
    for steps in here:  # most of them are in no answer
        if (found := _walk(value, steps)) is not None:
            yield found


@lru_cache(maxsize=1_024)  # ours, and those of the YAML
def _split_paths(paths: tuple[str, ...]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the keys with which paths begin, and all steps of each."""
    split = [_STEPS.findall(path) for path in paths]
    return ["".join(steps[:1]) for steps in split], split


def _walk(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:6]) < len(value):
            value = value[int(step[:6])]
        else:
            return None
    return value


def first_text(value: Any, paths: tuple[str, ...]) -> str | None:
    """Return the first of `paths` that holds a text or a whole number that can serve as an id or a word."""
    for found in find_values(value, paths):
        if (text := as_text(found)) is not None:
            return text
    return None


def as_text(value: Any) -> str | None:
    """Return a text or whole number as clean text of at most 200 characters, None for anything else or nothing."""
    if isinstance(value, str):
        text = clean_text(value).strip()
        return text if 0 < len(text) <= MAX_ID else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return str(value) if abs(value) < 10**MAX_ID else None


def clean_text(text: str) -> str:
    """Return the text on one line and free of what a store or a terminal would choke on."""
    return text if text.isprintable() else _LONE_SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", text))


class Place(NamedTuple):
    """A value in a JSON answer: its key, folded (`Error_Code` is `errorcode`), and the object and keys around it."""

    key: str
    value: Any
    fields: Mapping[str, Any]
    inside: tuple[str, ...]


def walk_places(value: Any, inside: tuple[str, ...] = (), levels: int = MAX_LEVELS) -> Iterator[Place]:
    """Yield what stands in a value in the order written, down to some levels of objects, lists and JSON in a text.

    A text in a list goes by the list's key. At most the first 20 items of a list are looked at.
    """
    if levels == 0:
        return
    if isinstance(value, str):
        yield from walk_places(read_embedded(value), inside, levels - 1)
    elif isinstance(value, list):
        for item in value[:_ITEMS]:
            if isinstance(item, str) and inside:
                yield Place(inside[-1], item, {}, inside[:-1])
            yield from walk_places(item, inside, levels - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            key = name.lower().replace("_", "").replace("-", "")
            yield Place(key, item, value, inside)
            if isinstance(item, dict | list | str):
                yield from walk_places(item, (*inside, key), levels - 1)


def read_embedded(text: str) -> Any:
    """Return the first JSON object that a text holds, None where it holds none."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        return _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def first_instant(value: Any, paths: tuple[str, ...]) -> int | None:
    """Return the first of `paths` that holds an instant, as `read_instant` reads it."""
    return next((at for found in find_values(value, paths) if (at := read_instant(found)) is not None), None)


def read_instant(value: Any) -> int | None:
    """Return a Unix time in s or ms (number or text) or an ISO 8601 time with a zone as ms, None if it is neither."""
    if isinstance(value, str):
        return _read_instant_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MS_FROM * 1000:
        return None
    return int(value) if value >= MS_FROM else int(value * 1000)


def _read_instant_text(text: str) -> int | None:
    if _UNIX_TIME.fullmatch(text):
        return read_instant(int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read_instant(moment.timestamp()) if moment.tzinfo is not None else None


# Meta promises at most 1,000 updates and 3 MB:
# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview
MAX_WEBHOOK_BYTES = 4 * 1024 * 1024
_MAX_FORM_BYTES = 65_536
_FORM = "application/x-www-form-urlencoded"
_BASE64, _HEX = r"[A-Za-z0-9+/]{43}=", r"(sha256=)?[0-9A-Fa-f]{64}"
_FORMS = {"base64": re.compile(_BASE64), "hex": re.compile(_HEX), "either": re.compile(f"{_BASE64}|{_HEX}")}


def parse_webhook(headers: Mapping[str, str], body: bytes) -> Any:
    """Return the parsed JSON, or a form's fields as an object of texts; None where it is neither."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        return dict(parse_qsl(body[:_MAX_FORM_BYTES].decode(errors="replace")))
    return parse_json(body.removeprefix(BOM_UTF8), MAX_WEBHOOK_BYTES)


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
        return None if _FORMS[self.form].fullmatch(self.given.strip()) else Mistake.MALFORMED

    def fits(self, body: bytes) -> bool:
        """Tell whether this is the body's signature, in a form that is taken."""
        digest, given = hmac.digest(self.secret.encode(), body, "sha256"), self.given.strip()
        is_ours = self.form != "hex" and _is_same(base64.b64encode(digest).decode(), given)
        if self.form != "base64":
            is_ours |= _is_same(digest.hex(), given.removeprefix("sha256=").lower())
        return bool(self.secret) and is_ours


def read_challenge(expected: str, query: Mapping[str, str]) -> str | None:
    """Return what Meta wants to hear back when a webhook is set up, None where it does not name our token."""
    # https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests
    challenge, token = query.get("hub.challenge", ""), Token(expected, query.get("hub.verify_token", ""))
    fits = query.get("hub.mode") == "subscribe" and token.find_mistake() is None
    return challenge if fits and re.fullmatch(r"[\w.~-]{1,200}", challenge, re.ASCII) else None


def _is_same(expected: str, given: str) -> bool:
    # As bytes: compare_digest refuses text that is not ASCII, and a forger may send just that.
    return bool(expected) and hmac.compare_digest(expected.encode(), given.encode(errors="replace"))
