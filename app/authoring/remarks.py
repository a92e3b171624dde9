"""Remarks say where a route's author may have meant another country, currency or end of a day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.filters import find_usual_currency
from app.mapping.rules import Route, Store
from app.message.recipient import Recipient, find_recipient, read_person
from app.model.event import Event
from app.values.instant import is_whole_day
from app.values.text import Path, look_up, write_path

_MONEY = re.compile(r"\|\s*money\b\s*(\(?)\s*[\"']?([A-Za-z]{3}\b[\"'])?")
_CURRENCIES = ("presentment_currency", "currency", "currency_code")


def describe_reading(route: Route, event: Event, store: Store) -> str:
    """Return by which country the recipient's number was read; "" where there is none."""
    found = find_recipient(event.payload, read_person(event), store, route.recipient.number, route.recipient.country)
    if not isinstance(found, Recipient):
        return ""
    return f"as one of {found.country} (`{found.named or 'store.country'}`)" if found.country else "by its own code"


def remark_on_day(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield until when a message may be sent whose deadline is a whole day."""
    value = None if route.valid_until is None else route.valid_until.evaluate(event.payload)
    if route.valid_until is None or isinstance(value, Missing | Failed):
        return
    if is_whole_day(value, store.timezone, store.day_ends):
        told = f"until {store.day_ends or '24:00'} in {store.timezone}"
        yield f"valid_until (`{route.valid_until.source}`) is a whole day: {told}"


def remark_on_money(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield where `money` writes another currency than the one that stands beside the sum."""
    for number, item in enumerate(route.variables, 1):
        if isinstance(item.source, Expression) and (found := _MONEY.search(item.source.source)) is not None:
            shown = _name_shown(found, event.payload, store)
            named = _find_currency(event.payload, item.source.paths)
            if shown and named and named[1] != shown:
                place, code = named
                told = f"variable {item.name or number} shows {shown}, and the event's `{place}` names {code}"
                yield f"{told}; write money({place})"


def _name_shown(found: re.Match[str], payload: Mapping[str, Any], store: Store) -> str:
    """Return the currency that `money` writes; "" where its author names a property."""
    if found[2]:
        return found[2][:3].upper()
    if found[1]:
        return ""
    named = look_up(payload, ("business_currency_code",))
    if named is not None:
        return str(named).strip().upper()
    return find_usual_currency(store.country)


def _find_currency(payload: Mapping[str, Any], paths: tuple[Path, ...]) -> tuple[str, str] | None:
    """Return the nearest currency's place and code."""
    owners = sorted({path[:depth] for path in paths for depth in range(len(path))}, key=len, reverse=True)
    for owner in owners:
        for name in _CURRENCIES:
            code = look_up(payload, (*owner, name))
            if isinstance(code, str) and re.fullmatch("[A-Za-z]{3}", code.strip()):
                return write_path((*owner, name)), code.strip().upper()
    return None
