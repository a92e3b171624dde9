"""A message goes to the number that an event names, or its route, read in the country that stands nearest to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.fields import Constant, Source
from app.model.delivery import Delivery, Reason
from app.model.event import Customer, Event, Person
from app.model.value import dataclass
from app.sources import SOURCE
from app.values.phone import PhoneFault, have_one_code, is_international, read_country, read_phone, read_plain
from app.values.text import Path, look_into, look_up, write_path

if TYPE_CHECKING:
    from app.mapping.rules import Store

_SHORTEST_NUMBER = 8  # fewer digits are the end of many numbers
_NOT_DIGITS = re.compile(r"[^0-9]")
# As senders name it: Nector, Shopify, WooCommerce, address books. Each also in camelCase and with hyphens.
_BARE = ("country", "country_code", "country_name", "country_iso", "country_iso2", "country_iso3", "country_iso_code")
_OWNERS = ("user", "customer", "lead", "contact", "phone", "mobile", "whatsapp", "billing", "shipping")
_OTHERS = (
    *("iso_country", "iso_country_code", "country_code_v2", "country_dial_code", "country_dialing_code", "dial_code"),
    *("dialing_code", "calling_code", "country_calling_code", "phone_code", "phone_prefix", "mobile_code", "isd_code"),
)
_INSIDE = ("code", "iso", "iso2", "iso3", "iso_code", "alpha2", "alpha_2", "name", "dial_code", "calling_code")
_HOLDERS = (
    *("customer", "lead", "user", "contact", "order", "default_address", "address", "billing", "billing_address"),
    *("shipping", "shipping_address"),
)


def _spell(names: Iterable[str]) -> frozenset[str]:
    spellings: set[str] = set()
    for name in names:
        first, *rest = name.split("_")
        spellings |= {name, name.replace("_", "-"), first + "".join(word.capitalize() for word in rest)}
    return frozenset(spellings)


_NAMES = _spell((*_BARE, *_OTHERS, *(f"{owner}_{name}" for owner in _OWNERS for name in _BARE)))
_NAMES_INSIDE = _spell(_INSIDE)
_HOLDER_NAMES = _spell(_HOLDERS)
_TELLING = _NAMES | _HOLDER_NAMES


@dataclass(frozen=True, slots=True)
class Named:
    """A country that an event names: where, and which; `country` is None where it cannot be read."""

    place: str
    country: str | None
    is_code: bool = False  # a calling code, which several countries may share


_ABROAD = Named("", "")  # a number with its country code needs none to be read


@dataclass(frozen=True, slots=True)
class Recipient:
    """The number as E.164, the country by which it was read, and where the event names that ("" for the store's)."""

    number: str
    country: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True)
class RawPhone:
    """A number as an event has it, at which place, if at one; `name` is the expression that leads there, if any."""

    name: str
    value: Any
    place: Path = ("",)


def find_recipient(
    payload: Mapping[str, Any],
    person: Person,
    store: Store,
    expression: Expression | None = None,
    country: Source | None = None,
) -> Recipient | PhoneFault:
    """Return the recipient, or why there is none. `expression` and `country` replace what the event names itself."""
    if expression is not None:
        found = _find_phone(payload, expression, store)
    elif person.number is None:
        return PhoneFault("the event names no mobile number", Reason.RECIPIENT_MISSING)
    elif country is None and (lone := _read_lone(payload, person.number, store)) is not None:
        return Recipient(lone, store.country)
    else:
        found = RawPhone("", person.number, person.place)
    if isinstance(found, PhoneFault):
        return found
    named = _ABROAD if is_international(found.value) else _choose_country(payload, found.place, store, country)
    if isinstance(named, PhoneFault):
        return _name_fault(found, named)
    if named.country is None:
        what = f"cannot be read: `{named.place}` is not a country code such as IN or ind"
        return _name_fault(found, PhoneFault(what))
    number = read_phone(found.value, named.country or None, landlines=store.landlines)
    if isinstance(number, PhoneFault):
        return _name_fault(found, number)
    return Recipient(number, named.country, named.place)


def _read_lone(payload: Mapping[str, Any], raw: Any, store: Store) -> str | None:
    """Return a plain number of the store's country where the event says of no country, as most; None for any other."""
    is_lone = type(raw) is str and raw.isdigit() and _TELLING.isdisjoint(payload)
    return read_plain(raw, store.country) if is_lone else None


def _name_fault(found: RawPhone, fault: PhoneFault) -> PhoneFault:
    return PhoneFault(f"the recipient (`{found.name or write_path(found.place)}`) {fault.detail}", fault.reason)


