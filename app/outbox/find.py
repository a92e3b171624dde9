"""Finding by what people type: an id by its end, and one person in every event that has to do with them.

Those are about them, were sent to them, or name their number anywhere.

Wiped events are found by the keyed hashes alone, the others by reading every body, some hundred at a time.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import unquote

from app.errors import Refusal
from app.model.value import dataclass
from app.outbox.people import adopt_people, hash_person
from app.outbox.store import Row, Store, Tx
from app.outbox.values import IN_LUMPS
from app.sources.base import parse_body
from app.values.phone import find_other_form, split_phone, to_one_form
from app.values.text import clean_text

PAGE = 2_000  # rows: lanes wait for the same reading connection
BODIES_PAGE = 300  # each is read through

_NEXT = "seq > :seq ORDER BY seq LIMIT :limit"
_ABOUT = f"SELECT seq, customer FROM events WHERE {IN_LUMPS['events']} person = :hash AND {_NEXT}"  # noqa: S608 - ours
_SENT_TO = f"SELECT seq, event_seq FROM deliveries WHERE {IN_LUMPS['deliveries']} person = :hash AND {_NEXT}"  # noqa: S608 - ours
# Who has another number is somebody else, whatever id the source gives them.
_LINKED = f"SELECT seq FROM events WHERE {IN_LUMPS['events']} customer = :hash AND person IS NULL AND {_NEXT}"  # noqa: S608 - ours
_BODIES = """
SELECT seq, received_at, body FROM events /*sqlite INDEXED BY events_unwiped*/
WHERE body IS NOT NULL AND received_at >= :received_at AND (received_at > :received_at OR seq > :seq)
ORDER BY received_at, seq LIMIT :limit
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """A person is sought by E.164, by the keyed hash of it, and in texts."""

    number: str
    hash: bytes
    sought: Sought


class Found(NamedTuple):
    """A person is found here (seqs of events, each once): `linked` by an id alone, `named` or written to, `about`.

    Those that are found only through another event come first: whoever erases in this order finds the rest again.
    """

    linked: Sequence[int]
    named: Sequence[int]
    about: Sequence[int]


async def seek_person(store: Store, number: str) -> Person:
    """Return what a person is found by. What an earlier release kept under their other form becomes theirs first."""
    if find_other_form(to_one_form(number)):
        await store.write(partial(adopt_people, numbers=(number,)))
    hash_ = await store.read(lambda tx: hash_person(tx.people_key, number))
    return Person(number, hash_ or b"", seek_number(number))


async def find_person(store: Store, person: Person) -> Found:
    """Return the events of a person. Raises StoreError."""
    about = await _read_all(store, _ABOUT, person.hash)
    customers = {row.customer for row in about if row.customer is not None}
    theirs = {row.seq for row in about}
    linked = {row.seq for customer in customers for row in await _read_all(store, _LINKED, customer)}
    named = {row.event_seq for row in await _read_all(store, _SENT_TO, person.hash)}
    before_all = {"received_at": -(2**62), "seq": 0}
    named.update(await pick_rows(store, _BODIES, before_all, partial(_pick_named, person.sought), limit=BODIES_PAGE))
    return Found(*(sorted(each) for each in (linked - named - theirs, named - theirs, theirs)))


def _pick_named(sought: Sought, row: Row) -> int | None:
    return int(row.seq) if mentions(sought, row.body) else None


async def _read_all(store: Store, query: str, hash_: bytes) -> Sequence[Row]:
    return await pick_rows(store, query, {"seq": 0}, lambda row: row, hash=hash_, limit=PAGE)


async def pick_rows(
    store: Store, query: str, after: Mapping[str, Any], pick: Callable[[Row], T | None], *, limit: int, **values: Any
) -> list[T]:
    """Return what `pick` makes of a query's rows, which are read `limit` at a time; it drops a row by None.

    `after`: the columns by which a page goes on behind the last row of the one before, with what lies before all.
    """
    picked: list[T] = []
    last: Mapping[str, Any] | None = after
    while last is not None:
        page = partial(_pick_page, query, {**values, "limit": limit}, last, pick)
        some, last = await store.read(page, slow=True)
        picked += some
    return picked


def _pick_page(
    query: str, values: Mapping[str, Any], after: Mapping[str, Any], pick: Callable[[Row], T | None], tx: Tx
) -> tuple[list[T], Mapping[str, Any] | None]:
    rows = tx.rows(query, **values, **after)
    last = {name: getattr(rows[-1], name) for name in after} if len(rows) == values["limit"] else None
    return [picked for row in rows if (picked := pick(row)) is not None], last


_BETWEEN = r"[\s().\-/\u2010-\u2015\u2212]{0,3}"
_LEADING = re.compile(rf"(\+?)([0-9]*(?:{_BETWEEN}[0-9])*){_BETWEEN}\Z")
_LONGEST_LEAD = 12  # characters: `+91 (0) ` and the like
_NOT_DIGITS = bytes(sign for sign in range(256) if sign not in b"0123456789")
_ESCAPES = (b"\\u", b"%")  # whose own digits would tear a number apart
_LAST_DIGITS = re.compile(r"[0-9]*\Z")
_PREFIX = "wamid."


