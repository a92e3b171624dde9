"""Countries as senders write them: ISO codes, English names, calling codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any

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
        from app.values.numbering import main_country  # noqa: PLC0415 - loaded with the first number, see phone.py

        return main_country(int(found[1] or found[2]))
    value = str(value)
    return to_country(value) or _find_name(_fold(value))


def _find_name(name: str) -> str | None:
    return _OTHER_NAMES.get(name) or _list_names().get(name)


@cache
def _list_names() -> Mapping[str, str]:
    from babel import Locale  # noqa: PLC0415 - of use for the few events that hold a country's name

    names = Locale("en").territories
    return {_fold(name): code for code, name in names.items() if code in _COUNTRIES}


def _fold(name: str) -> str:
    """Return a name without case, accents and signs: "Türkiye" and "turkiye" are one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold().replace("&", " and ")
    return _SIGNS.sub(" ", plain).strip().removeprefix("the ")
