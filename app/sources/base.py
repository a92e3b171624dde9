"""The relay asks this of a source; a webhook's body is read strictly, its secrets and signatures in constant time.

What is taken means the same to every program after this one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from binascii import hexlify
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from app.errors import Mistake, Refusal
from app.model.event import Act, Person
from app.model.value import dataclass
from app.sources.properties import Properties
from app.values.text import SentFloat


class Verified(NamedTuple):
    """The recipe by which a body's signature holds."""

    recipe: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as its source sent it.

    `topic` under its one name; `source_id`: the source's own id of this webhook, the same on each of its retries;
    `sent_at`: ms since the epoch; numbers in `payload` keep their text; `notes`: properties of another kind than usual.
    """

    topic: str
    source_id: str | None
    sent_at: int | None
    payload: dict[str, Any]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A sender of events. A module that has all of this is one: see app/sources/__init__.py."""

    name: str
    """What its path ends with (`/webhooks/NAME`), and what its events are stored under."""
    title: str
    """What people call it."""
    topics: Mapping[str, str]
    """Every topic that is known, under its one name, with what it tells."""
    spellings: Mapping[str, str]
    """Other names of topics, each with the one name."""
    properties: Mapping[str, Collection[str]]
    """By topic: dotted paths that its event may well hold. An open list: others may come."""
    aims: Mapping[str, Act]
    """By topic: what a message about it is meant to bring about; for any other topic: an order."""
    tellers: Mapping[Act, str]
    """By act: the topic whose events tell of it; where none has come, nobody knows."""
    cures: Mapping[Mistake, str]
    """What to do where a webhook's secret does not fit."""

    def find_model(self, topic: str, /) -> type[Properties]:
        """Return what the events of a topic are expected to hold."""

    def canonical_topic(self, text: str, /) -> str:
        """Return the topic under its one name; a text that is no known topic comes back stripped."""

    def find_mistake(self, headers: Mapping[str, str], secrets: Sequence[str], /) -> Mistake | None:
        """Return what is wrong with a webhook's secret, before its body is read; None if it fits one of `secrets`.

        The names in `headers` are lower case, here and below. Never raises.
        """

    def verify(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Sequence[str],
        /,
        *,
        only: str = "",
        thorough: bool = False,
    ) -> Verified | Mistake:
        """Return the recipe by which the body is signed with one of `secrets`, or why there is none. Never raises.

        `only`: no other recipe counts. `thorough`: every likely content is tried, and not the raw body alone.
        """

    def read_topic(self, headers: Mapping[str, str], /) -> str:
        """Return the topic that a webhook's headers name, "" if none."""

    def read(self, headers: Mapping[str, str], body: bytes, /) -> Envelope | Refusal:
        """Return the event in a webhook, or what is wrong with it. Never raises."""

    def find_person(self, payload: Mapping[str, Any], /) -> Person:
        """Return whom an event is about."""

    def read_acts(self, topic: str, payload: Mapping[str, Any], /) -> tuple[Act, ...]:
        """Return what an event tells that its customer did; () for most. `topic` under its one name."""


_DEPTH_LIMIT = 32
_INT_DIGITS = 18  # beyond them other programs round, so the text is kept
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # possessive: linear on any bytes
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


class _RefusedError(ValueError):
    """A body that Python's parser would take, or that we must not."""


