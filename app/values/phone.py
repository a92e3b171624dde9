"""Phone numbers: read to E.164 where there is exactly one reading, and never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.model.delivery import Reason
from app.values.text import clean_text, is_missing

if TYPE_CHECKING:
    from app.values.numbering import Line

# ASCII digits only: to Python "٣" and "²" are digits, too. Two numbers in one field need a comma or a slash.
_WRITTEN = re.compile(r"\(?\+?[0-9][0-9 ().\-\u2010-\u2013]*")
_NOT_DIGITS = re.compile(r"[^0-9]")
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_MOST_DIGITS = 15  # ITU-T E.164 §6.1
_LAST_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """Why there is no number to send to; `detail` never holds the number."""

    detail: str
    reason: Reason = Reason.RECIPIENT_INVALID


def read_phone(raw: Any, country: str | None) -> str | PhoneFault:
    """Return the mobile number `raw` as E.164 (`+919800000001`).

    `country` (ISO 3166 alpha-2) reads a number without a country code; None where it is not known. A number
    that can be read in two ways is refused, as is one that is certainly no mobile.
    """
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return PhoneFault("is not written as a phone number")
    text = clean_text(raw) if isinstance(raw, str) else str(raw)
    if is_missing(text):
        return PhoneFault("is missing", Reason.RECIPIENT_MISSING)
    if _WRITTEN.fullmatch(text) is None:
        return PhoneFault("holds something beside digits, blanks, brackets, dots, hyphens and one leading +")
    digits = _NOT_DIGITS.sub("", text)
    if "+" not in text and not digits.startswith("00"):
        return _read_national(digits, country)
    digits = digits if "+" in text else digits[2:]
    if len(digits) > _MOST_DIGITS:
        return PhoneFault("has more than 15 digits")
    return _choose({_open_plans().read_number(f"+{digits}", None)}, "is not a valid number with a country code")


def _read_national(digits: str, country: str | None) -> str | PhoneFault:
    """Read digits without a plus sign: as a number of the country, or with its calling code in front."""
    if country is None:
        return PhoneFault("has no country code, and its country is not known")
    if len(digits) > _MOST_DIGITS:
        return PhoneFault("has more than 15 digits")
    plans = _open_plans()
    readings = {plans.read_number(digits, country)}
    code = plans.calling_code(country)
    for prefix in (code, f"0{code}"):  # 91 98000 00001 and, as many write it in India, 091 98000 00001
        if digits.startswith(prefix):
            readings.add(plans.read_number("+" + digits[len(prefix) - len(code) :], None))
    return _choose(readings, f"is not a valid number in {country}")


def _choose(readings: set[tuple[str, Line]], invalid: str) -> str | PhoneFault:
    """Return the one valid reading. Not the likeliest of two: the other may be somebody else's number."""
    valid = [reading for reading in readings if reading[1] != "invalid"]
    if not valid:
        return PhoneFault(invalid)
    if len(valid) > 1:
        return PhoneFault("can be read with and without a country code; write it with +")
    number, line = valid[0]
    if line == "landline":
        return PhoneFault("is a landline, not a mobile")
    return number if line == "mobile" else PhoneFault("is not a mobile number")


def mask_phone(number: str) -> str:
    """Return an E.164 number with its country code and last four digits ("+91******0001"); else only stars."""
    if not number:
        return ""
    if _E164.fullmatch(number) is None:
        return "***"
    code = len(split_phone(number)[0]) + 1
    return number[:code] + "*" * (len(number) - code - _LAST_SHOWN) + number[-_LAST_SHOWN:]


def split_phone(number: str) -> tuple[str, str]:
    """Return an E.164 number's calling code ("" where nobody has it) and the digits after it."""
    is_calling_code = _open_plans().is_calling_code
    code = next((n for n in (2, 3, 4) if is_calling_code(number[1:n])), 1)
    return number[1:code], number[code:]


def _open_plans() -> ModuleType:
    # Loaded when the first number is read (relay.py sees to it as soon as the port is open), not at every start.
    from app.values import numbering  # noqa: PLC0415

    return numbering


# Babel and phonenumbers know these too, but a start would pay 30 ms and 2 MB for them. Tests compare them.
_PAIRS = """
    ABWAW AFGAF AGOAO AIAAI ALAAX ALBAL ANDAD AREAE ARGAR ARMAM ASCAC ASMAS ATGAG AUSAU AUTAT AZEAZ BDIBI BELBE
    BENBJ BESBQ BFABF BGDBD BGRBG BHRBH BHSBS BIHBA BLMBL BLRBY BLZBZ BMUBM BOLBO BRABR BRBBB BRNBN BTNBT BWABW
    CAFCF CANCA CCKCC CHECH CHLCL CHNCN CIVCI CMRCM CODCD COGCG COKCK COLCO COMKM CPVCV CRICR CUBCU CUWCW CXRCX
    CYMKY CYPCY CZECZ DEUDE DJIDJ DMADM DNKDK DOMDO DZADZ ECUEC EGYEG ERIER ESHEH ESPES ESTEE ETHET FINFI FJIFJ
    FLKFK FRAFR FROFO FSMFM GABGA GBRGB GEOGE GGYGG GHAGH GIBGI GINGN GLPGP GMBGM GNBGW GNQGQ GRCGR GRDGD GRLGL
    GTMGT GUFGF GUMGU GUYGY HKGHK HNDHN HRVHR HTIHT HUNHU IDNID IMNIM INDIN IOTIO IRLIE IRNIR IRQIQ ISLIS ISRIL
    ITAIT JAMJM JEYJE JORJO JPNJP KAZKZ KENKE KGZKG KHMKH KIRKI KNAKN KORKR KWTKW LAOLA LBNLB LBRLR LBYLY LCALC
    LIELI LKALK LSOLS LTULT LUXLU LVALV MACMO MAFMF MARMA MCOMC MDAMD MDGMG MDVMV MEXMX MHLMH MKDMK MLIML MLTMT
    MMRMM MNEME MNGMN MNPMP MOZMZ MRTMR MSRMS MTQMQ MUSMU MWIMW MYSMY MYTYT NAMNA NCLNC NERNE NFKNF NGANG NICNI
    NIUNU NLDNL NORNO NPLNP NRUNR NZLNZ OMNOM PAKPK PANPA PERPE PHLPH PLWPW PNGPG POLPL PRIPR PRKKP PRTPT PRYPY
    PSEPS PYFPF QATQA REURE ROURO RUSRU RWARW SAUSA SDNSD SENSN SGPSG SHNSH SJMSJ SLBSB SLESL SLVSV SMRSM SOMSO
    SPMPM SRBRS SSDSS STPST SURSR SVKSK SVNSI SWESE SWZSZ SXMSX SYCSC SYRSY TAATA TCATC TCDTD TGOTG THATH TJKTJ
    TKLTK TKMTM TLSTL TONTO TTOTT TUNTN TURTR TUVTV TWNTW TZATZ UGAUG UKRUA URYUY USAUS UZBUZ VATVA VCTVC VENVE
    VGBVG VIRVI VNMVN VUTVU WLFWF WSMWS XKKXK YEMYE ZAFZA ZMBZM ZWEZW
"""
_FROM_THREE = {pair[:3]: pair[3:] for pair in _PAIRS.split()}
_COUNTRIES = frozenset(_FROM_THREE.values())


def to_country(text: str) -> str | None:
    """Return the ISO 3166 alpha-2 code for "IN", "in", "IND" or "ind"; None where it is no country with phones."""
    code = text.strip().upper()
    code = _FROM_THREE.get(code, code)
    return code if code in _COUNTRIES else None