def _choose_country(payload: Mapping[str, Any], place: Path, store: Store, source: Source | None) -> Named | PhoneFault:
    """Return the country of the route's `country:`, else the nearest in the event, else the store's."""
    if isinstance(source, Constant):
        return _name_country(source.text, source.text)
    if source is not None:
        value = source.evaluate(payload)
        if isinstance(value, Failed) or (isinstance(value, Missing) and value.unreadable):
            return PhoneFault(f"cannot be read: its country (`{source.source}`) cannot be worked out")
        if not isinstance(value, Missing):
            return _name_country(value, source.source)
    return _find_country(payload, place) or Named("", store.country)


def _find_phone(payload: Mapping[str, Any], expression: Expression, store: Store) -> RawPhone | PhoneFault:
    """Return the phone number to which an expression comes, as it stands in the event."""
    raw = expression.evaluate(payload)
    if isinstance(raw, Failed):
        return PhoneFault(f"the recipient cannot be worked out: {raw.detail}", Reason.EXPRESSION_FAILED)
    if isinstance(raw, Missing):
        reason = Reason.RECIPIENT_INVALID if raw.unreadable else Reason.RECIPIENT_MISSING
        return PhoneFault(f"the recipient {raw}", reason)
    return _place_value(payload, expression, raw, store)


def _place_value(payload: Mapping[str, Any], expression: Expression, raw: Any, store: Store) -> RawPhone:
    """Return where an expression's value stands: the first of its paths with that value, else with any.

    What `| phone` has read by the store's country stands there as it was before: the event may name another.
    """
    there = [(path, value) for path in expression.paths if (value := look_up(payload, path)) is not None]
    for path, value in there:
        if value == raw:
            return RawPhone(expression.source, raw, path)
    for path, value in there:
        if "phone(" not in expression.source and read_phone(value, store.country, landlines=store.landlines) == raw:
            return RawPhone(expression.source, value, path)
    return RawPhone(expression.source, raw, there[0][0] if there else ("",))


def _find_country(payload: Mapping[str, Any], place: Path) -> Named | PhoneFault | None:
    """Return the country named nearest to `place`, None if there is none; a fault if two equally near contradict."""
    for depth in range(len(place) - 1, -1, -1):
        owner = look_up(payload, place[:depth])
        found = _search(owner, place[:depth]) if isinstance(owner, Mapping) else []
        if found:
            return _agree(found)
    return None


def _name_country(value: Any, place: str) -> Named:
    """Return the country that a value names."""
    return Named(place, read_country(value), is_code=str(value).strip(" +").isdigit())


def _search(owner: Mapping[str, Any], prefix: Path) -> list[Named]:
    """Return the countries of an object; where it has none itself, those of the addresses and people in it."""
    own = [] if _NAMES.isdisjoint(owner) else list(_read_own(owner, prefix, _NAMES))
    if own or _HOLDER_NAMES.isdisjoint(owner):
        return own
    inner = [(key, owner[key]) for key in owner if key in _HOLDER_NAMES and isinstance(owner[key], Mapping)]
    return [named for key, holder in inner for named in _search(holder, (*prefix, key))]


def _read_own(owner: Mapping[str, Any], prefix: Path, names: frozenset[str]) -> Iterator[Named]:
    for key in owner:
        value = look_into(owner, key) if key in names else None
        if isinstance(value, Mapping):
            yield from _read_own(value, (*prefix, key), _NAMES_INSIDE)
        elif value is not None:
            yield _name_country(value, write_path((*prefix, key)))


def _agree(found: list[Named]) -> Named | PhoneFault:
    readable = sorted((named for named in found if named.country is not None), key=lambda named: named.is_code)
    if not readable:
        return found[0]
    first = readable[0]
    other = next((named for named in readable if not have_one_code(first.country or "", named.country or "")), None)
    if other is None:
        return first
    return PhoneFault(f"cannot be read: `{first.place}` and `{other.place}` name different countries")


# -- the customer ---------------------------------------------------------------------------------


def read_person(event: Event) -> Person:
    """Return whom an event names, looked up once where its intake did so."""
    return event.person or SOURCE.find_person(event.payload)


def find_customer(event: Event, deliveries: Sequence[Delivery], store: Store) -> Customer:
    """Return whom an event is about. `deliveries`: those it led to, whose number need not be read twice."""
    person = read_person(event)
    if person.number is None:
        return Customer("", person.id)
    # A route's own `recipient:` may be somebody else: a delivery speaks for the customer only if its number is the one
    # that the event names.
    digits = _NOT_DIGITS.sub("", str(person.number)).lstrip("0")
    if len(digits) >= _SHORTEST_NUMBER:
        for delivery in deliveries:
            if delivery.recipient.endswith(digits):
                return Customer(delivery.recipient, person.id)
    recipient = find_recipient(event.payload, person, store)
    return Customer("" if isinstance(recipient, PhoneFault) else recipient.number, person.id)
