"""Countries as senders write them: ISO codes, English names, calling codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, SUPPORTED_REGIONS

# Codes of three letters that Babel still reads as those of the countries that came after.
_FORMER = frozenset({"ANT", "BUR", "DDR", "FXX", "NTZ", "SCG", "SUN", "TMP", "YMD", "YUG", "ZAR"})


def to_country(text: str) -> str | None:
    """Return the ISO 3166 alpha-2 code for "IN", "in", "IND" or "ind"; None where it is no country with phones."""
    code = text.strip().upper()
    if len(code) == 3 and code.isalpha() and code not in _FORMER:  # noqa: PLR2004 - ISO 3166 alpha-3
        code = next(iter(_list_aliases().get(code, ())), "")
    return code if code in SUPPORTED_REGIONS else None


@cache
def _list_aliases() -> Mapping[str, Sequence[str]]:
    from babel.core import get_global  # noqa: PLC0415 - of use for the few events that hold such a code

    return get_global("territory_aliases")


_DIAL_CODE = re.compile(r"(?:\+|00)? ?(?:(1)[ -]?[0-9]{3}|([1-9][0-9]{0,2}))")
_SIGNS = re.compile(r"[^a-z0-9]+")
_OTHER_NAMES = {  # beside those of CLDR, which Babel knows
    "america": "US", "britain": "GB", "burma": "MM", "czech republic": "CZ", "emirates": "AE", "england": "GB",
    "great britain": "GB", "holland": "NL", "hong kong": "HK", "hong kong sar": "HK", "ivory coast": "CI",
    "korea republic of": "KR", "ksa": "SA", "kingdom of saudi arabia": "SA", "macao": "MO", "macau": "MO",
    "myanmar": "MM", "palestine": "PS", "republic of korea": "KR", "russian federation": "RU", "scotland": "GB",
    "swaziland": "SZ", "turkey": "TR", "uae": "AE", "uk": "GB", "united states of america": "US", "viet nam": "VN",
    "wales": "GB",
}  # fmt: skip


def read_country(value: Any) -> str | None:
    """Return the ISO 3166 alpha-2 code for a code, an English name or a calling code; None where it is none.

    Where countries share a calling code it is the largest of them, by which the others' numbers are read as well.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if (found := _DIAL_CODE.fullmatch(str(value).strip())) is not None:
        first = COUNTRY_CODE_TO_REGION_CODE.get(int(found[1] or found[2]), ("001",))[0]
        return first if first != "001" else None  # 001: satellites and the like
    name = _fold(str(value))
    return to_country(str(value)) or _OTHER_NAMES.get(name) or _list_names().get(name)


@cache
def _list_names() -> Mapping[str, str]:
    from babel import Locale  # noqa: PLC0415 - of use for the few events that hold a country's name

    names = Locale("en").territories
    return {_fold(name): code for code, name in names.items() if code in SUPPORTED_REGIONS}


def _fold(name: str) -> str:
    """Return a name without case, accents and signs: "Türkiye" and "turkiye" are one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold().replace("&", " and ")
    return _SIGNS.sub(" ", plain).strip().removeprefix("the ")
