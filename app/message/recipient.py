"""A message goes to the number that an event names, or its route, read in the country that stands nearest to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.parts import Constant, Source
from app.mapping.rules import Store
from app.message.country import Named, find_country, name_country
from app.model.delivery import Delivery, Reason
from app.model.event import Customer
from app.sources import SOURCE
from app.sources.base import Person
from app.values.path import Path, look_up, write_path
from app.values.phone import PhoneFault, is_international, read_phone

_SHORTEST_NUMBER = 8  # fewer digits are the end of many numbers
_NOT_DIGITS = re.compile(r"[^0-9]")


@dataclass(frozen=True, slots=True)
class Recipient:
    """The number as E.164, the country by which it was read, and where the event names that ("" for the store's)."""

    number: str
    country: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True)
class RawPhone:
    """A number as an event has it: under which name, and at which place, if at one."""

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
    found = _find_phone(payload, person, expression, store)
    if isinstance(found, PhoneFault):
        return found
    if is_international(found.value):
        number, named = read_phone(found.value, None, landlines=store.landlines), Named("", "")
    else:
        chosen = _choose_country(payload, found.place, store, country)
        named = Named("", "") if isinstance(chosen, PhoneFault) else chosen
        if isinstance(chosen, PhoneFault):
            number = chosen
        elif chosen.country is None:
            number = PhoneFault(f"cannot be read: `{chosen.place}` is not a country code such as IN or ind")
        else:
            number = read_phone(found.value, chosen.country, landlines=store.landlines)
    if isinstance(number, PhoneFault):
        return PhoneFault(f"the recipient (`{found.name}`) {number.detail}", number.reason)
    return Recipient(number, named.country or "", named.place)


def _choose_country(payload: Mapping[str, Any], place: Path, store: Store, source: Source | None) -> Named | PhoneFault:
    """Return the country of the route's `country:`, else the nearest in the event, else the store's."""
    if isinstance(source, Constant):
        return name_country(source.text, source.text)
    if source is not None:
        value = source.evaluate(payload)
        if isinstance(value, Failed) or (isinstance(value, Missing) and value.unreadable):
            return PhoneFault(f"cannot be read: its country (`{source.source}`) cannot be worked out")
        if not isinstance(value, Missing):
            return name_country(value, source.source)
    return find_country(payload, place) or Named("", store.country)


def _find_phone(
    payload: Mapping[str, Any], person: Person, expression: Expression | None, store: Store
) -> RawPhone | PhoneFault:
    """Return the phone number as it stands there; `expression` replaces the person's."""
    if expression is None:
        if person.number is None:
            return PhoneFault("the event names no mobile number", Reason.RECIPIENT_MISSING)
        return RawPhone(write_path(person.place), person.number, person.place)
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


def find_customer(payload: Mapping[str, Any], deliveries: Sequence[Delivery], store: Store) -> Customer:
    """Return whom an event is about. `deliveries`: those it led to, whose number need not be read twice."""
    person = SOURCE.find_person(payload)
    return Customer(_find_number(payload, person, deliveries, store), person.id)


def _find_number(payload: Mapping[str, Any], person: Person, deliveries: Sequence[Delivery], store: Store) -> str:
    if person.number is None:
        return ""
    # A route's own `recipient:` may be somebody else: a delivery speaks for the customer only if its number is the one
    # that the event names.
    digits = _NOT_DIGITS.sub("", str(person.number)).lstrip("0")
    if len(digits) >= _SHORTEST_NUMBER:
        for delivery in deliveries:
            if delivery.recipient.endswith(digits):
                return delivery.recipient
    recipient = find_recipient(payload, person, store)
    return "" if isinstance(recipient, PhoneFault) else recipient.number
