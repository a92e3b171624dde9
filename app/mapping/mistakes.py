"""Mistakes in an expression are named with their cure: it cannot be read, or it can be, and is never meant."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.mapping import Path
from app.mapping.expression import Expression, Failed, Missing
from app.mapping.filters import DATE_LENGTHS
from app.mapping.template import LIMITS
from app.values.instant import parse_instant
from app.values.text import LINK_LIMIT, VALUE_LIMIT, clean_text, is_link, write_scalar

_QUOTED_TEXTS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_CUT = "in YAML, ` #` and a comma inside [ ] end a value: put the whole of it in quotes"
_FIXED_TEXT = re.compile(r"[^\W\d]\w*[.,!]?(?: [\w.,!&-]+)+")
_ONLY_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_HYPHENATED = re.compile(r"[^\W\d]\w*-[^\W\d]\w*")
# Looked for in this order, outside of quoted texts: (pattern, what is wrong, the cure).
_FOREIGN = (
    ("[\u2018-\u201f]", "typographic quotes do not mark a text", 'write straight ones: "Gold"'),
    ("[\"']", "a quote is not closed", _CUT),
    (r"\$", "`$` does not stand before a property", "write its name alone: user_name"),
    ("&&", "`&&` is not known here", "write `and`"),
    (r"\|\|", "`||` is not known here", 'write `or`; for what may be missing: user_name | default("there")'),
    (r"\?\?", "`??` is not known here", 'for what may be missing: user_name | default("there")'),
    (r"\?", "`… ? … : …` is not known here", "write `a if b else c`"),
    ("[=!]==", "`===` is not known here", "compare with == or !="),
    ("<>", "`<>` is not known here", "compare with !="),
    ("=[<>]", "`=>` is not known here", "compare with >= or <="),
    (r"!(?=\s*[\w(])", "`!` is not known here", "write `not`"),
    (r"\|\s*\w+\s*:", "the argument of a filter stands in brackets", 'write user_name | default("there")'),
    ("(?<![=!<>])=(?!=)", "the expression should end before `=`", "compare with =="),
    (r"\b(?:AND|OR|NOT|IN|IS)\b", "`and`, `or`, `not`, `in` and `is` are written in small letters", ""),
    (r"\bcontains\b", "`contains` is not known here", 'write "VIP" in user_tags'),
)
# What means something else in other tools (moment.js, PHP, .NET, Excel), looked for in this order, outside of quotes.
# https://babel.pocoo.org/en/latest/dates.html#date-fields
_PATTERNS = (
    ("[dD]o", "`o` means nothing here, and no day is written 1st; write `d`"),
    ("D", "`D` is the day of the year; write `d`"),
    ("Y", "`Y` is the year of the week; write `y`"),
    ("ddd", "the name of the day is `EEE` or `EEEE`"),
    ("[jS]", "a date is not written as in PHP; write for example d MMM y"),
    ("A|tt", "AM or PM is `a`: h:mm a"),
    ("[dy][-/. ]*m|m[-/.]+[dy]", "`m` is the minute; the month is `M`: dd/MM/y"),
    ("[hHkK][^A-Za-z]*M(?!.*[mdE])|[hHkK]+:M", "`M` is the month; the minute is `m`: HH:mm"),
    ("^[^hHkK]*m[^hHkK]*$", "`m` is the minute; the month is `M`: dd/MM/y"),
    ("^[^aA]*[hK][^aA]*$", "`h` alone is morning or evening; write `H`, or add `a`: h:mm a"),
    ("T", "a letter that is to be shown stands in single quotes: y-MM-dd'T'HH:mm"),
)
_QUOTED = re.compile("'[^']*'")
_SAMPLE = datetime(2026, 12, 31, 18, 29, 59, tzinfo=ZoneInfo("UTC"))
_INSTANTS = frozenset({"valid_until", "limited_time_offer"})
_DATE = re.compile(r"(?<![\w./-])(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[-/]\d{1,2}[-/]\d{2,4})(?![\w./-])")
_PLACE = re.compile(r"[^\W\d][\w.]*(?:/[\w.]+)+")
_FILE = re.compile(r"[^\W\d]\w*\.(?:pdf|png|jpe?g|gif|webp|mp4|3gp|mov|txt|csv|docx?|xlsx?|pptx?|zip)", re.IGNORECASE)
_DEFAULT = re.compile(r"\|\s*d(?:efault)?\(\s*([^\W\d_]+)\s*\)\s*$")

_MET = re.compile(r"(?:got|unexpected) '(.+)'")  # Jinja's word for what it cannot read
_BARE_PATTERN = re.compile(
    r"\|\s*date\(\s*(?:format\s*=\s*)?"
    r"([dDMLyYEHhmsa]{1,4}(?:[-/., :]+[dDMLyYEHhmsao]{1,4})*|short|medium|long|full)\s*\)"
)
_BEFORE_NUMBER = re.compile(r"(?<![\w.])([^\W\d][\w.]*)\s*(?:[<>]=?|[=!]=)\s*-?\d")
_AFTER_NUMBER = re.compile(r"(?<![\w.])-?\d[\d.]*\s*(?:[<>]=?|[=!]=)\s*([^\W\d][\w.]*)(?!\s*\||[\w.])")

Fault = tuple[str, str]
"""The text of a fault, and its cure."""


def explain_syntax(source: str, said: str) -> str:
    """Return what is wrong with an expression that cannot be read, with its cure; `said` where nothing is known."""
    if "{{" in source or "{%" in source:
        return "{{ }} and {% %} do not belong here; write the expression without them: user_name | upper"
    bare = _QUOTED_TEXTS.sub('""', source)
    for pattern, message, hint in _FOREIGN:
        if re.search(pattern, bare.replace('""', "")):
            return f"{message}; {hint}" if hint else message
    for opening, closing in ("()", "[]"):
        if bare.count(opening) != bare.count(closing):
            return f"a bracket {opening} {closing} lacks its other half; {_CUT}"
    if source.strip().startswith(("http://", "https://")):
        return "an address is no expression; a fixed one is written {text: https://…}"
    if _ONLY_DATE.fullmatch(source.strip()):
        return f"`{source.strip()}` is no expression; a fixed date is written '\"{source.strip()}\"'"
    if _FIXED_TEXT.fullmatch(source.strip()):
        return f"`{source.strip()}` is not the name of a property; a fixed text is written {{text: …}}"
    return _translate(said)


def _translate(said: str) -> str:
    """Return Jinja's message as somebody would put it who knows no parser."""
    if "end of" in said:
        return "the expression ends too early"
    found = _MET.search(said)
    cure = "a text stands in quotes, and between two values an operator such as ~, or a comma"
    return f"`{found[1]}` cannot stand where it does; {cure}" if found else said


