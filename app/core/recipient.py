"""Who the message goes to: the first phone number an event names, read in the country it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.countries import to_country
from app.core.expressions import Expression, Failed, Missing
from app.core.models import Reason
from app.core.paths import look_up, write_path
from app.core.phone import PhoneFault, read_phone

# Both shapes of body a Nector webhook may have (documented flat names; a nested person, as handlers read it):
# https://help.nector.io/en/article/event-details-sent-to-external-integrations-frcz1t
_PHONE_PATHS = (("user_mobile",), ("mobile",), ("customer", "mobile"), ("lead", "mobile"))
_COUNTRY_PATHS = (("customer", "country"), ("country",), ("user_country",), ("lead", "country"))


def find_recipient(payload: Mapping[str, Any], store_country: str, expression: Expression | None) -> str | PhoneFault:
    """Return the recipient as E.164, or why there is none; `expression` replaces the usual places."""
    found = find_phone(payload, expression)
    if isinstance(found, PhoneFault):
        return found
    name, raw = found
    country, written = _find_country(payload, store_country)
    number = read_phone(raw, country)
    if not isinstance(number, PhoneFault):
        return number
    if country is None:
        return PhoneFault(
            f"the recipient (`{name}`) cannot be read: `{written}` is not a country code such as IN or ind"
        )
    return PhoneFault(f"the recipient (`{name}`) {number.detail}", number.reason)


def find_phone(payload: Mapping[str, Any], expression: Expression | None) -> tuple[str, Any] | PhoneFault:
    """Return the name and the raw value of the phone number; `expression` replaces the usual places."""
    if expression is None:
        for path in _PHONE_PATHS:
            raw = look_up(payload, path)
            if raw is not None:
                return write_path(path), raw
        return PhoneFault("the event names no mobile number", Reason.RECIPIENT_MISSING)
    raw = expression.evaluate(payload)
    if isinstance(raw, Failed):
        return PhoneFault(f"the recipient cannot be worked out: {raw.detail}", Reason.EXPRESSION_FAILED)
    if isinstance(raw, Missing):
        reason = Reason.RECIPIENT_INVALID if raw.unreadable else Reason.RECIPIENT_MISSING
        return PhoneFault(f"the recipient {raw}", reason)
    return expression.source, raw


def _find_country(payload: Mapping[str, Any], store_country: str) -> tuple[str | None, str]:
    """Return the country to read a national number in, None where the event's is not known, and where it stands."""
    for path in _COUNTRY_PATHS:
        value = look_up(payload, path)
        if value is not None:
            return (to_country(value) if isinstance(value, str) else None), ".".join(path)
    return store_country, "store.country"