def parse_body(body: bytes) -> dict[str, Any] | Refusal:
    """Return the JSON object in `body`; numbers keep the text they were sent with. Never raises.

    Stricter than Python's parser: UTF-8, no NaN or Infinity, no number beyond the range, no key twice,
    at most 32 levels, no half characters. A refusal names a place or a key, never a value.
    """
    try:
        payload = _decode(body)
    except UnicodeDecodeError as error:
        return Refusal(400, f"the body is not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        return Refusal(400, f"the body is not JSON at {place}: {error.msg}")
    except _RefusedError as error:
        return Refusal(400, str(error))
    if not isinstance(payload, dict):
        return Refusal(422, "the body is JSON, but not an object")
    return payload


def _decode(body: bytes) -> Any:
    # Counting is quick and mostly enough; only a body with many brackets is worth a careful look.
    if body.count(b"{") + body.count(b"[") > _DEPTH_LIMIT and _measure_depth(body) > _DEPTH_LIMIT:
        raise _RefusedError(f"the body is nested deeper than {_DEPTH_LIMIT} levels")
    payload = _read_text(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    if _HALF_CHARACTER.search(body):
        _refuse_half_characters(payload)
    return payload


def _read_text(text: str) -> Any:
    """Return what `_DECODER.decode` does, which takes four calls, and which tells what is wrong where anything is."""
    bare = text.strip(" \t\r\n")
    try:
        payload, end = _SCAN(bare, 0)
    except (StopIteration, json.JSONDecodeError):
        return _DECODER.decode(text)
    return payload if end == len(bare) else _DECODER.decode(text)


def _measure_depth(body: bytes) -> int:
    """Return how deep the brackets outside of strings go."""
    steps = (1 if token in b"[{" else -1 for token in _BRACKETS.findall(body) if token in b"[]{}")
    return max(accumulate(steps), default=0)


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # the set remembers
        raise _RefusedError(f"{_name_key(twice)} is there twice in one object")
    return found


def _read_float(text: str) -> SentFloat:
    number = SentFloat(text)
    if number - number != 0:
        raise _RefusedError("a number is too large")
    return number


def _read_int(text: str) -> Any:
    if text == "-0":
        return SentFloat(text)
    return int(text) if len(text.lstrip("-")) <= _INT_DIGITS else text


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(  # made once: it holds no state, and making it takes a fifth of the time of a body
    object_pairs_hook=_read_object, parse_float=_read_float, parse_int=_read_int, parse_constant=_refuse_constant
)
_SCAN: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed leaves it out


def _refuse_half_characters(value: Any) -> None:
    """Refuse surrogates without their other half: they pass the parser and then break in databases and on the wire."""
    if isinstance(value, str):
        if not _is_whole(value):
            raise _RefusedError("a text holds half a character (a lone surrogate)")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_half_characters(key)
            _refuse_half_characters(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_half_characters(item)


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _name_key(key: str) -> str:
    """Return a key to print; one that is no plain name may hold anything."""
    return f"the key `{key}`" if _PLAIN_KEY.fullmatch(key) else "a key"


RAW = "body"
_WRITERS: Sequence[tuple[str, Callable[[bytes], bytes]]] = (("hex", hexlify), ("base64", base64.b64encode))
ENCODINGS = tuple(encoding for encoding, _ in _WRITERS)
KEYS: Mapping[str, Callable[[bytes], bytes]] = {
    "secret": lambda secret: secret,
    "sha256hex(secret)": lambda secret: hashlib.sha256(secret).hexdigest().encode(),
    "sha256(secret)": lambda secret: hashlib.sha256(secret).digest(),
}


def verify_secret(header_value: str | None, secrets: Sequence[str]) -> bool:
    """Tell whether a header is the hex SHA-256 of one of `secrets`.

    Takes as long for any wrong value, and compares with every secret. Blank secrets fit nothing. Never raises.
    """
    given = (header_value or "").strip().encode("utf-8", "replace").lower()
    fits = False
    for secret in secrets:
        fits |= hmac.compare_digest(given, _hash_secret(secret))
    return fits


@lru_cache(maxsize=64)
def _hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest().encode() if secret.strip() else b" " * 64


def find_secret_mistake(header_value: str | None, secrets: Sequence[str]) -> Mistake | None:
    """Return what is wrong with the hex SHA-256 of a secret, None if it fits one of `secrets`. Never raises."""
    if verify_secret(header_value, secrets):
        return None
    given = (header_value or "").strip().encode("utf-8", "replace")
    plain = [hmac.compare_digest(given, secret.strip().encode("utf-8", "replace")) for secret in secrets]
    if not given:
        return Mistake.MISSING
    return Mistake.PLAIN if any(plain) else Mistake.OTHER


def match_hmac(
    header_value: str | None, secrets: Sequence[str], signed: Mapping[str, bytes], only: str = ""
) -> str | None:
    """Return the scheme by which a header signs one of the contents in `signed`; None if none does.

    Where a source documents neither key nor encoding nor what is signed, every likely one is tried; or `only` one
    scheme, once a capture has shown it. `signed`: see list_signed. Never raises.
    """
    given = (header_value or "").strip().removeprefix("sha256=").encode("utf-8", "replace")
    for over, content in signed.items():
        for secret in secrets:
            for name, key in _list_keys(secret):
                digest = hmac.digest(key, content, "sha256")
                for encoding, write in _WRITERS:
                    # Any wrong value takes as long; the right one may be told by its time, as it is by its answer.
                    if hmac.compare_digest(given.lower() if encoding == "hex" else given, write(digest)):
                        scheme = name_scheme(encoding, name, over)
                        if only in {"", scheme}:
                            return scheme
    return None


@lru_cache(maxsize=64)
def _list_keys(secret: str) -> Sequence[tuple[str, bytes]]:
    """Return each key that may be made of a secret, with its name; none of a blank one."""
    made = secret.encode("utf-8", "replace")
    return [(name, make_key(made)) for name, make_key in KEYS.items()] if secret.strip() else []


@lru_cache(maxsize=64)
def name_scheme(encoding: str, key: str, over: str) -> str:
    """Return `hex/key=secret`, and `/over=timestamp.body` where it is not the raw body that is signed."""
    return f"{encoding}/key={key}" + ("" if over == RAW else f"/over={over}")


def list_schemes() -> list[str]:
    """Return every scheme that can be asked for."""
    overs = list_signed(b"{}", "", "")
    return [name_scheme(encoding, key, over) for over in overs for key in KEYS for encoding in ENCODINGS]


def list_signed(body: bytes, time: str, id_: str) -> dict[str, bytes]:
    """Return what a sender may have signed, by name, the raw body first. `time` and `id_`: of the headers."""
    return {RAW: body, **{name: content.encode("utf-8", "replace") for name, content in _join(body, time, id_)}}


def _join(body: bytes, time: str, id_: str) -> Iterator[tuple[str, str]]:
    text = body.decode("utf-8", "replace")
    yield "timestamp.body", f"{time}.{text}"
    yield "timestamp+body", f"{time}{text}"
    yield "id.timestamp.body", f"{id_}.{time}.{text}"
    # What a sender's JSON library makes of it: JavaScript writes no blanks, and some sort the keys first.
    for name, sort in (("compact", False), ("compact-sorted", True)):
        yield name, _write_compact(text, sort=sort)


def _write_compact(text: str, *, sort: bool) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
    except (ValueError, RecursionError):
        return text