def find_bare_pattern(source: str) -> str | None:
    """Return what is wrong with `date(d MMM)`, which would be read as names or not at all; None if nothing is."""
    found = _BARE_PATTERN.search(source)
    return None if found is None else f'the pattern of a date stands in quotes: date("{found[1]}")'


def find_text_comparison(source: str, known: Collection[str]) -> str | None:
    """Return the known property that is compared with a number as it is; None if there is none such."""
    bare = _QUOTED_TEXTS.sub('""', source)
    before = (found[1] for found in _BEFORE_NUMBER.finditer(bare) if not bare[: found.start()].rstrip().endswith("|"))
    after = (found[1] for found in _AFTER_NUMBER.finditer(bare))
    return next((name for name in (*before, *after) if name in known), None)


def find_hyphen(source: str) -> str | None:
    """Return what is wrong with `product-name`, which would be read as a subtraction; None if nothing is."""
    found = _HYPHENATED.search(_QUOTED_TEXTS.sub('""', source))
    if found is None:
        return None
    before, _, after = found[0].partition("-")
    return (
        f"`{found[0]}` would be {before} minus {after}; a minus has blanks around it, "
        f'and a key with a hyphen is written in brackets: product["{found[0]}"]'
    )


def find_constant_fault(key: str, text: str) -> Fault | None:
    """Return what is wrong with a fixed text; `key`: what it fills."""
    shown = clean_text(text)
    limit = LINK_LIMIT if is_link(shown) or key == "url" else LIMITS.get(key, VALUE_LIMIT)
    if not shown:
        return "a fixed text cannot be empty", "write the text, or name a property"
    if "{{" in shown:
        return "{{ }} in a fixed text is sent as it stands", 'write an expression instead: "Dear " ~ user_name'
    if len(shown) > limit:
        return f"this text has {len(shown)} characters, and at most {limit} are sent", "shorten it"
    return None


