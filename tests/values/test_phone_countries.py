from __future__ import annotations

import pytest
from babel.core import get_global
from phonenumbers import SUPPORTED_REGIONS

from app.values.phone import to_country


@pytest.mark.parametrize(
    ("text", "country"),
    [("IN", "IN"), ("in", "IN"), (" ind ", "IN"), ("IND", "IN"), ("usa", "US"), ("kwt", "KW"), ("deu", "DE")],
)
def test_country_is_read(text: str, country: str) -> None:
    assert to_country(text) == country


@pytest.mark.parametrize("text", ["", "India", "XX", "xyz", "91", "356", "SUN", "ZZ", "001", "इं"])
def test_what_is_no_country_is_not_guessed(text: str) -> None:
    assert to_country(text) is None


def test_table_agrees_with_babel_and_lacks_no_country_with_phones() -> None:
    aliases = get_global("territory_aliases")
    found = {code: to_country(code) for code in aliases if len(code) == 3 and code.isalpha()}
    known = {code: country for code, country in found.items() if country is not None}
    assert set(known.values()) == set(SUPPORTED_REGIONS)
    assert all(aliases[code] == [country] for code, country in known.items())
