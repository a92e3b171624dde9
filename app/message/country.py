"""A number without a country code is of the country that stands nearest to it in the event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.values.country import read_country
from app.values.path import Path, look_into, look_up, write_path
from app.values.phone import PhoneFault, have_one_code

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


def _spell(names: Iterator[str]) -> frozenset[str]:
    spellings: set[str] = set()
    for name in names:
        first, *rest = name.split("_")
        spellings |= {name, name.replace("_", "-"), first + "".join(word.capitalize() for word in rest)}
    return frozenset(spellings)


_NAMES = _spell(iter((*_BARE, *_OTHERS, *(f"{owner}_{name}" for owner in _OWNERS for name in _BARE))))
_NAMES_INSIDE = _spell(iter(_INSIDE))
_HOLDER_NAMES = _spell(iter(_HOLDERS))


@dataclass(frozen=True, slots=True)
class Named:
    """A country that an event names: where, and which; `country` is None where it cannot be read."""

    place: str
    country: str | None
    is_code: bool = False  # a calling code, which several countries may share


def find_country(payload: Mapping[str, Any], place: Path) -> Named | PhoneFault | None:
    """Return the country named nearest to `place`, None if there is none; a fault if two equally near contradict."""
    for depth in range(len(place) - 1, -1, -1):
        owner = look_up(payload, place[:depth])
        found = _search(owner, place[:depth]) if isinstance(owner, Mapping) else []
        if found:
            return _agree(found)
    return None


def name_country(value: Any, place: str) -> Named:
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
            yield name_country(value, write_path((*prefix, key)))


def _agree(found: list[Named]) -> Named | PhoneFault:
    readable = sorted((named for named in found if named.country is not None), key=lambda named: named.is_code)
    if not readable:
        return found[0]
    first = readable[0]
    other = next((named for named in readable if not have_one_code(first.country or "", named.country or "")), None)
    if other is None:
        return first
    return PhoneFault(f"cannot be read: `{first.place}` and `{other.place}` name different countries")