@dataclass(frozen=True, slots=True)
class Sought:
    """A number to look for: its calling code, the digits after it, and those as they may be grouped."""

    codes: tuple[str, ...]  # Mexico's and Argentina's mobiles have two
    national: str
    grouped: re.Pattern[str]


def seek_number(number: str) -> Sought:
    """Return what to look for where an E.164 number may stand."""
    code, national = split_phone(number)
    codes: tuple[str, ...] = (code,)
    if find_other_form(number):
        national = national.removeprefix("9") if code == "54" else national
        codes = (code, "549" if code == "54" else "521")
    return Sought(codes, national, re.compile(rf"{_BETWEEN.join(national)}(?![0-9])"))


def mentions(sought: Sought, body: bytes) -> bool:
    """Tell whether a JSON body names the number in any of its keys and values; what is no JSON is read as a text.

    Its digits may be grouped, with or without the calling code. With another country's code they are somebody else's.
    """
    is_plain = body.isascii() and not any(escape in body for escape in _ESCAPES)
    # Most bodies are done with here: JSON need not be read to see that the digits are nowhere.
    if is_plain and sought.national.encode() not in body.translate(None, _NOT_DIGITS):
        return False
    payload = parse_body(body)
    texts = (body.decode("utf-8", "replace"),) if isinstance(payload, Refusal) else _list_texts(payload)
    return any(_names(sought, text) for text in texts)


def is_told_by_id(sought: Sought, message_id: str) -> bool:
    """Tell whether a provider's id of a message holds the number: WhatsApp's own (`wamid.…`) do, in base64."""
    spelt = [f"{code}{sought.national}" for code in sought.codes]
    if any(digits in message_id for digits in spelt):
        return True
    coded = message_id.removeprefix(_PREFIX)
    try:
        decoded = base64.b64decode(coded + "=" * (-len(coded) % 4))
    except ValueError:  # binascii.Error is one, and so is a sign beyond ASCII
        return False
    return any(digits.encode() in decoded for digits in spelt)


def _list_texts(value: Any) -> Iterator[str]:
    """Yield every key and value of a payload as text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _list_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _list_texts(item)
    else:
        yield str(value)


def _names(sought: Sought, text: str) -> bool:
    plain = _plain_digits(text)
    readings = {plain, unquote(plain)} if "%" in plain else {plain}
    return any(
        _is_theirs(sought, reading[: found.start()])
        for reading in readings
        for found in sought.grouped.finditer(reading)
    )


def _plain_digits(text: str) -> str:
    """Return the text with every digit as one of ASCII, and nothing invisible between them."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", clean_text(text))
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in folded)


def _is_theirs(sought: Sought, before: str) -> bool:
    """Tell by what stands before the national digits whether they are this number's and not the end of another's."""
    lead = before[-_LONGEST_LEAD:]
    if (found := _LEADING.search(lead)) is not None and found[1]:
        digits = re.sub("[^0-9]", "", found[2])
        return digits in sought.codes or digits.removesuffix("0") in sought.codes
    (touching,) = _LAST_DIGITS.findall(lead)[:1]
    return touching in ("", "0") or touching.removeprefix("0").removeprefix("0") in sought.codes


# -- ids: whoever reads one off a screen types its last characters only -----------------------------

SHORTEST = 4
MOST_SHOWN = 6  # candidates
_EXACT = "SELECT id FROM {table} WHERE id = :name"
_BY_SOURCE = (
    "SELECT id FROM events WHERE source = :source AND source_delivery_id = :name ORDER BY seq DESC LIMIT :limit"
)
_BY_SUFFIX = """
SELECT id FROM {table} WHERE substr(id, length(id) - :length + 1) = :name ORDER BY id DESC LIMIT :limit
"""
_LAST = "SELECT id FROM events ORDER BY seq DESC LIMIT 1"


def find_ids(tx: Tx, table: Literal["deliveries", "events"], name: str, source: str) -> Sequence[str]:
    """Return the ids that a name means, newest first: the one that it is, else those that it ends.

    An event goes by its source's id, too, and the newest one by `last`. No delivery does: what names an event so is no
    suffix of a delivery's id.
    """
    if found := tx.rows(_EXACT.format(table=table), name=name):
        return [row.id for row in found]
    named = tx.rows(_BY_SOURCE, source=source, name=name, limit=MOST_SHOWN)
    if table == "events" and name == "last":
        named = tx.rows(_LAST)
    if named or len(name) < SHORTEST:
        return [row.id for row in named] if table == "events" else []
    query, end = _BY_SUFFIX.format(table=table), name.lower()
    return [row.id for row in tx.rows(query, length=len(end), name=end, limit=MOST_SHOWN)]