def find_literal_fault(path: Path, source: Expression, timezone: str) -> Fault | None:
    """Return what is wrong with an expression that reads nothing of the event."""
    value, written = source.evaluate({}), source.source.strip()
    if path[-1] in _INSTANTS:
        if parse_instant(value, timezone, end_of_day=True) is not None:
            return None
        message = f"`{written}` is not a date: nothing would ever be sent"
        return message, "name a property, such as expire; a fixed date has two pairs of quotes: '\"2026-12-31\"'"
    if path[-1] in {"when", "recipient", "dedup_by"}:  # checks.py knows better what is wrong with these
        return None
    cure = f"a fixed text is written {{text: {written}}}"
    if isinstance(value, Missing | Failed):
        return f"`{written}` comes to nothing, whatever the event holds", cure
    if not isinstance(value, str) and write_scalar(value) != written:
        return f"`{written}` is arithmetic: every customer would read the same {write_scalar(value)}", cure
    return None


def find_name_fault(source: Expression, known: Collection[str]) -> Fault | None:
    """Return what shows that a name was meant as something else; `known`: the names that events may well hold."""
    bare, written = _QUOTED_TEXTS.sub('""', source.source), source.source.strip()
    if found := _DATE.search(bare):
        return f"`{found[0]}` is arithmetic, not a date", f'put it in quotes: "{found[0]}"'
    if _PLACE.fullmatch(written) and source.names.isdisjoint(known):
        cure = f"a fixed text is written {{text: {written}}}; a division has blanks around its /"
        return f"`{written}` would be a division", cure
    if _FILE.fullmatch(written) and written not in known:
        return f"`{written}` is read as a property of the event", f"a fixed text is written {{text: {written}}}"
    if (found := _DEFAULT.search(bare)) and found[1] not in known:
        message = f'"{found[1]}" is read as a property of the event, and may be missing, too'
        return message, f'a fixed text stands in quotes: default("{found[1]}")'
    return None


def find_pattern_fault(pattern: Any) -> str | None:
    """Return what is wrong with a pattern for `date`, None if nothing is."""
    if pattern in DATE_LENGTHS:
        return None
    if not isinstance(pattern, str) or "%" in pattern:
        return 'a date is written with a pattern such as "d MMM y", or "short", "medium", "long", "full"'
    bare = _QUOTED.sub("", pattern)
    for mistaken, cure in _PATTERNS:
        if re.search(mistaken, bare):
            return cure
    from babel import Locale  # noqa: PLC0415 - of use for the few texts with dates
    from babel.dates import parse_pattern, tokenize_pattern  # noqa: PLC0415 - as above

    parts = tokenize_pattern(bare)
    texts = "".join(str(part) for kind, part in parts if kind == "chars")
    stray = {sign for sign in texts if sign.isascii() and sign.isalpha()}
    try:
        parse_pattern(pattern).apply(_SAMPLE, Locale("en"))
    except (ValueError, KeyError, AttributeError):
        stray.add("")
    if stray:
        named = f"`{max(stray)}`, which is no field" if max(stray) else "an unknown letter"
        return f"the date pattern holds {named}; write for example \"d MMM y\", and words in single quotes: d 'of' MMM"
    has_field = any(kind == "field" for kind, _ in parts)
    return None if has_field else 'the date pattern holds no field; write for example "d MMM y"'
