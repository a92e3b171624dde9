"""Remarks say where a route's author may have meant another country, currency or end of a day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.mapping.expression import Expression, Failed, Missing
from app.mapping.rules import Route, Store
from app.message.recipient import Recipient, find_recipient
from app.model.event import Event
from app.sources import SOURCE
from app.values.instant import is_whole_day
from app.values.path import Path, look_up, write_path

_MONEY = re.compile(r"\|\s*money\b\s*(\(?)\s*[\"']?([A-Za-z]{3}\b[\"'])?")
_CURRENCIES = ("presentment_currency", "currency", "currency_code")


def remark_on_number(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield by which country of the event a number without a code was read, where that is not the store's."""
    found = find_recipient(event.payload, SOURCE.find_person(event.payload), store, route.recipient, route.country)
    if isinstance(found, Recipient) and found.named and found.country != store.country:
        yield f"the number was read as one of {found.country} (`{found.named}`)"


def remark_on_day(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield until when a message may be sent whose deadline is a whole day, where the store says when a day ends."""
    value = None if route.valid_until is None else route.valid_until.evaluate(event.payload)
    if route.valid_until is None or isinstance(value, Missing | Failed):
        return
    if store.day_ends and is_whole_day(value, store.timezone, store.day_ends):
        told = f"until {store.day_ends} in {store.timezone}"
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
    from app.mapping.formats import find_usual_currency  # noqa: PLC0415 - Babel, for the routes that use it

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
